"""`fiducial data show`: what is in a labelled set, in ten lines, as JSON, and as a page with a sheet of labelled images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fiducial import files
from fiducial.api.arguments import optional_path, source_of
from fiducial.api.results import Result, say
from fiducial.data import annotations
from fiducial.data.facts import facts_of
from fiducial.types import Instances, Problem


def show(
    data: Any, *, images: Any = None, category: str | None = None, group: str | None = None, report: Any = None
) -> Result:
    """Describes a labelled set: counts, sizes, points labelled, hidden and missing, orientation and scale, splits and how
    they were made, licences, what was assumed.

    images, category, group: as `fiducial.fit` has them. report: where to write a page with a sheet of labelled images.
    `result.figures` is what `--json` writes (docs/check.md)."""
    source = source_of(data, images, category, (), group)
    page = optional_path(report, "report")
    if page is not None:
        import jinja2  # noqa: F401  said before anything is looked at
    own = annotations.own_splits(source)
    names = annotations.SPLITS if set(own) & {"train"} and "val" not in own else own
    splits: dict[str, Instances] = {}
    problems: dict[Problem, None] = {}
    for name in names:
        splits[name], found = annotations.load(
            source, name if len(names) > 1 else "all", ignored=True, carve=len(names) > 1
        )
        problems |= dict.fromkeys(found)
    figures = _figures(splits, str(source), [name for name in names if name not in own], list(problems))
    lines = lines_of(figures)
    say(figures["notes"])
    written: dict[str, str] = {}
    if page is not None:
        from fiducial.labels import show_page

        written["report"] = str(show_page.write(page, splits, figures, lines[0]))
    return Result(figures={**figures, "files": written}, lines=lines)


def _figures(splits: Mapping[str, Instances], data: str, carved: list[str], problems: list[Problem]) -> dict[str, Any]:
    first = next(iter(splits.values()))
    skeleton = first.skeleton
    visibility = np.concatenate([part.visibility[part.labelled.any(1)] for part in splits.values()])
    counts = {name: int((visibility == value).sum()) for name, value in (("visible", 2), ("hidden", 1), ("missing", 0))}
    per_point = [
        {"point": point, "visible": int(two), "hidden": int(one), "missing": int(zero)}
        for point, two, one, zero in zip(
            skeleton.points, *((visibility == value).sum(0) for value in (2, 1, 0)), strict=True
        )
    ]
    return {
        "data": data,
        "splits": {
            name: {
                "images": len(part.images),
                "labelled_images": len(np.unique(part.image_row)),
                "instances": int(part.labelled.any(1).sum()),
                "without_points": int((~part.labelled.any(1)).sum()),
                "crowds": int(part.crowd.sum()),
                "carved": name in carved,
                "image_px": _sizes(part),
                "facts": facts_of(part).as_json(),
            }
            for name, part in splits.items()
        },
        "skeleton": skeleton.name,
        "points": list(skeleton.points),
        "edges": len(skeleton.edges),
        "flip_pairs": None
        if skeleton.flip_pairs is None
        else [[skeleton.points[i] for i in pair] for pair in skeleton.flip_pairs],
        "sigmas": None if skeleton.sigmas is None else list(skeleton.sigmas),
        "labels": counts,
        "per_point": per_point,
        "licences": list(dict.fromkeys(licence for part in splits.values() for licence in part.licences))
        or ["unknown"],
        "notes": [str(problem) for problem in problems if problem.is_note],
        "problems": [str(problem) for problem in problems if not problem.is_note],
    }


def _sizes(part: Instances) -> dict[str, float | None]:
    """The smallest, the median and the largest longest side of the declared images, px."""
    sides = part.image_size[np.unique(part.image_row)].max(1)
    sides = sides[sides > 0]
    names = ("smallest", "median", "largest")
    values = np.percentile(sides, (0, 50, 100)) if len(sides) else (np.nan,) * 3
    return {name: files.finite(float(value)) for name, value in zip(names, values, strict=True)}


def lines_of(figures: Mapping[str, Any]) -> list[str]:
    """Says it in ten lines."""
    splits, labels = figures["splits"], figures["labels"]
    total = max(1, sum(labels.values()))
    first = next(iter(splits.values()))
    pairs = figures["flip_pairs"]
    known = "unknown: never mirrored" if pairs is None else "none" if not pairs else f"{len(pairs)}"
    worst = sorted(figures["per_point"], key=lambda row: -row["missing"])[:3]
    missing = ", ".join(f"{row['point']} {row['missing']}" for row in worst if row["missing"])
    facts = first["facts"]
    turned, side = facts["turn_degrees"], facts["side_px"]
    shown = os.path.basename(os.path.normpath(figures["data"]))
    return [
        f"{shown}: {sum(one['instances'] for one in splits.values())} instances on "
        f"{sum(one['labelled_images'] for one in splits.values())} images, {len(figures['points'])} points",
        *(
            f"  {name}: {one['instances']} instances on {one['labelled_images']} images"
            + (f", {one['without_points']} boxes without points" if one["without_points"] else "")
            + (f", {one['crowds']} crowds" if one["crowds"] else "")
            + (" (carved out of train)" if one["carved"] else "")
            for name, one in splits.items()
        ),
        "labels: " + ", ".join(f"{count / total:.1%} {name}" for name, count in labels.items()),
        f"most often missing: {missing or 'none'}",
        f"instances: {_number(side[1])} px long ({_number(side[0])} to {_number(side[2])}), {_number(facts['aspect'], 2)} times as "
        f"wide as high, 95 % turned by up to {_number(turned)} degrees, images {_number(first['image_px']['median'])} px",
        f"skeleton: {figures['skeleton']}, {figures['edges']} edges, flip pairs {known}, sigmas "
        + ("stated" if figures["sigmas"] else "none: no AP"),
        f"licences: {', '.join(figures['licences'])}",
        f"assumed: {len(figures['notes'])}, left out: {len(figures['problems'])}"
        + (f"; {figures['problems'][0]}" if figures["problems"] else ""),
    ]


def _number(value: float | None, digits: int = 0) -> str:
    return "?" if value is None else f"{value:.{digits}f}"
