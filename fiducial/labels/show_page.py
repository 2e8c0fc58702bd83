"""The page of `fiducial data show`: a sheet of labelled images, counts, sizes, points, splits, licences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.data import sampling
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.report import pictures
from fiducial.report.page import (
    Fact,
    Figure,
    Gallery,
    Page,
    Picture,
    Section,
    Settings,
    Table,
    data_section,
    write_page,
)
from fiducial.types import Instances

SHOWN = 12  # images of each split
SIDE = 320  # px of a tile's longest side
NAMED = 24  # points whose names are listed by their colours


def write(path: Path, splits: Mapping[str, Instances], figures: Mapping[str, Any], answer: str) -> Path:
    """Writes the page, whole or not at all; `answer` is the sentence that it begins with."""
    first = next(iter(splits.values()))
    colours = pictures.point_colours(first.skeleton)
    legend = {
        name: (int(r), int(g), int(b))
        for name, (r, g, b) in list(zip(first.skeleton.points, colours, strict=True))[:NAMED]
    }
    sheets = [
        Section(f"Images of {split}", [Gallery(split, _tiles(part), "Evenly taken from all.", legend)])
        for split, part in splits.items()
    ]
    labels = figures["labels"]
    most = max(1, *(row["missing"] for row in figures["per_point"]))
    points = [
        (row["point"], row["visible"], row["hidden"], Figure(str(row["missing"]), 0.6 * row["missing"] / most))
        for row in figures["per_point"]
    ]
    pairs = figures["flip_pairs"]
    rows = [
        (
            name,
            one["instances"],
            one["labelled_images"],
            one["without_points"],
            one["crowds"],
            "carved" if one["carved"] else "own",
        )
        for name, one in figures["splits"].items()
    ]
    facts = {
        name: {
            "side of an instance, px (5 %, median, 95 %)": ", ".join(_text(value) for value in one["facts"]["side_px"]),
            "width over height": _text(one["facts"]["aspect"], 2),
            "95 % turned by up to, degrees": _text(one["facts"]["turn_degrees"]),
            "scale within the box, 95 % over 5 %": _text(one["facts"]["scale_spread"], 2),
            "longest side of an image, px": ", ".join(_text(value) for value in one["image_px"].values()),
        }
        for name, one in figures["splits"].items()
    }
    names = list(next(iter(facts.values())))
    sizes = [(name, *(own[name] for own in facts.values())) for name in names]
    skeleton = {
        "skeleton": figures["skeleton"],
        "edges": figures["edges"],
        "flip pairs": "unknown: never mirrored"
        if pairs is None
        else ", ".join("/".join(pair) for pair in pairs) or "none",
        "sigmas of OKS": "stated" if figures["sigmas"] else "none: no AP",
        "licences": ", ".join(figures["licences"]),
    }
    return write_page(
        path,
        Page(
            title=f"Labels of {PurePath(figures['data']).name}",
            answer=[answer],
            facts=[
                Fact("instances", sum(one["instances"] for one in figures["splits"].values())),
                Fact("points", len(figures["points"])),
                *(
                    Fact(name, count, f"points that are labelled {name}")
                    for name, count in labels.items()
                    if name != "missing"
                ),
                Fact("missing", labels["missing"], "points of instances without a label"),
            ],
            notes=figures["notes"],
            sections=[
                *sheets,
                Section("Splits", [Table(("split", "instances", "images", "without points", "crowds", "made"), rows)]),
                Section("Sizes and directions", [Table(("", *facts), sizes)]),
                Section("Points", [Table(("point", "visible", "hidden", "missing"), points), Settings(skeleton)]),
                data_section({"data": figures["data"]}, figures["problems"]),
            ],
        ),
    )


def _text(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _tiles(part: Instances) -> list[Picture]:
    """Images with all their instances: points, edges and boxes."""
    rows = np.unique(part.image_row)
    shown = []
    for row in rows[sampling.places(len(rows), SHOWN)].tolist():
        try:
            image = part.images.read(row)
        except UserError:
            continue
        own = Size(image.shape[1], image.shape[0])
        size = Size(max(1, round(own.w * SIDE / max(own))), max(1, round(own.h * SIDE / max(own))))
        matrix = geometry.resize(own, size)
        tile = pictures.cut_out(image, matrix, size)
        instances = np.flatnonzero(part.image_row == row)
        for number in instances:
            xy = geometry.transform(matrix, part.xy[number].astype(np.float64))
            corners = geometry.transform(matrix, geometry.box_corners(part.box_xywh[number]))
            tile = pictures.draw_outline(tile, corners)
            tile = pictures.draw_points(tile, xy, part.skeleton, labelled=part.labelled[number])
        name = PurePath(part.images.name(row)).name
        shown.append(Picture(tile, f"{name}, {len(instances)} instance{'s' if len(instances) != 1 else ''}"))
    return shown
