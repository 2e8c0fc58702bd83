"""Reports what a linear map made of a model's points: figures for JSON and the terminal, and a page with faces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.evaluation import metrics
from fiducial.geometry import Size
from fiducial.motion.linear_map import MEAN_SHAPE, MODEL, RANDOM, LinearMapEvaluation, Scored, Seen
from fiducial.report import charts, pictures, sheets
from fiducial.report.galleries import descending
from fiducial.report.page import (
    Charts,
    Fact,
    Gallery,
    Page,
    Picture,
    Section,
    Table,
    data_section,
    gallery_sections,
    write_images,
    write_page,
)
from fiducial.report.sheets import Tile

TILE = 192  # px of a tile's longest side
SHOWN, COLUMNS = 12, 6  # faces of a gallery, and a row
MOST_COLOURS = 20  # points that a legend can tell apart
NAMES = ("nme", "nmae", "epe", "auc", "fr@0.1", "pck@0.05", "pck@0.1")
POINT_COLUMNS = {
    "name": "point",
    "count": "labelled",
    "nme": "NME",
    "epe": "EPE px",
    "mean_shape_nme": "NME of the mean shape",
    "random_nme": "NME of random weights",
}
SHOWN_METRICS = ("nme", "epe", "auc", "fr@0.1")  # of the table


def summary_of(result: LinearMapEvaluation) -> dict[str, Any]:
    """Gives the figures for JSON: fractions, not percent; None where there was nothing to measure."""
    ways, best = result.scored, result.scored[MODEL]
    mean_shape = numbers(ways[MEAN_SHAPE])
    assert best.map is not None
    inputs, outputs = best.map.weights.shape
    return {
        "model": str(result.model),
        "data": str(result.data),
        "split": result.split,
        "fitted_on": "train",
        "fitted_count": len(result.train.instances),
        "count": best.metrics.count,
        "left_out": best.metrics.left_out,
        "normalizer": best.metrics.normalizer,
        "map": {"inputs": inputs, "outputs": outputs, "bias": False, "ridge": best.map.ridge},
        "metrics": numbers(best),
        "baselines": {"mean_shape": mean_shape, **_random(ways)},
        "per_point": per_point(ways),
        "floor": {"nme": mean_shape["nme"], "of": "train"},
        "notes": result.notes,
        "problems": result.problems,
    }


def numbers(way: Scored) -> dict[str, float | None]:
    """Gives the metrics of distances alone: points that a map made have no score."""
    metrics_of_all = way.metrics.numbers()
    return {name: metrics_of_all[name] for name in NAMES}


def random_runs(ways: Mapping[str, Scored]) -> list[Scored]:
    """Gives the networks with random weights."""
    return [way for name, way in ways.items() if name.startswith(RANDOM)]


def _random(ways: Mapping[str, Scored]) -> dict[str, Any]:
    nme = [way.metrics.nme for way in random_runs(ways)]
    if not nme:
        return {}
    values = {"nme": _mean(nme), "nme_low": min(nme), "nme_high": max(nme)}
    rounded = {name: files.finite(value) for name, value in values.items()}
    return {"random_weights": {**rounded, "each": [files.finite(value) for value in nme]}}


def per_point(ways: Mapping[str, Scored]) -> list[dict[str, Any]]:
    """Gives a row a labelled point: its NME by each way to it."""
    random = random_runs(ways)
    rows = []
    for i, point in enumerate(ways[MODEL].metrics.points):
        row = {
            "name": point.name,
            "count": point.count,
            "nme": files.finite(point.nme),
            "epe": files.finite(point.epe),
            "mean_shape_nme": files.finite(ways[MEAN_SHAPE].metrics.points[i].nme),
        }
        if random:
            row["random_nme"] = files.finite(_mean([way.metrics.points[i].nme for way in random]))
        rows.append(row)
    return rows


def table(ways: Mapping[str, Scored]) -> list[dict[str, Any]]:
    """Gives a row for each way to the labelled points, the best figures of papers first."""
    rows = [
        {"points from": name, **{key: _nan(numbers(ways[name])[key]) for key in SHOWN_METRICS}, "range of nme": ""}
        for name in (MODEL, MEAN_SHAPE)
    ]
    runs = random_runs(ways)
    if runs:
        nme = [way.metrics.nme for way in runs]
        means = {key: _mean([_nan(numbers(way)[key]) for way in runs]) for key in SHOWN_METRICS}
        spread = f"{min(nme):.4f} to {max(nme):.4f}"
        rows.append({"points from": f"{RANDOM} ({len(runs)} seeds)", **means, "range of nme": spread})
    return rows


def answer(ways: Mapping[str, Scored], train: Seen) -> list[str]:
    """Says the result in words."""
    best, shape, runs = ways[MODEL], ways[MEAN_SHAPE].metrics.nme, random_runs(ways)
    assert best.map is not None
    inputs, outputs = (side // 2 for side in best.map.weights.shape)
    against = f"the mean shape alone is {shape:.2%} off"
    if runs:
        random = _mean([way.metrics.nme for way in runs])
        against += f", the same network with random weights {random:.2%}"
    lines = [
        f"A linear map of the model's {inputs} points finds the {outputs} labelled ones to {best.metrics.nme:.2%} of the "
        f"{best.metrics.normalizer}; {against}."
    ]
    if best.map.ridge:
        lines.append(
            f"With a ridge of {best.map.ridge:g}, which cross-validation on train's {len(train.instances)} instances found "
            f"better for {2 * inputs} inputs than the plain least squares of papers."
        )
    return lines


# ------------------------------------------------------------------------------------------------------------ page


def write(path: Path, result: LinearMapEvaluation) -> Path:
    """Writes the page, and its sheets of faces in a folder `pictures` beside it."""
    ways, train, test, spec = result.scored, result.train, result.test, result.spec
    best, shown = ways[MODEL], galleries(test, ways[MODEL])
    write_images(path.parent / "pictures", shown, ".png")
    rows, points = table(ways), per_point(ways)
    page = Page(
        title=f"{result.model.name}: its points on {result.split} of {result.data.name}, through a linear map",
        answer=answer(ways, train),
        facts=[
            Fact("NME", best.metrics.nme, f"mean error over the {best.metrics.normalizer}, through the map"),
            *(Fact(row["points from"], row["nme"], "the same figure") for row in rows[1:]),
        ],
        sections=[
            Section("Metrics", [Table(tuple(rows[0]), _cells(rows), f"On {result.split}", _note(ways, train))]),
            Section(
                "Charts",
                [
                    Charts(
                        [
                            charts.cumulative_errors({name: way.metrics.instance_nme for name, way in ways.items()}),
                            charts.point_bars(
                                test.instances.skeleton, [point.nme for point in best.metrics.points], name="NME"
                            ),
                        ]
                    )
                ],
            ),
            *gallery_sections(shown),
            Section(
                "Points", [Table(tuple(POINT_COLUMNS[name] for name in points[0]), _cells(points), "Point by point")]
            ),
            data_section(
                {
                    "data": str(result.data),
                    "fitted on": f"train, {len(train.instances)} instances",
                    "scored on": f"{result.split}, {best.metrics.count} instances",
                    "left out": best.metrics.left_out,
                    "method": spec.method,
                    "backbone": spec.backbone,
                    "input": str(spec.size),
                    "runtime": result.runtime,
                },
                [*result.notes, *result.problems],
            ),
        ],
        device=result.runtime,
    )
    return write_page(path, page)


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in rows]


def galleries(test: Seen, best: Scored) -> list[Gallery]:
    """Shows the worst faces, and some drawn by lot: above the model's points, below truth and what the map made of them."""
    errors = best.metrics.instance_nme
    worst = descending(errors)
    sample = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(errors)))
    count = test.points[MODEL].shape[1]
    colours = count if count <= MOST_COLOURS else 0
    legend = {"truth": pictures.TRUTH, "through the map": pictures.PREDICTION, "error": pictures.ERROR}
    shown = []
    for title, ranked in (("A random sample", sample), ("Worst first", worst)):
        if not len(ranked):
            continue
        pairs = [_pair(test, best, row) for row in ranked[:SHOWN].tolist()]
        lines = [pairs[start : start + COLUMNS] for start in range(0, len(pairs), COLUMNS)]
        image = sheets.sheet([[pair[i] for pair in line] for line in lines for i in (0, 1)], colours)
        caption = f"{len(pairs)} of {len(worst)}: above the model's {count} points, each in its colour"
        note = "Below each: truth, and what the map made of these points."
        shown.append(Gallery(title, [Picture(image, caption)], note, legend, wide=True))
    return shown


def _pair(test: Seen, best: Scored, row: int) -> tuple[Tile, Tile]:
    """Draws the crop with the model's points, and with truth and mapped points."""
    instances = test.instances
    image = instances.images.read(int(instances.image_row[row]))
    side = max(test.size)
    size = Size(round(test.size.w * TILE / side), round(test.size.h * TILE / side))
    matrix = geometry.compose(test.image_to_crop[row], geometry.resize(test.size, size))
    crop = pictures.cut_out(image, matrix, size)
    model_xy = geometry.unit_to_px(test.points[MODEL][row] + 0.5, size)
    truth, mapped = (geometry.transform(matrix, np.asarray(xy[row], np.float64)) for xy in (instances.xy, best.xy))
    compared = pictures.truth_and_prediction(crop, truth, instances.labelled[row], mapped, instances.skeleton)
    return Tile(pictures.enlarged(crop, max(size), model_xy)), Tile(
        compared, f"NME {best.metrics.instance_nme[row]:.3f}"
    )


def _note(ways: Mapping[str, Scored], train: Seen) -> str:
    ridges = [f"{name} ({way.map.ridge:g})" for name, way in ways.items() if way.map is not None and way.map.ridge]
    kind = f"Least squares without bias{', with a ridge for ' if ridges else ''}{', '.join(ridges)}"
    return f"{kind}, fitted on the {len(train.instances)} instances of train, each row by a map of its own."


def _mean(values: Sequence[float]) -> float:
    return metrics.mean(np.array(values, np.float64))


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
