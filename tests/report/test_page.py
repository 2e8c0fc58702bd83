"""The report: one file on its own, whatever is in it; what it tells of truth and prediction is so."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiducial.errors import UserError
from fiducial.files import command_line
from fiducial.geometry import Size
from fiducial.report import charts, galleries, page, pictures
from fiducial.report.page import (
    Charts,
    Commands,
    Fact,
    Gallery,
    Listing,
    Page,
    Picture,
    Section,
    Settings,
    Table,
    data_section,
    failed_section,
    gallery_sections,
    metric_table,
    recipe_section,
    render,
    sentence,
    write_page,
)
from fiducial.types import Instances, Keypoints, Skeleton

sys.path.insert(0, str(Path(__file__).parent))
from html_text import Html

jinja2 = pytest.importorskip("jinja2")

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;.jpg"


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


def full_page(instances: Instances, word: str) -> Page:
    """A page with something of everything, `word` in every place for text."""
    count, points = instances.visibility.shape
    predicted = Keypoints(instances.xy + np.array([4, -3], np.float32), np.ones((count, points)))
    errors = np.linspace(0.02, 0.2, count)
    rows, columns = np.ogrid[:64, :64]
    maps = np.stack([np.exp(-((rows - i * 0.9) ** 2 + (columns - 20) ** 2) / 8) for i in range(points)])
    crop = cv2.resize(instances.images.read(0), (256, 256))
    panel = pictures.heatmap_panel(crop, maps, maps, instances.skeleton.points)
    bars = charts.point_bars(replace(instances.skeleton, points=(word,) * points), np.linspace(0, 1, points).tolist())
    metrics = Table((word, "value"), [("nme", 0.0351), (word, float("nan")), ("ap", None)], title=word, note=word)
    return Page(
        title=word,
        answer=(word,),
        facts=(Fact("NME", 0.0351, word), Fact(word, "12 ms"), Fact("AUC", float("nan"))),
        notes=(word, "only few images"),
        sections=[
            Section("Metrics", [metrics]),
            Section("Charts", [Charts([charts.cumulative_errors({word: errors.tolist()}, name=word), bars])]),
            *gallery_sections(
                [
                    *galleries.evaluation_galleries(instances, predicted, errors),
                    Gallery(word, [Picture(panel, word)] * 6, word, {word: (1, 2, 3)}, wide=True),
                    Gallery("empty", []),
                ]
            ),
            Section("Points", [Table(("point", "NME"), [(name, 0.1) for name in instances.skeleton.points])]),
            Section(word, [word, Commands([word])]),
            failed_section({word: word}),
            data_section({word: 3, "images": count, "share": 0.25}, [word] * 70),
            recipe_section({"model": {word: word, "size": (256, 192)}, "flip": None}, of=word),
        ],
        device=word,
    )


def without_pictures(html: str) -> str:
    return re.sub(r"base64,[^\"]*", "", html)


def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    path = write_page(tmp_path / "new" / "report.html", full_page(faces(40, 7), "a word"))
    html = path.read_text("utf-8")
    parsed = Html(html)
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe", "object", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "xlink:href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/jpeg;base64,", "#"))
    assert not re.search(r"url\(|@import|https?:|//[a-z]", without_pictures(html))
    targets = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    links = [attributes["href"] for attributes in parsed.attributes("a")]
    assert len(links) == 10
    assert {str(link)[1:] for link in links} <= targets
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_pictures_have_words_and_tables_have_headers() -> None:
    page = Html(render(full_page(faces(30, 7), "a word")))
    images = page.attributes("img")
    assert len(images) == 30 + 6
    assert all(attributes["alt"] and attributes["width"] for attributes in images)
    scopes = [attributes.get("scope") for attributes in page.attributes("th")]
    assert scopes.count("col") == 6
    assert scopes.count("row") == 3 + 7 + 1
    assert all(attributes["aria-label"] for attributes in page.attributes("svg"))
    assert page.attributes("html") == [{"lang": "en"}]


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    html = render(full_page(faces(3, 4, stem=HOSTILE.replace("/", "_")), HOSTILE))
    page = Html(html)
    assert "<script" not in html
    assert all(attributes["src"] != "x" and "onerror" not in attributes for attributes in page.attributes("img"))
    assert HOSTILE in page.text
    assert page.attributes("img")[-1]["alt"] == HOSTILE


def test_names_that_are_not_unicode_do_not_stop_the_report(tmp_path: Path) -> None:
    page = Page(title="bad \udcff name", notes=("眼 é",))
    html = write_page(tmp_path / "r.html", page).read_text("utf-8")
    assert "bad ? name" in html
    assert "眼 é" in html


def test_an_empty_report_and_undefined_metrics_are_pages_too() -> None:
    nothing = Html(render(Page(title="nothing")))
    assert re.fullmatch(r"nothing nothing Fiducial [\d.]+\S*, [\d-]+ [\d:]+", nothing.text)
    assert not [tag for tag, _ in nothing.tags if tag in ("img", "table", "svg", "section", "a")]
    blocks = [
        Table(("none", "b"), []),
        Gallery("none", []),
        Charts([]),
        Settings({}),
        Listing("none", []),
        Commands([]),
    ]
    empty = Page(title="t", facts=(Fact("x", np.nan),), sections=[Section("none", [block]) for block in [*blocks, ""]])
    sections = [failed_section({}), data_section({}, []), recipe_section({})]
    for without in (empty, Page(title="t", sections=sections)):
        html = Html(render(without))
        assert "none" not in html.text
        assert not html.attributes("section")
    text = Html(render(full_page(faces(2, 3), "w"))).text
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert "–" in text


def test_the_last_line_and_the_command_are_those_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    token = command_line.set("fiducial evaluate 'a folder' <data>")
    try:
        text = Html(render(Page(title="t", device="a chip of sand"))).text
    finally:
        command_line.reset(token)
    assert "fiducial evaluate 'a folder' <data>" in text
    assert text.endswith("a chip of sand")
    assert "fiducial evaluate" not in Html(render(Page(title="t"))).text


def test_a_command_is_shown_as_it_was_and_breaks_between_words_alone() -> None:
    line = "fiducial fit 'a <b>' --no-plan --out runs/one-two"
    html = render(Page(title="t", sections=[Section("h", [Commands([line])])]))
    shown = re.findall("<code>(.*?)</code>", html)
    assert [unescape(re.sub("<[^>]*>", "", each)) for each in shown] == [line]
    assert re.findall("<span>([^<]*)</span>", shown[0]) == ["--no-plan", "--out", "runs/one-two"]


def test_blocks_are_shown_in_their_order_under_their_heading() -> None:
    blocks = ["first words", Table(("n", "v"), [("second", 1)]), "third words", Commands(["fourth --x", "fifth"])]
    text = Html(render(Page(title="t", sections=[Section("Heading", blocks), Section("Other", ["last"])]))).text
    places = [text.rindex(word) for word in ("Heading", "first", "second", "third", "fourth", "fifth", "Other", "last")]
    assert places == sorted(places)


def test_a_page_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="can't be written"):
        write_page(tmp_path / "file" / "report.html", Page(title="t"))
    old = write_page(tmp_path / "report.html", Page(title="old"))
    with pytest.raises(jinja2.UndefinedError):
        write_page(old, Page(title="new", sections=[Section("h", [Charts([None])])]))  # type: ignore[list-item]
    assert "old" in old.read_text("utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "report.html"]


def test_images_of_galleries_are_written_beside_a_page(tmp_path: Path) -> None:
    tile = np.full((30, 40, 3), 200, np.uint8)
    tiles = Gallery("Worst first", [Picture(tile, "a")] * 5)
    sheet = Gallery("One sheet", [Picture(np.full((50, 90, 3), 90, np.uint8), "b")], wide=True)
    page.write_images(tmp_path / "pictures", [tiles, Gallery("none", []), sheet], ".png")
    written = {path.name: cv2.imread(str(path)) for path in (tmp_path / "pictures").iterdir()}
    assert sorted(written) == ["one_sheet.png", "worst_first.png"]
    assert (np.asarray(written["one_sheet.png"]) == 90).all()
    tiles_image = written["worst_first.png"]
    assert tiles_image is not None
    assert tiles_image.shape[1] > 4 * 40


def test_a_typical_report_stays_below_three_megabytes(tmp_path: Path) -> None:
    path = write_page(tmp_path / "r.html", full_page(faces(60, 68), "word"))
    assert 5e5 < path.stat().st_size < 3e6


def test_long_lists_of_problems_are_counted() -> None:
    text = Html(render(Page(title="t", sections=[data_section({}, [f"line {i}" for i in range(73)])]))).text
    assert "73 problems" in text
    assert "line 49 and 23 more" in text


def test_galleries_are_ordered_and_skip_what_was_not_measured() -> None:
    instances = faces(9, 4)
    errors = np.array([0.3, np.nan, 0.1, 0.9, 0.2, np.nan, 0.5, 0.8, 0.7])
    found = Keypoints(instances.xy.copy(), np.ones((9, 4)))
    found.xy[3] = np.nan
    found.xy[7, 2] += 30
    found.xy[7, 1] += 20
    worst, sample = galleries.evaluation_galleries(instances, found, errors, worst=3, random=2)
    assert [picture.caption for picture in worst.pictures] == [
        "NME 0.9000, picture_3.jpg, annotation 103",
        "NME 0.8000, picture_7.jpg, annotation 107; farthest: 1\u00a0point_2, 2\u00a0point_1",
        "NME 0.7000, picture_8.jpg, annotation 108; farthest: 1\u00a0point_0, 2\u00a0point_1",
    ]
    assert len({picture.caption for picture in sample.pictures}) == len(sample.pictures) == 2
    assert worst.pictures[0].image.shape == (256, 256, 3)
    (all_of_few,) = galleries.evaluation_galleries(instances, found, errors, worst=3, random=4)
    assert len(all_of_few.pictures) == 7
    assert [each.caption for each in all_of_few.pictures[:3]] == [each.caption for each in worst.pictures]
    assert galleries.evaluation_galleries(instances, found, np.full(9, np.nan)) == []


def test_tiles_show_the_instance_where_its_box_is() -> None:
    """A tile's dot of truth is the point seen through the box; a box of no use falls back to the points."""
    boxes = ([90.5, 80.5, 200, 200], [0, 0, 0, 0], [np.nan] * 4, [5, 5, -3, 9])
    nowhere, size = np.full((1, 2), np.nan), Size(125, 125)
    for box in boxes:
        # The first box is centred on px (190, 180), and so is the one around the only point: px 62 of the tile.
        one = replace(faces(1, 1), xy=np.array([[[190, 180]]], np.float32), box_xywh=np.array([box], np.float32))
        assert tuple(galleries.instance_tile(one, 0, nowhere, size)[62, 62]) == pictures.TRUTH
        unlabelled = replace(one, visibility=np.zeros((1, 1), np.uint8))
        assert galleries.instance_tile(unlabelled, 0, nowhere, size).shape == (125, 125, 3)


def test_long_names_break_between_their_words_and_nowhere_else() -> None:
    name = "session_2026_camera-left/frame_00012.jpg"
    assert str(page.breakable(name)).replace("<wbr>", "|") == "session_|2026_|camera-|left/|frame_|00012.jpg"
    assert str(page.breakable("left_eye <b>")) == "left_eye &lt;b&gt;"
    assert str(page.breakable(0.25)) == "0.2500"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("this run has learnt little; try more epochs", "This run has learnt little; try more epochs."),
        ("--split test says more.", "--split test says more."),
        ("a.json: 3 labels left out", "a.json: 3 labels left out."),
    ],
)
def test_lines_as_sentences(line: str, expected: str) -> None:
    assert sentence(line) == expected


def test_explanations_stand_below_on_a_phone() -> None:
    section = Section("Metrics", [metric_table([("nme", 0.5, "mean error")], "On val", "")])
    html = Html(render(Page(title="t", sections=[section])))
    assert [table["class"] for table in html.attributes("table")] == ["below"]


def test_long_tables_and_settings_are_folded() -> None:
    short, long = ([(f"row {i}", i) for i in range(count)] for count in (page.MOST_OPEN, page.MOST_OPEN + 1))
    assert not Html(render(Page(title="t", sections=[Section("s", [Table(("a", "b"), short)])]))).attributes("details")
    folded = Html(render(Page(title="t", sections=[Section("s", [Table(("a", "b"), long), Settings(dict(long))])])))
    assert len(folded.attributes("details")) == 2
    assert f"Show all {len(long)} rows" in folded.text
    assert "row 40 40" in folded.text


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
