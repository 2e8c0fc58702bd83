"""The report: one HTML file that holds everything it shows, to be read on a phone, on a desk and on paper.

It takes plain values, so that whatever was measured can be shown: evaluation and comparison fill the same `Report`."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np

from fiducial import files, geometry
from fiducial.geometry import Size
from fiducial.report import pictures
from fiducial.report.charts import Chart, number_text
from fiducial.types import Instances, Keypoints

MOST_PROBLEMS = 50  # listed; the rest is counted
LONGEST_SIDE = 1600  # px; larger pictures are shrunk to it
TILE = Size(224, 224)


@dataclass(frozen=True)
class Fact:
    """One figure of the summary: a float is shown with four digits, text as it is."""

    name: str
    value: Any
    meaning: str = ""  # what it means, in a sentence


@dataclass(frozen=True)
class Figure:
    """A number in a table that is written in its own way (`1.52 M`, `4.3 ± 0.1`). A `tint` in 0..1 colours its cell."""

    text: str
    tint: float = 0.0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names; the first cell names its row."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """An RGB uint8 picture [h, w, 3]. `alt` says what is seen to those who don't see it; default: the caption."""

    image: np.ndarray
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid of tiles, or one below the other over the whole width where they are `wide`."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    legend: Mapping[str, pictures.Colour] = field(default_factory=dict)
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """Something more under a heading of its own: sentences, tables, commands as they can be typed."""

    heading: str
    lines: Sequence[str] = ()
    tables: Sequence[Table] = ()
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """What the page shows, in this order; what is empty is left out."""

    title: str
    answer: Sequence[str] = ()  # in words, the most important first
    summary: Sequence[Fact] = ()
    command: str = ""  # as it can be typed again
    notes: Sequence[str] = ()  # warnings: what a reader must know before believing the figures
    metrics: Table | None = None
    charts: Sequence[Chart] = ()
    galleries: Sequence[Gallery] = ()
    points: Table | None = None
    sections: Sequence[Section] = ()
    data: Mapping[str, Any] = field(default_factory=dict)  # counts and names
    problems: Sequence[str] = ()  # what was skipped in the data, and why
    recipe: Mapping[str, Any] = field(default_factory=dict)  # nested, as `config.to_dict` gives it
    made_by: str = ""  # version, date, device: the last line
    metrics_heading: str = "Metrics"


def write_report(path: Path, report: Report) -> Path:
    """The page, written beside and renamed; `path` again."""
    # A file name that is not UTF-8 reaches us with lone surrogates, which no page can hold.
    page = render(report).encode("utf-8", "replace").decode("utf-8")
    files.write_text(path, page)
    return path


def render(report: Report) -> str:
    """The page as HTML. All text in it is escaped; it refers to nothing outside itself and holds no scripts."""
    import jinja2

    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number_text, jpeg=jpeg_uri)
    environment.tests["numeric"] = lambda value: isinstance(value, (int, float, np.number, Figure)) or value is None
    environment.tests["tinted"] = lambda value: isinstance(value, Figure) and value.tint > 0
    return environment.get_template("report.html.j2").render(
        report=report, recipe=flat(report.recipe), most_problems=MOST_PROBLEMS
    )


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b.c` -> text, the names that `--set` takes."""
    settings = {}
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            settings |= flat(value, f"{prefix}{name}.")
        else:
            settings[prefix + str(name)] = value if isinstance(value, str) else json.dumps(value, default=str)
    return settings


def jpeg_uri(image: np.ndarray, quality: int = 80) -> str:
    """The picture as a data URI."""
    shrink = max(image.shape[:2]) / LONGEST_SIDE
    if shrink > 1:
        size = Size(max(1, round(image.shape[1] / shrink)), max(1, round(image.shape[0] / shrink)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return "data:image/jpeg;base64," + base64.b64encode(pictures.jpeg_bytes(image, quality)).decode()


def evaluation_galleries(
    instances: Instances,
    keypoints: Keypoints,
    errors: np.ndarray,
    *,
    worst: int = 24,
    random: int = 12,
    size: Size = TILE,
    error_name: str = "NME",
    seed: int = 0,
) -> list[Gallery]:
    """The instances with the largest errors, worst first, and a fair sample of all: each cut out by its box with
    truth and prediction drawn. keypoints [n, k] in px of the images; errors [n], NaN = not measured, not shown.
    Galleries without a picture are left out. Raises UserError for an image that can't be read."""
    errors = np.asarray(errors, float)
    measured = np.flatnonzero(~np.isnan(errors))
    descending = measured[np.argsort(-errors[measured], kind="stable")]
    sample = np.random.default_rng(seed).permutation(measured)[:random]
    predicted = np.asarray(keypoints.numpy().xy, np.float64)

    def picture(row: int) -> Picture:
        name = PurePath(instances.images.name(int(instances.image_row[row]))).name
        caption = f"{error_name} {number_text(errors[row])}, {name}, annotation {instances.annotation_id[row]}"
        tile = instance_tile(instances, row, predicted[row], size)
        return Picture(tile, caption, f"Truth and prediction: {caption}")

    legend = {"truth": pictures.TRUTH, "prediction": pictures.PREDICTION, "error": pictures.ERROR}
    chosen = (
        ("Worst first", descending[:worst], f"The largest errors of {len(measured)} instances."),
        ("A random sample", sample, f"Drawn by lot from all {len(measured)} instances: what to expect."),
    )
    return [
        Gallery(title, [picture(int(row)) for row in rows], note, legend) for title, rows, note in chosen if len(rows)
    ]


def instance_tile(instances: Instances, row: int, predicted: np.ndarray, size: Size) -> np.ndarray:
    """One instance cut out by its box, with some surroundings, on a tile of `size`, truth and prediction drawn.
    Where the box is of no use, its labelled points or else the whole image take its place."""
    image = instances.images.read(int(instances.image_row[row]))
    box = instances.box_xywh[row].astype(np.float64)
    if not (np.isfinite(box).all() and min(box[2:]) > 0):
        box = geometry.box_of_points(instances.xy[row].astype(np.float64), instances.labelled[row], margin=0.2)
    if math.isnan(box[0]):
        box = geometry.whole_image_box(Size(image.shape[1], image.shape[0]))
    matrix = geometry.crop(geometry.fit_aspect(box, size, padding=1.25), size)
    truth = geometry.transform(matrix, instances.xy[row].astype(np.float64))
    found = geometry.transform(matrix, np.asarray(predicted, np.float64))
    tile = pictures.cut_out(image, matrix, size)
    return pictures.truth_and_prediction(tile, truth, instances.labelled[row], found, instances.skeleton)
