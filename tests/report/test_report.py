"""The report: one file on its own, whatever is in it; what it tells of truth and prediction is so."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiducial.geometry import Size
from fiducial.report import charts, page, pictures
from fiducial.report.bands import Band, band_chart
from fiducial.report.page import Fact, Gallery, Picture, Report, Table, render, write_report
from fiducial.types import Instances, Keypoints, Skeleton

pytest.importorskip("jinja2")

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;.jpg"
VOID = {"meta", "img", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Tags, references and text of a page; checks that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def attributes(self, wanted: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == wanted]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class Painted:
    """Images of soft noise."""

    def __init__(self, count: int, size: Size, stem: str) -> None:
        self.count, self.size, self.stem = count, size, stem

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return f"{self.stem}_{row}.jpg"

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        small = np.random.default_rng(row).integers(0, 255, (self.size.h // 12, self.size.w // 12, 3), np.uint8)
        return cv2.resize(small, self.size, interpolation=cv2.INTER_CUBIC)


def faces(count: int, points: int, stem: str = "folder/picture") -> Instances:
    """`count` instances, one an image, with `points` points inside a box that is off the centre."""
    size = Size(430, 377)
    turn = np.linspace(0.3, 5.9, points)
    ring = np.stack([190 + 90 * np.cos(turn), 180 + 110 * np.sin(turn)], axis=-1)
    xy = ring + np.random.default_rng(5).normal(0, 4, (count, points, 2))
    names = tuple(f"point_{i}" for i in range(points))
    return Instances(
        skeleton=Skeleton("face", names, edges=tuple((i, i + 1) for i in range(points - 1))),
        images=Painted(count, size, stem),
        image_id=np.arange(count),
        image_size=np.tile(np.array([size], np.int32), (count, 1)),
        image_row=np.arange(count),
        annotation_id=np.arange(count) + 100,
        xy=xy.astype(np.float32),
        visibility=np.full((count, points), 2, np.uint8),
        box_xywh=np.tile(np.array([[80, 50, 220, 260]], np.float32), (count, 1)),
        area=np.full(count, 220 * 260, np.float32),
        crowd=np.zeros(count, bool),
        source="truth.json",
    )


def full_report(instances: Instances, word: str) -> Report:
    """A report with something of everything, `word` in every place for text."""
    count, points = instances.visibility.shape
    found = Keypoints(instances.xy + np.array([4, -3], np.float32), np.ones((count, points)))
    errors = np.linspace(0.02, 0.2, count)
    rows, columns = np.ogrid[:64, :64]
    maps = np.stack([np.exp(-((rows - i * 0.9) ** 2 + (columns - 20) ** 2) / 8) for i in range(points)])
    crop = cv2.resize(instances.images.read(0), (256, 256))
    panel = pictures.heatmap_panel(crop, maps, maps, instances.skeleton.points)
    bars = charts.point_bars(replace(instances.skeleton, points=(word,) * points), np.linspace(0, 1, points).tolist())
    return Report(
        title=word,
        summary=(Fact("NME", 0.0351, word), Fact(word, "12 ms"), Fact("AUC", float("nan"))),
        command=f"fiducial evaluate {word}",
        notes=(word, "only few images"),
        metrics=Table((word, "value"), [("nme", 0.0351), (word, float("nan")), ("ap", None)], title=word, note=word),
        charts=(charts.cumulative_errors({word: errors.tolist()}, name=word), bars),
        galleries=(
            *page.evaluation_galleries(instances, found, errors),
            Gallery(word, [Picture(panel, word)] * 6, word, {word: (1, 2, 3)}, wide=True),
            Gallery("empty", []),
        ),
        points=Table(("point", "NME"), [(name, 0.1) for name in instances.skeleton.points]),
        data={word: 3, "images": count, "share": 0.25},
        problems=[word] * 70,
        recipe={"model": {word: word, "size": (256, 192)}, "flip": None},
        made_by=word,
    )


def without_pictures(html: str) -> str:
    return re.sub(r"base64,[^\"]*", "", html)


def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "report.html", full_report(faces(40, 7), "a word"))
    html = path.read_text("utf-8")
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "xlink:href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#"))
    assert not re.search(r"url\(|@import|https?:|//[a-z]", without_pictures(html))
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = [attributes["href"] for attributes in page.attributes("a")]
    assert len(links) == 8
    assert {str(link)[1:] for link in links} <= targets
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_pictures_have_words_and_tables_have_headers() -> None:
    page = Page(render(full_report(faces(30, 7), "a word")))
    images = page.attributes("img")
    assert len(images) == 24 + 12 + 6
    assert all(attributes["alt"] and attributes["width"] for attributes in images)
    scopes = [attributes.get("scope") for attributes in page.attributes("th")]
    assert scopes.count("col") == 4
    assert scopes.count("row") == 3 + 7
    assert all(attributes["aria-label"] for attributes in page.attributes("svg"))
    assert page.attributes("html") == [{"lang": "en"}]


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    html = render(full_report(faces(3, 4, stem=HOSTILE.replace("/", "_")), HOSTILE))
    page = Page(html)
    assert "<script" not in html
    assert all(attributes["src"] != "x" and "onerror" not in attributes for attributes in page.attributes("img"))
    assert HOSTILE in page.text
    assert page.attributes("img")[-1]["alt"] == HOSTILE


def test_names_that_are_not_unicode_do_not_stop_the_report(tmp_path: Path) -> None:
    page = Report("bad \udcff name", notes=("眼 é",))
    html = write_report(tmp_path / "r.html", page).read_text("utf-8")
    assert "bad ? name" in html
    assert "眼 é" in html


def test_an_empty_report_and_undefined_metrics_are_pages_too() -> None:
    page = Page(render(Report("nothing")))
    assert page.text == "nothing nothing"
    assert not [tag for tag, _ in page.tags if tag in ("img", "table", "svg", "section", "a")]
    empty = Report("t", metrics=Table(("a", "b"), []), galleries=(Gallery("none", []),), summary=(Fact("x", np.nan),))
    assert "none" not in Page(render(empty)).text
    text = Page(render(full_report(faces(2, 3), "w"))).text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert "–" in text


def test_a_typical_report_stays_below_three_megabytes(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", full_report(faces(60, 68), "word"))
    assert 5e5 < path.stat().st_size < 3e6


def test_long_lists_of_problems_are_counted() -> None:
    text = Page(render(Report("t", problems=[f"line {i}" for i in range(73)]))).text
    assert "73 problems" in text
    assert "line 49 and 23 more" in text


def test_galleries_are_ordered_and_skip_what_was_not_measured() -> None:
    instances = faces(9, 4)
    errors = np.array([0.3, np.nan, 0.1, 0.9, 0.2, np.nan, 0.5, 0.8, 0.7])
    found = Keypoints(instances.xy.copy(), np.ones((9, 4)))
    found.xy[3] = np.nan
    worst, sample = page.evaluation_galleries(instances, found, errors, worst=3, random=20, size=Size(50, 70))
    assert [picture.caption for picture in worst.pictures] == [
        "NME 0.9000, picture_3.jpg, annotation 103",
        "NME 0.8000, picture_7.jpg, annotation 107",
        "NME 0.7000, picture_8.jpg, annotation 108",
    ]
    assert len({picture.caption for picture in sample.pictures}) == len(sample.pictures) == 7
    assert worst.pictures[0].image.shape == (70, 50, 3)
    assert page.evaluation_galleries(instances, found, np.full(9, np.nan)) == []


def test_tiles_show_the_instance_where_its_box_is() -> None:
    """A tile's dot of truth is the point seen through the box; a box of no use falls back to the points."""
    boxes = ([90.5, 80.5, 200, 200], [0, 0, 0, 0], [np.nan] * 4, [5, 5, -3, 9])
    nowhere, size = np.full((1, 2), np.nan), Size(125, 125)
    for box in boxes:
        # The first box is centred on px (190, 180), and so is the one around the only point: px 62 of the tile.
        one = replace(
            faces(1, 1), xy=np.array([[[190, 180]]], np.float32), box_xywh=np.array([box], np.float32)
        )  # fmt: skip
        assert tuple(page.instance_tile(one, 0, nowhere, size)[62, 62]) == pictures.TRUTH
        unlabelled = replace(one, visibility=np.zeros((1, 1), np.uint8))
        assert page.instance_tile(unlabelled, 0, nowhere, size).shape == (125, 125, 3)


def test_jpegs_keep_colours_and_large_ones_are_shrunk() -> None:
    image = np.zeros((2000, 1000, 3), np.uint8)
    image[:] = (250, 60, 10)
    data = base64.b64decode(page.jpeg_uri(image).removeprefix("data:image/jpeg;base64,"))
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert back.shape == (1600, 800, 3)
    np.testing.assert_allclose(back[700, 300], (10, 60, 250), atol=4)  # OpenCV reads BGR


def test_recipes_are_named_as_settings_are() -> None:
    nested = {"model": {"head": {"name": "rle", "flow": None}, "empty": {}}, "size": (192, 256), "lr": 0.005}
    names = {"model.head.name": "rle", "model.head.flow": "null", "model.empty": "{}"}
    assert page.flat(nested) == {**names, "size": "[192, 256]", "lr": "0.005"}


def test_pages_need_no_framework() -> None:
    code = "import sys, fiducial.report.page; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --------------------------------------------------------------------------------------------------- charts


def curves(svg: str) -> list[np.ndarray]:
    """The drawn curves [n, 2], without the samples of the legend (26 units long, level)."""
    texts = re.findall(r'<polyline points="([^"]*)"', svg)
    lines = [np.array([pair.split(",") for pair in text.split()], float) for text in texts]
    return [line for line in lines if np.ptp(line[:, 0]) != 26]


def test_cumulative_errors_against_the_integral_of_the_drawn_curve() -> None:
    """The area told is the area under the drawn staircase, whose height is the share of errors below x."""
    errors = [0.013, 0.027, 0.027, 0.081, 0.3, float("nan"), 0.055]
    chart = charts.cumulative_errors({"model": errors}, limit=0.1)
    (curve,) = curves(chart.svg)
    x = (curve[:, 0] - charts.LEFT) / charts.PLOT_WIDTH * 0.1
    y = (curve[:, 1].max() - curve[:, 1]) / charts.PLOT_HEIGHT
    told = re.search(r"area ([\d.]+)", chart.svg)
    assert told is not None
    assert np.trapezoid(y, x) / 0.1 == pytest.approx(float(told[1]), abs=2e-3)
    assert y[-1] == pytest.approx(5 / 6, abs=1e-3)
    assert "1 of 7 instances have no error" in chart.note


@pytest.mark.parametrize("errors", [[], [np.nan], [0.5, 0.7], [0.0, 0.0], [0.1], [np.inf, 0.05]])
def test_cumulative_errors_of_unlucky_sets(errors: list[float]) -> None:
    svg = charts.cumulative_errors({"model": errors}).svg
    assert not re.search("nan|inf", svg)
    Page(svg)


def test_training_curves_read_what_the_logger_writes() -> None:
    """Rows hold either training's or validation's values; several rows of an epoch are one point."""
    history = {
        "epoch": ["0", "0", "0", "1", "1", "1", "2"],
        "train_loss": ["4.0", "2.0", "", "1.0", "nan", "", 2],
        "val_nme": ["", "", "0.5", None, "", "0.25", ""],
        "lr": [""] * 7,
    }
    loss, metric = charts.training_curves(history)
    assert [loss.title, metric.title] == ["Loss", "Validation"]
    (curve,) = curves(loss.svg)
    # The means are 3, 1 and 2, and up on the page is more.
    np.testing.assert_allclose(curve[:, 1].max() - curve[:, 1], np.array([1, 0, 0.5]) * charts.PLOT_HEIGHT, atol=0.1)
    np.testing.assert_allclose(np.diff(curve[:, 0]), charts.PLOT_WIDTH / 2, atol=0.1)
    assert charts.training_curves({}) == []
    (single,) = charts.training_curves({"epoch": [0], "train_loss": [1.0]})
    assert single.svg.count("<circle") == 1, "one epoch is a dot"


def test_a_history_s_columns_over_its_epochs() -> None:
    rows = [
        {"epoch": 0, "lr": 1.0, "train/loss": 3.0, "train/points": 2.0},
        {"epoch": 1, "val/l1": 5.0, "train/loss": 1.0},
    ]
    (chart,) = charts.over_epochs(rows, "T", ["val/l1", "lr", "val/none"], "note")
    assert (chart.title, chart.note) == ("T", "note")
    assert [name in chart.svg for name in (">l1<", ">lr<", ">none<")] == [True, True, False]
    assert charts.over_epochs(rows, "T", ["val/none"]) == []

    assert [chart.title for chart in charts.losses(rows)] == ["Loss", "Named losses"]
    assert charts.losses([]) == []


def test_values_of_many_sizes_get_a_logarithmic_axis() -> None:
    (chart,) = charts.training_curves({"epoch": [0, 1, 2], "lr": [1e-1, 1e-2, 1e-3]})
    (curve,) = curves(chart.svg)
    assert np.diff(curve[:, 1]) == pytest.approx([charts.PLOT_HEIGHT / 2] * 2, abs=0.1)


def test_bars_are_as_long_as_their_values_and_worst_first() -> None:
    skeleton = Skeleton("s", ("a", "b", "<c>", "d"))
    svg = charts.point_bars(skeleton, [0.1, 0.4, np.nan, 0.2]).svg
    widths = [float(value) for value in re.findall(r'<rect[^>]* width="([\d.]+)"', svg)]
    np.testing.assert_allclose(widths, np.array([1, 0.5, 0.25, 0]) * 198, atol=0.06)  # of 400, less names and values
    assert Page(svg).text.split()[::2] == ["b", "d", "a", "<c>"]
    assert charts.point_bars(skeleton, [1, 2, 3, 4.0], most=2).svg.count("<rect") == 2
    Page(charts.point_bars(skeleton, [np.nan] * 4).svg)


def test_ticks_are_round_and_inside() -> None:
    assert charts.Axis("", 0, 0.1).ticks() == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1])
    assert charts.Axis("", 0.43, 0.68).ticks() == pytest.approx([0.45, 0.5, 0.55, 0.6, 0.65])
    assert charts.Axis("", 3e-3, 2e-2, log=True).ticks() == pytest.approx([5e-3, 1e-2, 2e-2])
    assert charts.Axis("", 1e-7, 1, log=True).ticks() == pytest.approx([10.0**i for i in range(-7, 1)])
    assert charts.Axis("", 10, 1000, log=True).fraction([10, 100, 1000]) == pytest.approx([0, 0.5, 1])


def test_numbers_as_text() -> None:
    pairs = {0.0453: "0.04530", 3.21234: "3.212", 1234.4: "1234", 0.0: "0.000", 7: "7", "9 MB": "9 MB", None: "–"}
    assert [charts.number_text(value) for value in pairs] == list(pairs.values())
    assert charts.number_text(np.float32(0.5)) == "0.5000"
    assert charts.number_text(float("nan")) == "–"


def test_many_curves_can_be_told_apart():
    """Also where there are more than colours, in both kinds of charts."""
    lines = [charts.Curve(str(i), [0, 1], [i, i]) for i in range(9)]
    areas = [Band(str(i), np.array([0, 1]), np.array([[i, i]]), i) for i in range(9)]
    for svg in (charts.line_chart("t", lines, "x"), band_chart("t", areas, "x", "y").svg):
        assert len(set(re.findall(r'<polyline [^>]*style="([^"]*)"', svg))) == 9
