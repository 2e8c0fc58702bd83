"""Files whose numbers, lengths and depths ask for much more than the file has: an answer or a line, in little memory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile import limits

from fiducial.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and /proc are Linux's")
IMAGE = '{"id": 1, "file_name": "a.png", "width": 50, "height": 40}'
ITEM = '{"id": %d, "image_id": 1, "category_id": 1, "keypoints": [5, 6, 2, 7, 8, 2], "bbox": [1, 2, 20, 20]}'
CATEGORY = '{"id": 1, "name": "newt", "keypoints": ["a", "b"]}'


def coco(images: str = IMAGE, annotations: str = ITEM % 1, categories: str = CATEGORY, more: str = "") -> str:
    return f'{{"images": [{images}], "annotations": [{annotations}], "categories": [{categories}]{more}}}'


def named(count: int) -> str:
    return CATEGORY.replace('"a", "b"', ",".join(f'"p{i}"' for i in range(count)))


# Texts, and words of the line that refuses them; None where they are read.
TEXTS: dict[str, tuple[Any, str | None]] = {
    "many points for many annotations": (
        lambda: coco(
            annotations=",".join(['{"image_id": 1, "category_id": 1, "keypoints": []}'] * 50_000),
            categories=named(50_000),
        ),
        "50,000 points for each of 50,000 annotations",
    ),
    "many annotations that say nothing": (
        lambda: coco(annotations=",".join(["{}"] * 50_000)),
        "is not among the 1 images",
    ),
    "many numbers in one annotation": (
        lambda: coco(annotations=(ITEM % 1).replace("5, 6, 2, 7, 8, 2", ",".join(["1"] * 2_000_000))),
        "2000000 numbers in its keypoints, expected 6",
    ),
    "many categories": (
        lambda: coco(categories=",".join(CATEGORY.replace("1", str(i + 1)) for i in range(30_000))),
        None,
    ),
    "many categories, one wanted": (
        lambda: coco(
            categories=",".join(CATEGORY.replace("1", str(i)).replace("newt", f"c{i}") for i in range(50_000)),
            annotations=",".join(ITEM.replace('"category_id": 1', f'"category_id": {i}') % i for i in (1, 2)),
        ),
        None,
    ),
    "many categories of other annotations": (
        lambda: coco(
            annotations=",".join(ITEM.replace('"category_id": 1', f'"category_id": {i + 5}') % i for i in range(30_000))
        ),
        "all its 30000 annotations have category_id 5",
    ),
    "deep lists in a field": (
        lambda: coco(annotations=(ITEM % 1)[:-1] + ', "segmentation": ' + "[" * 500_000 + "]" * 500_000 + "}"),
        "nested",
    ),
    "deep objects beside": (lambda: coco(more=', "info": ' + '{"a":' * 200_000 + "1" + "}" * 200_000), "nested"),
    "deep points": (lambda: coco(annotations=(ITEM % 1).replace("[5, 6", "[" * 900 + "5" + "]" * 900 + ", 6")), None),
    "a long number": (lambda: coco(annotations=(ITEM % 1).replace("[5,", "[" + "9" * 5_000_000 + ",")), None),
    "a long name of a file": (lambda: coco(images=IMAGE.replace("a.png", "a" * 5_000_000 + ".png")), "were not found"),
    "a long name of a category": (lambda: coco(categories=CATEGORY.replace("newt", "n" * 5_000_000)), None),
    "a long line": (lambda: " " * 50_000_000 + coco(), None),
    "a wide image": (lambda: coco(images=IMAGE.replace("50", "2147483647").replace("40", "2147483647")), None),
    "many images of one name": (
        lambda: coco(images=",".join(IMAGE.replace("1", str(i + 1)) for i in range(30_000))),
        None,
    ),
    "many parts of a name": (lambda: coco(images=IMAGE.replace("a.png", "b/" * 200_000 + "a.png")), None),
    "many edges": (lambda: coco(categories=CATEGORY[:-1] + f', "skeleton": [{",".join(["[1, 2]"] * 50_000)}]}}'), None),
    "far edges": (lambda: coco(categories=CATEGORY[:-1] + ', "skeleton": [[1, 99999999999]]}'), None),
}


def read_one(name: str) -> str:
    """Reads a text as boxes and as truth; in a process of `limits.run`."""
    from fiducial.data import annotations
    from fiducial.evaluation.coco_files import read_truth
    from fiducial.prediction import boxes

    file = Path(name)
    said = []
    for read in (
        lambda: annotations.load(file, "all", verify=False),
        lambda: read_truth(file),
        lambda: boxes.read(file),
    ):
        try:
            read()
        except UserError as error:
            said.append(str(error))
    if said:
        raise UserError(max(said, key=lambda line: (limits.is_line(line), "nested" in line, len(line))))
    return ""


def test_what_a_file_asks_for(tmp_path: Path) -> None:
    files = []
    for place, (text, _) in enumerate(TEXTS.values()):
        files.append(tmp_path / str(place) / "test.json")
        files[-1].parent.mkdir()
        (files[-1].parent / "a.png").write_bytes(b"")
        files[-1].write_text(text())
    outcomes = limits.run("hostile.test_large:read_one", list(map(str, files)), megabytes=1024)
    assert not limits.faults(outcomes), limits.table(outcomes)
    for outcome, (name, (_, said)) in zip(outcomes, TEXTS.items(), strict=True):
        assert said is None or (outcome.kind == "refused" and said in outcome.said), (name, outcome)


def make(kind: str, path: Path) -> None:
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a loop":
        path.symlink_to(path.name)
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(50 * 2**30)
    elif kind == "another encoding":
        path.write_bytes("caf\u00e9: \u20ac1".encode("cp1252"))
    elif kind == "empty":
        path.write_bytes(b"")


KINDS = ["a folder", "a pipe", "a device", "a loop", "too large", "another encoding", "empty", "missing", "a" * 300]


def read_kind(value: list[str]) -> str:
    """Reads a path by one of the doors; in a process of `limits.run`."""
    from fiducial import config, files, text_files
    from fiducial.data import annotations, yaml_file
    from fiducial.data.formats import lapa
    from fiducial.evaluation import predictions
    from fiducial.prediction import boxes

    del config
    door, path = value[0], Path(value[1])
    doors: dict[str, Any] = {
        "JSON": lambda: files.read_json(path),
        "lines": lambda: list(text_files.lines(path)) or text_files.read_bytes(path),
        "YAML": lambda: yaml_file.read(path) or text_files.read_bytes(path),
        "boxes": lambda: boxes.given(path),
        "points": lambda: lapa._points_of(path),
        "predictions": lambda: predictions.evaluate_results(path, path),
        "data": lambda: annotations.load(path, "train"),
    }
    try:
        doors[door]()
    except ValueError as error:
        raise UserError(str(error)) from error
    return ""


def test_what_a_path_is(tmp_path: Path) -> None:
    values = []
    for place, kind in enumerate(KINDS):
        path = tmp_path / (kind if len(kind) > 200 else f"{place}.json")
        make(kind, path)
        doors = ("JSON", "lines", "YAML", "boxes", "points", "predictions", "data")
        values += [[door, str(path), kind] for door in doors]
    outcomes = limits.run("hostile.test_large:read_kind", values, seconds=3, megabytes=300)
    assert not limits.faults(outcomes), limits.table(outcomes)
    for outcome in outcomes:
        door, path, kind = outcome.value
        assert outcome.kind == "refused", outcome
        assert path[:100] in outcome.said or door == "points", outcome


def test_a_larger_file_may_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiducial import text_files

    (tmp_path / "a.json").write_text(json.dumps(["x" * 2**20]))
    with pytest.raises(UserError, match=r"a\.json: 1 MB, the limit is 0\.5; raise it by FIDUCIAL_MAX_TEXT_MB=MB"):
        text_files.read_json(tmp_path / "a.json", 0.5)
    monkeypatch.setenv("FIDUCIAL_MAX_TEXT_MB", "2")
    assert len(text_files.read_json(tmp_path / "a.json", 0.5)[0]) == 2**20
    monkeypatch.setenv("FIDUCIAL_MAX_TEXT_MB", "much")
    with pytest.raises(UserError, match="FIDUCIAL_MAX_TEXT_MB: expected a number"):
        text_files.read_json(tmp_path / "a.json", 0.5)
