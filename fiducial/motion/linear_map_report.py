"""What a linear map made of a model's points: figures for JSON and the terminal, and a page with faces."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.evaluation import metrics
from fiducial.geometry import Size
from fiducial.motion import sheets
from fiducial.motion.linear_map import MEAN_SHAPE, MODEL, RANDOM, Scored, Seen
from fiducial.motion.sheets import Tile
from fiducial.report import charts, pictures
from fiducial.report.page import Fact, Gallery, Picture, Report, Table, write_report
from fiducial.version import __version__

TILE = Size(192, 192)
SHOWN, COLUMNS = 12, 6  # faces of a gallery, and a row
MOST_COLOURS = 20  # points that a legend can tell apart
NAMES = ("nme", "nmae", "epe", "auc", "fr@0.1", "pck@0.05", "pck@0.1")


def summary_of(
    found: Mapping[str, Scored], train: Seen, test: Seen, *, model: str, data: str, split: str
) -> dict[str, Any]:
    """Fractions, not percent; None where there was nothing to measure."""
    best = found[MODEL]
    assert best.map is not None
    inputs, outputs = best.map.weights.shape
    return {
        "model": model,
        "data": data,
        "split": split,
        "fitted_on": "train",
        "fitted_count": len(train.instances),
        "count": best.metrics.count,
        "left_out": best.metrics.left_out,
        "normalizer": best.metrics.normalizer,
        "map": {"inputs": inputs, "outputs": outputs, "bias": False, "ridge": best.map.ridge},
        "metrics": numbers(best),
        "baselines": {"mean_shape": numbers(found[MEAN_SHAPE]), **_random(found)},
        "per_point": per_point(found),
    }


def numbers(one: Scored) -> dict[str, float | None]:
    """Of distances alone: points that a map made have no score."""
    known = one.metrics.numbers()
    return {name: known[name] for name in NAMES}


def random_runs(found: Mapping[str, Scored]) -> list[Scored]:
    """Networks with random weights."""
    return [one for name, one in found.items() if name.startswith(RANDOM)]


def _random(found: Mapping[str, Scored]) -> dict[str, Any]:
    runs = [one.metrics.nme for one in random_runs(found)]
    if not runs:
        return {}
    each = [value if math.isfinite(value) else None for value in runs]
    values = {"nme": _mean(runs), "nme_low": min(runs), "nme_high": max(runs)}
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {"random_weights": {**finite, "each": each}}


def per_point(found: Mapping[str, Scored]) -> list[dict[str, Any]]:
    """A row a labelled point: its NME by each way to it."""
    random = random_runs(found)
    rows = []
    for i, point in enumerate(found[MODEL].metrics.points):
        row = {
            "name": point.name, "count": point.count, "nme": point.nme, "epe": point.epe,
            "mean_shape_nme": found[MEAN_SHAPE].metrics.points[i].nme,
        }  # fmt: skip
        if random:
            row["random_nme"] = _mean([one.metrics.points[i].nme for one in random])
        rows.append({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()})
    return rows


def table(found: Mapping[str, Scored]) -> list[dict[str, Any]]:
    """A row for each way to the labelled points, the best figures of papers first."""
    rows = []
    for name, one in ((MODEL, found[MODEL]), (MEAN_SHAPE, found[MEAN_SHAPE])):
        known = numbers(one)
        rows.append(
            {
                "points from": name,
                **{key: _shown(known[key]) for key in ("nme", "epe", "auc", "fr@0.1")},
                "range of nme": "",
            }
        )
    runs = random_runs(found)
    if runs:
        each = [numbers(one) for one in runs]
        means = {
            key: _mean([math.nan if row[key] is None else float(row[key] or 0) for row in each])
            for key in ("nme", "epe", "auc", "fr@0.1")
        }
        nme = [one.metrics.nme for one in runs]
        rows.append({
            "points from": f"{RANDOM} ({len(runs)} seeds)", **{key: _shown(value) for key, value in means.items()},
            "range of nme": f"{min(nme):.4f} to {max(nme):.4f}",
        })  # fmt: skip
    return rows


def answer(found: Mapping[str, Scored], train: Seen) -> list[str]:
    """In words."""
    best, shape, runs = found[MODEL], found[MEAN_SHAPE].metrics.nme, random_runs(found)
    assert best.map is not None
    inputs, outputs = (side // 2 for side in best.map.weights.shape)
    against = f"the mean shape alone is {shape:.2%} off"
    if runs:
        against += f", the same network with random weights {_mean([one.metrics.nme for one in runs]):.2%}"
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


def page_of(
    found: Mapping[str, Scored], train: Seen, test: Seen, *, model: Path, data: str, split: str, facts: Mapping[str, Any],
    problems: Sequence[str], device: str,
) -> Report:  # fmt: skip
    """Everything that is known, with faces."""
    best = found[MODEL]
    rows = table(found)
    points = per_point(found)
    errors = {name: one.metrics.instance_nme.tolist() for name, one in found.items()}
    return Report(
        title=f"{model.name}: its points on {split} of {Path(data).name}, through a linear map",
        answer=answer(found, train),
        summary=[
            Fact("NME", best.metrics.nme, f"mean error over the {best.metrics.normalizer}, through the map"),
            *[Fact(name, row["nme"], "the same figure") for name, row in zip(("mean shape", RANDOM), rows[1:], strict=False)],
        ],
        metrics=Table(tuple(rows[0]), [tuple(row.values()) for row in rows], f"On {split}", _note(found, train)),
        charts=[
            charts.cumulative_errors(errors, name="NME"),
            charts.point_bars(test.instances.skeleton, [point.nme for point in best.metrics.points], name="NME"),
        ],
        galleries=galleries(test, best),
        points=Table(tuple(points[0]), [tuple(row.values()) for row in points], "Point by point"),
        data={"data": data, "fitted on": f"train, {len(train.instances)} instances",
              "scored on": f"{split}, {best.metrics.count} instances", "left out": best.metrics.left_out, **facts},
        problems=list(problems),
        made_by=f"Fiducial {__version__}, {datetime.datetime.now():%Y-%m-%d %H:%M}, {device}",
    )  # fmt: skip


def galleries(test: Seen, best: Scored) -> list[Gallery]:
    """The worst faces, and some drawn by lot: above what the model found, below truth and what the map made of it."""
    errors = best.metrics.instance_nme
    measured = np.flatnonzero(np.isfinite(errors))
    worst = measured[np.argsort(-errors[measured], kind="stable")][:SHOWN]
    drawn = np.random.default_rng(0).permutation(measured)[:SHOWN]
    count = test.points[MODEL].shape[1]
    legend = {"truth": pictures.TRUTH, "through the map": pictures.PREDICTION, "error": pictures.ERROR}
    shown = []
    for title, rows in (("A random sample", drawn), ("Worst first", worst)):
        if not len(rows):
            continue
        pairs = [_pair(test, best, row) for row in rows.tolist()]
        lines = [pairs[start : start + COLUMNS] for start in range(0, len(pairs), COLUMNS)]
        named = count if count <= MOST_COLOURS else 0
        image = sheets.sheet([[pair[i] for pair in line] for line in lines for i in (0, 1)], named)
        picture = Picture(
            image, f"{len(rows)} of {len(measured)}: above the {count} points that were found, each in its colour"
        )
        shown.append(
            Gallery(title, [picture], "Below each: truth, and what the map made of these points.", legend, wide=True)
        )
    return shown


def _pair(test: Seen, best: Scored, row: int) -> tuple[Tile, Tile]:
    """The crop with what was found, and with truth and mapped points."""
    some = test.instances
    image = some.images.read(int(some.image_row[row]))
    side = max(test.size)
    tile = Size(round(test.size.w * TILE.w / side), round(test.size.h * TILE.h / side))
    matrix = geometry.compose(test.image_to_crop[row], geometry.resize(test.size, tile))
    picture = pictures.cut_out(image, matrix, tile)
    found = geometry.unit_to_px(test.points[MODEL][row] + 0.5, tile)
    truth, mapped = (geometry.transform(matrix, np.asarray(xy[row], np.float64)) for xy in (some.xy, best.xy))
    both = pictures.truth_and_prediction(picture, truth, some.labelled[row], mapped, some.skeleton)
    return Tile(sheets.dotted(picture, found)), Tile(both, f"NME {best.metrics.instance_nme[row]:.3f}")


def _note(found: Mapping[str, Scored], train: Seen) -> str:
    maps = {name: one.map for name, one in found.items() if one.map is not None}
    ridges = {name: linear.ridge for name, linear in maps.items() if linear.ridge}
    kind = (
        "Least squares without bias"
        if not ridges
        else "Least squares without bias, with a ridge for "
        + ", ".join(f"{name} ({value:g})" for name, value in ridges.items())
    )
    return f"{kind}, fitted on the {len(train.instances)} instances of train, each row by a map of its own."


def write(path: Path, report: Report) -> Path:
    """The page, and its sheets in a folder `pictures` beside it."""
    for gallery in report.galleries:
        name = gallery.title.lower().replace(" ", "_")
        for picture in gallery.pictures:
            sheets.write_png(path.parent / "pictures" / f"{name}.png", picture.image)
    return write_report(path, report)


def _mean(values: Sequence[float]) -> float:
    return metrics.mean(np.array(values, np.float64))


def _shown(value: float | None) -> float:
    return math.nan if value is None else value
