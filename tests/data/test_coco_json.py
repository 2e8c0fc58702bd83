"""One table of COCO files as tools write them, read in all ways: each must give the same rows, ids as they were, and say
what it left out or assumed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from fiducial.data import annotations, checking
from fiducial.data.coco_json import content, labels
from fiducial.data.file_names import FileNames
from fiducial.errors import UserError
from fiducial.evaluation.coco_files import read_truth
from fiducial.prediction import boxes
from fiducial.types import Findings

W, H = 50, 40
Change = Callable[[dict[str, Any]], Any]


def document() -> dict[str, Any]:
    """Five instances on three images; ids are far from rows, numbers are not round."""
    owner = [40, 40, 7, 7, 19]
    items = []
    for place, image_id in enumerate(owner):
        x, y = 6.25 + 5 * place, 8.5 + 3 * place
        items.append(
            {
                "id": 301 + 10 * place,
                "image_id": image_id,
                "category_id": 3,
                "iscrowd": 0,
                "num_keypoints": 2,
                "keypoints": [x, y, 2, x + 7.5, y + 4, 1, 0, 0, 0],
                "bbox": [x - 2, y - 3, 13, 11],
                "area": 90.5,
            }
        )
    return {
        "images": [{"id": i, "file_name": f"shot_{i}.png", "width": W, "height": H} for i in (40, 7, 19)],
        "annotations": items,
        "categories": [{"id": 3, "name": "newt", "keypoints": ["nose", "left_eye", "right_eye"]}],
    }


class Row(NamedTuple):
    annotation_id: Any
    image_id: Any
    file_name: str
    box: tuple[float, ...]
    points: tuple[float, ...] | None = None  # None: the way of reading knows none
    area: float | None = None
    visibility: tuple[int, ...] | None = None


def rows_of(instances: Any) -> list[Row]:
    """The rows of `Instances`, in the order of their ids' places in the file."""
    return [
        Row(
            instances.annotation_id[row],
            instances.image_id[instances.image_row[row]],
            Path(instances.images.name(int(instances.image_row[row]))).name,
            tuple(np.round(instances.box_xywh[row].astype(float), 4).tolist()),
            tuple(np.round(instances.xy[row][instances.labelled[row]].ravel().astype(float), 4).tolist()),
            round(float(instances.area[row]), 3),
            tuple(instances.visibility[row].tolist()),
        )
        for row in range(len(instances))
    ]


def by_fit(file: Path) -> tuple[list[Row], list[str], list[str]]:
    instances, problems = annotations.load(file.parent.parent, "test")
    wrong = checking.without_notes(problems)
    return rows_of(instances), [str(line) for line in wrong], [str(line) for line in problems if line.is_note]


def by_evaluation(file: Path) -> tuple[list[Row], list[str], list[str]]:
    findings = Findings(str(file))
    labels = read_truth(file, findings)
    return rows_of(labels.instances), [str(line) for line in findings.wrong], [str(line) for line in findings.notes]


def by_boxes(file: Path) -> tuple[list[Row], list[str], list[str]]:
    found = boxes.read(file)
    rows = [
        Row(number, image_id, name, tuple(np.round(xywh, 4).tolist()))
        for name, image in zip(found.names, found.boxes, strict=True)
        for number, image_id, xywh in zip(image.annotation_ids, image.image_ids, image.xywh, strict=True)
    ]
    return rows, list(found.problems), list(found.notes)


WAYS = {"fit": by_fit, "evaluate --predictions": by_evaluation, "predict --boxes": by_boxes}


def write(folder: Path, content: dict[str, Any]) -> Path:
    for place, name in enumerate(("shot_40.png", "shot_7.png", "shot_19.png")):
        (folder / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "images" / name), np.full((H, W, 3), 40 * place, np.uint8))
    (folder / "annotations").mkdir()
    (folder / "annotations" / "test.json").write_text(json.dumps(content))
    return folder / "annotations" / "test.json"


def entry(row: int, **values: Any) -> Change:
    return lambda content: content["annotations"][row].update(values)


def without(*fields: str, rows: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Change:
    def change(content: dict[str, Any]) -> None:
        for row in rows:
            for field in fields:
                del content["annotations"][row][field]

    return change


def each(kind: str, field: str, value: Callable[[Any], Any]) -> Change:
    """Changes a field of all images or annotations, where they have it."""
    return lambda content: [item.update({field: value(item[field])}) for item in content[kind] if field in item]


def image_ids(value: Callable[[int], Any], of_annotations: Callable[[int], Any] | None = None) -> Change:
    def change(content: dict[str, Any]) -> None:
        each("images", "id", value)(content)
        each("annotations", "image_id", of_annotations or value)(content)

    return change


def all_of(*changes: Change) -> Change:
    return lambda content: [change(content) for change in changes]


def keypoints(row: int, change: Callable[[list[Any]], Any]) -> Change:
    return lambda content: entry(row, keypoints=change(content["annotations"][row]["keypoints"]))(content)


def triples(values: list[Any]) -> list[list[Any]]:
    return [values[start : start + 3] for start in range(0, len(values), 3)]


def pairs(values: list[Any]) -> list[Any]:
    return [value for point in triples(values) for value in point[:2]]


EVERY = [0, 1, 2, 3, 4]
BUT_SECOND = [0, 2, 3, 4]
# The rows that stay as they are, and words that must be said: of what is left out, and of what was assumed.
SAME: dict[str, tuple[Change, str]] = {
    "as it is": (lambda content: None, ""),
    "image ids are text": (image_ids(lambda number: f"shot_{number}"), ""),
    "image ids are padded": (image_ids(lambda number: f"{number:012}"), ""),
    "image ids are floats": (image_ids(float), ""),
    "image ids are negative": (image_ids(lambda number: -number), ""),
    "image ids are above 2^63": (image_ids(lambda number: 2**70 + number), ""),
    "image ids are half numbers": (image_ids(lambda number: number + 0.5), ""),
    "image ids are text there, numbers here": (image_ids(str, int), ""),
    "image ids are padded there, numbers here": (image_ids(lambda number: f"{number:06}", int), ""),
    "annotation ids are text": (each("annotations", "id", lambda number: f"a{number}"), ""),
    "annotation ids are above 2^63": (each("annotations", "id", lambda number: 2**66 + number), ""),
    "annotation ids are floats": (each("annotations", "id", float), ""),
    "category ids are text": (
        lambda content: [
            each("annotations", "category_id", str)(content),
            content["categories"][0].update(id="003"),
        ],
        "",
    ),
    "no category ids": (
        all_of(without("category_id"), lambda content: content["categories"][0].pop("id")),
        "",
    ),
    "iscrowd is text": (each("annotations", "iscrowd", lambda _: "0"), ""),
    "iscrowd is false": (each("annotations", "iscrowd", lambda _: False), ""),
    "iscrowd is a float": (each("annotations", "iscrowd", lambda _: 0.0), ""),
    "iscrowd is null": (each("annotations", "iscrowd", lambda _: None), ""),
    "no iscrowd, no num_keypoints": (without("iscrowd", "num_keypoints"), ""),
    "nested keypoints": (each("annotations", "keypoints", triples), ""),
    "points that nobody set are null": (keypoints(1, lambda values: [*values[:6], None, None, None]), ""),
    "nested, null for a point": (keypoints(1, lambda values: [*triples(values[:6]), None]), ""),
    "nested, one point without v": (
        keypoints(1, lambda values: [values[0:2], values[3:6], values[6:9]]),
        "",
    ),
    "v is true or false": (
        keypoints(
            1,
            lambda values: [
                True if place == 2 else False if place == 8 else value for place, value in enumerate(values)
            ],
        ),
        "",
    ),
    "x, y without v": (each("annotations", "keypoints", pairs), "have x, y of each point without v"),
    "numbers are text": (
        all_of(
            each("annotations", "keypoints", lambda values: [str(value) for value in values]),
            each("annotations", "bbox", lambda values: [str(value) for value in values]),
        ),
        "",
    ),
    "widths are text": (each("images", "width", str), ""),
    "no declared sizes": (
        lambda content: [image.pop(side) for image in content["images"] for side in ("width", "height")],
        "",
    ),
    "an image that nobody labels, twice": (
        lambda content: content["images"].extend([{"id": 55, "file_name": "shot_40.png"}] * 2),
        "",
    ),
    "more categories": (
        lambda content: content["categories"].append({"id": 4, "name": "newt", "supercategory": "x"}),
        "",
    ),
}
IDS_AS_THEY_WERE = [name for name in SAME if "ids" in name]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SAME)
def test_spellings_of_one_file(tmp_path: Path, way: str, name: str) -> None:
    change, note = SAME[name]
    (tmp_path / "plain").mkdir()
    expected, _, _ = WAYS[way](write(tmp_path / "plain", document()))
    content = document()
    change(content)
    rows, wrong, notes = WAYS[way](write(tmp_path, content))
    assert not wrong
    assert way == "predict --boxes" or note in " ".join(notes)
    ids = {image["file_name"]: image["id"] for image in reversed(content["images"])}
    ours: dict[str, Any] = {"annotation_id": 0, "image_id": 0}
    if name == "x, y without v":
        ours["visibility"] = None
    assert [row._replace(**ours) for row in rows] == [row._replace(**ours) for row in expected]
    assert [row.annotation_id for row in rows] == [item["id"] for item in content["annotations"]]
    assert [(row.image_id, type(row.image_id) is str) for row in rows] == [
        (ids[row.file_name], isinstance(ids[row.file_name], str)) for row in rows
    ]


# What is left out, by place, and what is said of it.
LEFT_OUT: dict[str, tuple[Change, list[int], str]] = {
    "a box of three": (entry(1, bbox=[1, 2, 3]), [1], "annotation 311: bbox is [1, 2, 3]; expected 4 numbers"),
    "a box of three and one of five": (
        all_of(entry(1, bbox=[1, 2, 3]), entry(2, bbox=[1, 2, 3, 4, 5])),
        [1, 2],
        "annotation 321: bbox is",
    ),
    "a box that is an object": (entry(1, bbox={"x": 1}), [1], "annotation 311: bbox is"),
    "a box of words": (entry(1, bbox=["a", 1, 2, 3]), [1], "annotation 311: bbox is"),
    "a box of no area": (entry(1, bbox=[5, 5, 0, 9]), [1], "annotation 311: its box [5.0, 5.0, 0.0, 9.0] has no area"),
    "points of words": (keypoints(1, lambda values: ["left", *values[1:]]), [1], "annotation 311: keypoints is"),
    "points that are an object": (entry(1, keypoints={"nose": [1, 2, 2]}), [1], "annotation 311:"),
    "an area of words": (entry(1, area="n/a"), [1], 'annotation 311: area is "n/a"; expected 1 number'),
    "a crowd of words": (entry(1, iscrowd="maybe"), [1], "annotation 311: iscrowd is maybe, expected 0 or 1"),
    "v of 3": (
        keypoints(1, lambda values: [*values[:2], 3, *values[3:]]),
        [1],
        "annotation 311: v is 3 at point 'nose'",
    ),
    "v of a half": (keypoints(1, lambda values: [*values[:2], 0.5, *values[3:]]), [1], "annotation 311: v is 0.5"),
    "a point of NaN": (keypoints(1, lambda values: [float("nan"), *values[1:]]), [1], "annotation 311: point 'nose'"),
    "too few points": (keypoints(1, lambda values: values[:8]), [1], "annotation 311: 8 numbers in its keypoints"),
    "an unknown image": (entry(1, image_id=41), [1], "annotation 311: image id 41 is not among the 3 images"),
    "an image id that is a list": (entry(1, image_id=[40]), [1], "annotation 311: image_id is [40], expected a number"),
    "an unknown category": (
        all_of(entry(1, category_id=9), entry(3, category_id=9)),
        [1, 3],
        "2 annotations have category_id 9; the file's categories are 3 ('newt')",
    ),
    "an image without an id": (
        lambda content: content["images"][1].pop("id"),
        [2, 3],
        "image [1]: has no id ('shot_7.png')",
    ),
    "an entry that is none": (
        lambda content: content["annotations"].append("none"),
        [],
        "annotation [5]: is none, expected an object",
    ),
    "an entry twice": (
        lambda content: content["annotations"].append(copy.deepcopy(content["annotations"][2])),
        [],
        "annotation 321: the id is used twice in image 7",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_entry_that_can_not_be_used_is_left_out_and_listed(tmp_path: Path, way: str, name: str) -> None:
    change, lost, said = LEFT_OUT[name]
    (tmp_path / "plain").mkdir()
    expected, _, _ = WAYS[way](write(tmp_path / "plain", document()))
    content = document()
    change(content)
    rows, wrong, _ = WAYS[way](write(tmp_path, content))
    assert rows == [row for place, row in enumerate(expected) if place not in lost]
    assert said in "\n".join(wrong)
    assert all("test.json: " in line for line in wrong)
    spoiled = document()
    for place in range(5):
        if lost == [1] and "image" not in name:
            spoiled["annotations"][place] = {**document()["annotations"][place], **content["annotations"][1]}
            spoiled["annotations"][place]["id"] = 900 + place
    if lost == [1] and "image" not in name:  # refused only where nothing is left
        (tmp_path / "all").mkdir()
        with pytest.raises(UserError, match=r"test\.json"):
            WAYS[way](write(tmp_path / "all", spoiled))


# What is made up, and the note that says so.
ASSUMED: dict[str, tuple[Change, str]] = {
    "no area": (without("area"), "5 of 5 annotations have no area above 0: w h of the box"),
    "an area of 0": (each("annotations", "area", lambda _: 0), "5 of 5 annotations have no area above 0"),
    "an area below 0": (each("annotations", "area", lambda _: -4), "5 of 5 annotations have no area above 0"),
    "an area of NaN": (each("annotations", "area", lambda _: float("nan")), "5 of 5 annotations have no area above 0"),
    "an area of null": (each("annotations", "area", lambda _: None), "5 of 5 annotations have no area above 0"),
}


@pytest.mark.parametrize("way", ["fit", "evaluate --predictions"])
@pytest.mark.parametrize("name", ASSUMED)
def test_one_rule_for_areas(tmp_path: Path, way: str, name: str) -> None:
    change, said = ASSUMED[name]
    content = document()
    change(content)
    rows, wrong, notes = WAYS[way](write(tmp_path, content))
    assert not wrong
    assert [row.area for row in rows] == [13 * 11] * 5
    assert said in "\n".join(notes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", ["missing", None, []])
def test_boxes_are_made_of_points(tmp_path: Path, way: str, value: Any) -> None:
    content = document()
    (without("bbox", rows=(1, 3)) if value == "missing" else all_of(entry(1, bbox=value), entry(3, bbox=value)))(
        content
    )
    rows, wrong, notes = WAYS[way](write(tmp_path, content))
    assert not wrong
    assert "2 annotations have no bbox: made of their points" in "\n".join(notes)
    # Points 7.5 across and 4 down, whose pixels reach half a px further, and a tenth of their extent around.
    x, y = 11.25, 11.5
    assert rows[1].box == pytest.approx((x + 0.5 - 0.75, y + 0.5 - 0.4, 7.5 * 1.2, 4 * 1.2), abs=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ids", [[None] * 5, [0] * 5, [1, 2, 1, 2, 1], [5, 5, "a", None, 7]])
def test_annotation_ids_are_not_needed(tmp_path: Path, way: str, ids: list[Any]) -> None:
    content = document()
    for item, number in zip(content["annotations"], ids, strict=True):
        item["id"] = number
    rows, wrong, notes = WAYS[way](write(tmp_path, content))
    assert not wrong
    assert [row.annotation_id for row in rows] == [1, 2, 3, 4, 5]
    [said] = [line for line in notes if "numbered" in line]
    assert "they are numbered from 1 by their place in the file" in said


@pytest.mark.parametrize("way", WAYS)
def test_one_file_under_two_ids(tmp_path: Path, way: str) -> None:
    content = document()
    content["images"][1].update(file_name="shot_40.png")
    rows, wrong, _ = WAYS[way](write(tmp_path, content))
    assert not wrong
    assert [(row.image_id, row.file_name) for row in rows[:4]] == [(40, "shot_40.png")] * 2 + [(7, "shot_40.png")] * 2
    found = boxes.read(tmp_path / "annotations" / "test.json").of("shot_40.png")
    assert found is not None
    assert found.image_ids == [40, 40, 7, 7]
    assert found.annotation_ids == [301, 311, 321, 331]


@pytest.mark.parametrize("way", ["fit", "evaluate --predictions", "predict --boxes"])
def test_all_of_an_unknown_category(tmp_path: Path, way: str) -> None:
    content = document()
    content["categories"][0]["id"] = 2
    with pytest.raises(
        UserError, match=r"all its 5 annotations have category_id 3; the file's categories are 2 \('newt'\)"
    ):
        WAYS[way](write(tmp_path, content))


def test_categories_of_one_name(tmp_path: Path) -> None:
    """Roboflow writes its root as a category of the same name; of two that have points, the id says which."""
    content = document()
    content["categories"].insert(0, {"id": 0, "name": "newt"})
    file = write(tmp_path, content)
    for category in (None, "newt", "3"):
        assert len(labels.read(file, category, Findings("")).instances) == 5
    content["annotations"][0]["category_id"] = 0
    content["categories"][0]["keypoints"] = ["nose", "left_eye", "right_eye"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"several categories have keypoints: 0 .*, 3 .*choose one with --category ID"):
        labels.read(file, "newt", Findings(""))
    assert len(labels.read(file, "0", Findings("")).instances) == 1


def test_instances_that_evaluation_ignores(tmp_path: Path) -> None:
    """A crowd, one without points, one whose own count is 0: kept for evaluation, in both of its ways alike."""
    content = document()
    entry(0, iscrowd=1)(content)
    entry(1, keypoints=[0] * 9, num_keypoints=0)(content)
    entry(2, num_keypoints=0)(content)
    file = write(tmp_path, content)
    evaluated, _ = annotations.load(tmp_path, "test", ignored=True)
    truth = read_truth(file).instances
    for instances in (evaluated, truth):
        assert instances.annotation_id.tolist() == [301, 311, 321, 331, 341]
        assert instances.ignored.tolist() == [True, True, True, False, False]
    trained, problems = annotations.load(tmp_path, "test")
    assert trained.annotation_id.tolist() == [301, 321, 331, 341]
    assert any("1 of 5 instances have no labelled point: left out" in str(line) for line in problems)


def test_the_folder_of_most_images(tmp_path: Path) -> None:
    """Also where the first are missing; they are listed one by one."""
    content = document()
    missing = [{"id": 100 + place, "file_name": f"gone_{place}.png"} for place in range(6)]
    content["images"] = missing + content["images"]
    content["annotations"] += [
        {**content["annotations"][0], "id": 1000 + place, "image_id": 100 + place} for place in range(6)
    ]
    write(tmp_path, content)
    for image in sorted((tmp_path / "images").iterdir()):
        image.rename(tmp_path / image.name)
    (tmp_path / "images" / "gone_0.png").write_bytes((tmp_path / "shot_7.png").read_bytes())
    instances, problems = annotations.load(tmp_path, "test")
    assert len(instances) == 5
    assert sum("the picture is missing; 1 annotation left out" in str(line) for line in problems) == 6


def test_deep_nesting_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(UserError, match=r"a\.json: "):
        content.load(tmp_path / "a.json", Findings(""))


def test_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(document()).encode())
    assert len(boxes.read(tmp_path / "a.json").names) == 3


def test_names_of_files() -> None:
    names = FileNames(["day/a.jpg", "night\\a.jpg", "night/b.jpg", "./c.jpg", "c.jpg"])
    cases = {
        "day/a.jpg": [0],
        "x/day/a.jpg": [0],
        "night/a.jpg": [1],
        "a.jpg": [0, 1],
        "dusk/a.jpg": [],
        "b.jpg": [2],
        "images/b.jpg": [2],
        "c.jpg": [3, 4],
        "d.jpg": [],
        "": [],
    }
    assert {name: names.rows_of(name) for name in cases} == cases
    assert names.is_one_file([3, 4])
    assert not names.is_one_file([0, 1])


BY, BY_NC = {"id": 1, "name": "CC BY 4.0", "url": "https://example.org"}, {"id": 2, "url": "https://example.org/nc"}


@pytest.mark.parametrize(
    ("licenses", "of_images", "expected"),
    [
        (None, [None] * 3, ()),
        ([], [None] * 3, ()),
        ([BY], [None] * 3, ("CC BY 4.0",)),
        ([BY, BY_NC], [None] * 3, ("CC BY 4.0", "https://example.org/nc")),
        ([BY, BY_NC], [2, 2, None], ("https://example.org/nc",)),
        ([BY, BY, {"id": 3}, {"id": 4, "name": 5}, 7, None], [1, 3, 4], ("CC BY 4.0",)),
        ([BY], [[1], {}, "x"], ()),
        ("CC0", [None] * 3, ()),
        ({"name": "CC0"}, [1] * 3, ()),
        ([{"name": " CC\n0 " + "x" * 500}], [None] * 3, ("CC 0 " + "x" * 500,)),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_licences_of_the_images(
    tmp_path: Path, licenses: Any, of_images: list[Any], expected: tuple[str, ...], broken: bool
) -> None:
    """What makes no sense there is passed over: no label hangs on it. Also where other entries are read one by one."""
    table = document()
    if licenses is not None:
        table["licenses"] = licenses
    for image, number in zip(table["images"], of_images, strict=True):
        image.update({} if number is None else {"license": number})
    if broken:
        table["annotations"][0]["num_keypoints"] = "many"
    (tmp_path / "a.json").write_text(json.dumps(table))
    told = labels.read(tmp_path / "a.json", None, Findings("a.json")).instances.licences
    assert len(told) == len(expected)
    assert all(
        wanted.startswith(each.partition(" ..")[0]) and len(each) <= 200
        for wanted, each in zip(expected, told, strict=True)
    )


def whole_body(tmp_path: Path, **changes: Any) -> tuple[Any, str]:
    """One person of COCO-WholeBody; point i of all 133 is at (i, 2 i)."""
    from fiducial.data.skeletons import BODY_PARTS, COCO17

    def part(first: int, count: int) -> list[float]:
        return [value for i in range(first, first + count) for value in (i, 2 * i, 2)]

    entry: dict[str, Any] = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": part(0, 17)}
    first = 17
    for name, count in BODY_PARTS:
        entry[name] = part(first, count)
        first += count
    entry |= changes
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.points), "skeleton": [[16, 14]]}
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [entry], "categories": [category]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    findings = Findings("a.json")
    return labels.read(tmp_path / "a.json", None, findings).instances, " ".join(map(str, findings.problems))


def test_whole_bodies_have_133_points(tmp_path: Path) -> None:
    """The body's, the feet's, the face's and the hands' fields in this order, as the set's own evaluation has them."""
    read, said = whole_body(tmp_path)
    assert read.xy[0].tolist() == [[i, 2 * i] for i in range(133)]
    assert read.skeleton.name == "wholebody133"
    assert read.skeleton.points[17:24] == (
        *("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel", "face_0"),
    )
    assert read.skeleton.points[91] == "left_hand_root"
    assert read.skeleton.points[132] == "right_pinky_finger4"
    assert read.skeleton.flip_order[[17, 23, 91, 132]].tolist() == [20, 39, 112, 111]
    assert read.skeleton.sigmas is not None
    assert len(read.skeleton.sigmas) == 133
    assert "COCO-WholeBody" in said
    hand_off, _ = whole_body(tmp_path, lefthand_kpts=[0, 0, 0] * 21, face_kpts=[5, 6, 0.7] * 68)
    assert hand_off.visibility[0, 91:112].tolist() == [0] * 21
    assert hand_off.visibility[0, 23:91].tolist() == [2] * 68
    flat = [value for i in range(133) for value in (i, 2 * i, 2)]
    nothing = dict.fromkeys(("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"))
    assert whole_body(tmp_path, keypoints=flat, **nothing)[0].xy[0].tolist() == [[i, 2 * i] for i in range(133)]
    only_body, _ = whole_body(tmp_path, **nothing)
    assert only_body.xy.shape == (1, 17, 2)


def test_fewer_points_than_names(tmp_path: Path) -> None:
    """Human-Art's category names 21, and `keypoints` of all annotations have 17."""
    names = [f"p{i}x" for i in range(5)]
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 2, 5, 6, 1]} for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "x", "keypoints": names, "skeleton": [[1, 2], [3, 5]]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    findings = Findings("a.json")
    read = labels.read(tmp_path / "a.json", None, findings).instances
    assert read.skeleton.points == ("p0x", "p1x", "p2x")
    assert read.skeleton.edges == ((0, 1),)
    assert "names 5 points, its annotations have 3" in " ".join(map(str, findings.problems))


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("track_id", [4, 9, 4, 9, 4], [4, 9, 4, 9, 4]),
        ("instance_id", [4, 9, 4, None, 4.0], [4, 9, 4, -1, 4]),
        ("track_id", ["tom", "ann", "tom", "", "ann"], [0, 1, 0, -1, 1]),
        ("track_id", [1, -1, [3], {"a": 1}, True], [1, -1, -1, -1, -1]),
        ("track_id", [None, None, [], None, None], None),
    ],
)
def test_who_is_who(tmp_path: Path, field: str, values: list[Any], expected: list[int] | None) -> None:
    changed = document()
    for item, value in zip(changed["annotations"], values, strict=True):
        if value is not None:
            item[field] = value
    instances = read_truth(write(tmp_path, changed)).instances
    assert (None if instances.track is None else instances.track.tolist()) == expected
    if expected is not None:
        chosen = instances.select(np.array([2, 1]))
        assert chosen.track is not None
        assert chosen.track.tolist() == [expected[2], expected[1]]
        assert chosen.with_points(instances.skeleton).track is chosen.track
