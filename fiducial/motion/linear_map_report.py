"""Reports what a linear map made of a model's points: figures for JSON and the terminal, and a page with faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files, geometry
from fiducial.evaluation import metrics
from fiducial.evaluation.floor import Floor
from fiducial.geometry import Size
from fiducial.motion.linear_map import MEAN_SHAPE, MODEL, RANDOM, LinearMapEvaluation
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
POINT_COLUMNS = {
    "name": "point",
    "count": "labelled",
    "nme": "NME",
    "epe": "EPE px",
    "mean_shape_nme": "NME of the mean shape",
    "random_nme": "NME of random weights",
}
TABLE_METRICS = ("nme", "epe", "auc", "fr@0.1")


def summary_of(result: LinearMapEvaluation) -> dict[str, Any]:
    """Gives the figures for JSON: fractions, not percent; None where there was nothing to measure."""
    best, mean_shape = result.best, result.mean_shape.metrics.numbers()
    assert best.map is not None
    inputs, outputs = best.map.weights.shape
    baselines: dict[str, Any] = {"mean_shape": mean_shape}
    if result.random:
        nme = [way.metrics.nme for way in result.random]
        values = {"nme": _mean(nme), "nme_low": min(nme), "nme_high": max(nme)}
        rounded: dict[str, Any] = {name: files.finite(value) for name, value in values.items()}
        baselines["random_weights"] = {**rounded, "each": [files.finite(value) for value in nme]}
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
        "metrics": best.metrics.numbers(),
        "baselines": baselines,
        "per_point": per_point(result),
        "floor": {"nme": mean_shape["nme"], "of": "train"},
        "notes": result.notes,
        "problems": result.problems,
    }


def per_point(result: LinearMapEvaluation) -> list[dict[str, Any]]:
    """Gives a row a labelled point: its NME by each way to it."""
    rows = []
    for i, point in enumerate(result.best.metrics.points):
        row = {
            "name": point.name,
            "count": point.count,
            "nme": files.finite(point.nme),
            "epe": files.finite(point.epe),
            "mean_shape_nme": files.finite(result.mean_shape.metrics.points[i].nme),
        }
        if result.random:
            row["random_nme"] = files.finite(_mean([way.metrics.points[i].nme for way in result.random]))
        rows.append(row)
    return rows


def table(result: LinearMapEvaluation) -> list[dict[str, Any]]:
    """Gives a row for each way to the labelled points, the model first; networks with random weights share a row."""
    kinds = {
        MODEL: [result.best],
        MEAN_SHAPE: [result.mean_shape],
        f"{RANDOM} ({len(result.random)} seeds)": result.random,
    }
    rows = []
    for name, ways in kinds.items():
        if ways:
            numbers = [way.metrics.numbers() for way in ways]
            means = {key: _mean([_or_nan(of_way[key]) for of_way in numbers]) for key in TABLE_METRICS}
            nme = [way.metrics.nme for way in ways]
            spread = f"{min(nme):.4f} to {max(nme):.4f}" if len(nme) > 1 else ""
            rows.append({"points from": name, **means, "range of nme": spread})
    return rows


def answer(result: LinearMapEvaluation) -> list[str]:
    """Says the result in words."""
    linear, measured = result.best.map, result.best.metrics
    assert linear is not None
    inputs, outputs = (side // 2 for side in linear.weights.shape)
    against = f"the mean shape alone is {result.mean_shape.metrics.nme:.2%} off"
    if result.random:
        random = _mean([way.metrics.nme for way in result.random])
        against += f", the same network with random weights {random:.2%}"
    lines = [
        f"A linear map of the model's {inputs} points finds the {outputs} labelled ones to {measured.nme:.2%} of the "
        f"{measured.normalizer}; {against}."
    ]
    if linear.ridge:
        lines.append(
            f"With a ridge of {linear.ridge:g}, which cross-validation on train's {len(result.train.instances)} instances "
            f"found better for {2 * inputs} inputs than the plain least squares of papers."
        )
    return lines


# ------------------------------------------------------------------------------------------------------------ page


def write(path: Path, result: LinearMapEvaluation) -> Path:
    """Writes the page, and its sheets of faces in a folder `pictures` beside it."""
    measured, spec, shown = result.best.metrics, result.spec, galleries(result)
    write_images(path.parent / "pictures", shown, ".png")
    rows, points = table(result), per_point(result)
    verdict = Floor(nme=result.mean_shape.metrics.nme, of="train").verdict(measured.nme)
    cells, point_cells = ([tuple(row.values()) for row in part] for part in (rows, points))
    errors = {name: way.metrics.instance_nme for name, way in result.ways.items()}
    point_nme = [point.nme for point in measured.points]
    drawn = [
        charts.cumulative_errors(errors),
        charts.point_bars(result.test.instances.skeleton, point_nme, name="NME"),
    ]
    page = Page(
        title=f"{result.model.name}: its points on {result.split} of {result.data.name}, through a linear map",
        answer=answer(result),
        notes=[] if verdict is None else [verdict[0].upper() + verdict[1:] + "."],
        facts=[
            Fact("NME", measured.nme, f"mean error over the {measured.normalizer}, through the map"),
            *(Fact(row["points from"], row["nme"], "the same figure") for row in rows[1:]),
        ],
        sections=[
            Section("Metrics", [Table(tuple(rows[0]), cells, f"On {result.split}", _how_fitted(result))]),
            Section("Charts", [Charts(drawn)]),
            *gallery_sections(shown),
            Section("Points", [Table(tuple(map(POINT_COLUMNS.__getitem__, points[0])), point_cells, "Point by point")]),
            data_section(
                {
                    "data": str(result.data),
                    "fitted on": f"train, {len(result.train.instances)} instances",
                    "scored on": f"{result.split}, {measured.count} instances",
                    "left out": measured.left_out,
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


def galleries(result: LinearMapEvaluation) -> list[Gallery]:
    """Shows the worst faces, and some drawn by lot: above the model's points, below truth and what the map made of them."""
    errors, count = result.best.metrics.instance_nme, result.test.points[MODEL].shape[1]
    worst = descending(errors)
    sample = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(errors)))
    legend = {"truth": pictures.TRUTH, "through the map": pictures.PREDICTION, "error": pictures.ERROR}
    note = "Below each: truth, and what the map made of these points."
    shown = []
    for title, ranked in (("A random sample", sample), ("Worst first", worst)):
        pairs = [_pair(result, row) for row in ranked[:SHOWN].tolist()]
        lines = [pairs[start : start + COLUMNS] for start in range(0, len(pairs), COLUMNS)]
        if lines:
            rows = [[pair[i] for pair in line] for line in lines for i in (0, 1)]
            image = sheets.sheet(rows, count if count <= MOST_COLOURS else 0)
            caption = f"{len(pairs)} of {len(worst)}: above the model's {count} points, each in its colour"
            shown.append(Gallery(title, [Picture(image, caption)], note, legend, wide=True))
    return shown


def _pair(result: LinearMapEvaluation, row: int) -> tuple[Tile, Tile]:
    """Draws the crop with the model's points, and with truth and mapped points."""
    test, best = result.test, result.best
    instances = test.instances
    image = instances.images.read(int(instances.image_row[row]))
    side = max(test.size)
    size = Size(round(test.size.w * TILE / side), round(test.size.h * TILE / side))
    matrix = geometry.compose(test.image_to_crop[row], geometry.resize(test.size, size))
    crop = pictures.cut_out(image, matrix, size)
    model_xy = geometry.unit_to_px(test.points[MODEL][row] + 0.5, size)
    truth, mapped = (geometry.transform(matrix, np.asarray(xy[row], np.float64)) for xy in (instances.xy, best.xy))
    compared = pictures.truth_and_prediction(crop, truth, instances.labelled[row], mapped, instances.skeleton)
    dotted = pictures.enlarged(crop, max(size), model_xy)
    return Tile(dotted), Tile(compared, f"NME {best.metrics.instance_nme[row]:.3f}")


def _how_fitted(result: LinearMapEvaluation) -> str:
    maps = {name: way.map for name, way in result.ways.items()}
    ridges = [f"{name} ({linear.ridge:g})" for name, linear in maps.items() if linear is not None and linear.ridge]
    kind = f"Least squares without bias{', with a ridge for ' if ridges else ''}{', '.join(ridges)}"
    return f"{kind}, fitted on the {len(result.train.instances)} instances of train, each row by a map of its own."


def _mean(values: Sequence[float]) -> float:
    return metrics.mean(np.array(values, np.float64))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
