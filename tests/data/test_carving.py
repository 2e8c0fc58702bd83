"""Splits that a set doesn't have: no series on two sides, one image each from three on, the old ones where names tell of none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiducial.data import annotations
from fiducial.data.source import Source
from fiducial.errors import UserError

SPLITS = ("train", "val", "test")


def folder_of(root: Path, names: list[str], **fields: list[str]) -> Path:
    image = np.zeros((32, 32, 3), np.uint8)
    for name in names:
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "images" / name), image)
    entries = [
        {"id": row, "file_name": name, **{field: values[row] for field, values in fields.items()}}
        for row, name in enumerate(names)
    ]
    labels = [
        {"id": row + 1, "image_id": row, "category_id": 1, "keypoints": [5, 5, 2, 20, 9, 2], "bbox": [2, 2, 24, 24]}
        for row in range(len(names))
    ]
    category = {"id": 1, "name": "thing", "keypoints": ["a", "b"]}
    (root / "annotations").mkdir()
    content = {"images": entries, "annotations": labels, "categories": [category]}
    (root / "annotations" / "train.json").write_text(json.dumps(content))
    return root


def split(root: Path, **options: str) -> tuple[dict[str, list[int]], str]:
    """Image rows by split, and what was said."""
    loaded = {name: annotations.load(Source(root, **options), name) for name in SPLITS}
    rows = {name: part.image_id[part.image_row].tolist() for name, (part, _) in loaded.items()}
    assert sorted(row for several in rows.values() for row in several) == list(range(sum(map(len, rows.values()))))
    return rows, " ".join(str(problem) for problem in loaded["val"][1])


@pytest.mark.parametrize("names", [[f"{i:05}.jpg" for i in range(60)], [f"IMG_{i}.jpg" for i in range(60)]])
def test_names_without_series_fall_by_the_hash_of_their_last_part(tmp_path, names):
    rows, said = split(folder_of(tmp_path, names))

    def tenth(name: str) -> int:
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little") % 10

    assert rows["val"] == [row for row, name in enumerate(names) if tenth(name) == 8]
    assert rows["test"] == [row for row, name in enumerate(names) if tenth(name) == 9]
    assert "chosen by a hash of their names" in said


@pytest.mark.parametrize("how", ["names", "folders", "field", "pattern"])
def test_a_series_falls_to_one_split(tmp_path, how):
    series = [f"s{chr(97 + row // 5)}" for row in range(100)]
    options, fields = {}, {}
    if how == "names":
        names = [f"{one}_{row % 5}.png" for row, one in enumerate(series)]
    elif how == "folders":
        names = [f"{one}/img{row % 5}.png" for row, one in enumerate(series)]
    else:
        names = [f"{row:04}x{one}y.png" for row, one in enumerate(series)]
        options = {"group": "x(s.)y"} if how == "pattern" else {}
        fields = {"video": series} if how == "field" else {}
    rows, _ = split(folder_of(tmp_path, names, **fields), **options)
    groups = [{series[row] for row in several} for several in rows.values()]
    assert all(groups)
    assert sum(map(len, groups)) == len(set(series))


def test_frames_of_one_video_are_cut_by_time(tmp_path):
    rows, said = split(folder_of(tmp_path, [f"vid_img{i:04}.png" for i in range(200)]))
    assert (rows["train"], rows["val"], rows["test"]) == (
        list(range(160)),
        list(range(160, 180)),
        list(range(180, 200)),
    )
    assert "runs of frames" in said


@pytest.mark.parametrize("count", [3, 4, 12])
def test_each_split_has_an_image_from_three_on(tmp_path, count):
    rows, _ = split(folder_of(tmp_path, [f"photo{i}.png" for i in range(count)]))
    assert all(rows.values())


def test_one_image_can_not_be_split(tmp_path):
    root = folder_of(tmp_path, ["photo.png"])
    found = []
    for name in SPLITS:
        try:
            found += annotations.load(root, name)[0].image_id.tolist()
        except UserError as error:
            own = "val" if name == "train" else name
            assert str(error) == (  # noqa: PT017
                f"{root}/annotations/train.json: split {name!r} is empty: one image can't be split in train, val and test; "
                f"expected more images, or {own} of its own, such as annotations/{own}.json"
            )
    assert found == [0]


def test_names_alike_in_every_folder_are_told_apart_by_their_folders(tmp_path):
    rows, _ = split(folder_of(tmp_path, [f"s{i:03}/rgb.png" for i in range(60)]))
    assert all(rows.values())
    assert len(rows["train"]) > 30


def test_a_group_that_is_not_there_names_those_that_are(tmp_path):
    root = folder_of(tmp_path, [f"{i}.png" for i in range(20)], video=["a", "b"] * 10)
    with pytest.raises(UserError, match=r"--group 'nothing'.*fields: video"):
        annotations.load(Source(root, group="nothing"), "val")
    with pytest.raises(UserError, match="neither a field"):
        annotations.load(Source(root, group="("), "val")
