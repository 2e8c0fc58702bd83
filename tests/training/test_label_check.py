"""`fit` looks at its labels first: it ends on what would waste the run, and tells of the rest in a line."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from heard import heard

from fiducial.data.images import FileImages
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.training.fit import load_data
from fiducial.training.label_check import check_labels, check_test
from fiducial.training.recipe import Recipe
from tests.checks.small import SKELETON, beasts, exchanged

EVERY = np.random.default_rng(3).permutation(12)


@pytest.fixture(scope="module")
def splits():
    return {"train": beasts(60), "val": beasts(30, seed=1)}


def test_sound_labels_are_passed_in_silence(splits):
    with heard() as lines:
        check_labels(splits, Recipe(), "beasts")
    assert lines == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("unit_coordinates", lambda part: replace(part, xy=part.xy / 300, image_size=part.image_size + 300)),
        ("point_order", lambda part: exchanged(part, list(range(len(part))), EVERY)),
        ("left_right", lambda part: exchanged(part, list(range(len(part))), SKELETON.flip_order)),
    ],
)
def test_what_wastes_a_run_ends_it_in_one_line(splits, kind, change):
    with pytest.raises(UserError, match=rf"^beasts: split val: {kind}: .*--no-check"):
        check_labels({**splits, "val": change(splits["val"])}, Recipe(), "beasts")


def test_wrong_flip_pairs_end_a_run_that_mirrors(splits):
    wrong = replace(SKELETON, flip_pairs=((1, 5), (2, 4), (7, 8), (10, 11)))
    faulty = {split: replace(part, skeleton=wrong) for split, part in splits.items()}
    with pytest.raises(UserError, match="flip_pairs"):
        check_labels(faulty, Recipe(), "beasts")
    with heard() as lines:
        check_labels(faulty, replace(Recipe(), augment=replace(Recipe().augment, flip=0)), "beasts")
    assert len(lines) == 1


def test_images_of_train_in_val_end_it(splits, tmp_path):
    images = FileImages(tmp_path, [f"{row}.jpg" for row in range(60)])
    train, val = (replace(part, images=images) for part in splits.values())
    with pytest.raises(UserError, match=r"0\.jpg: duplicate: .*of train too"):
        check_labels({"train": train, "val": val}, Recipe(), "beasts")


def test_single_faults_are_told_of_in_a_line(splits):
    faulty = exchanged(splits["train"], [4, 9], SKELETON.flip_order)
    with heard() as lines:
        check_labels({**splits, "train": faulty}, Recipe(), "beasts")
    assert lines == ["labels: 2 left_right look wrong, of those looked at; see: fiducial data check beasts"]


@pytest.mark.parametrize(("shared", "ends"), [("train", True), ("val", False), ("", False)])
def test_images_that_are_in_test_too(tmp_path, shared, ends):
    """Of train they end a run; of val, which many take for test, they are told of in a line."""
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    category = {"id": 1, "name": "pen", "keypoints": ["tip", "end"]}
    for split in ("train", "val", "test"):
        names = [f"{shared if split == 'test' and shared else split}_{i}.png" for i in range(3)]
        for name in names:
            cv2.imwrite(str(tmp_path / "images" / name), np.zeros((20, 30, 3), np.uint8))
        content = {
            "images": [{"id": i, "file_name": name, "width": 30, "height": 20} for i, name in enumerate(names)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "keypoints": [3, 4, 2, 12, 9 + i, 2]} for i in range(3)
            ],
            "categories": [category],
        }
        (tmp_path / f"annotations/{split}.json").write_text(json.dumps(content))
    source = Source(tmp_path)
    data = load_data(source, Recipe())
    with heard() as lines:
        if ends:
            with pytest.raises(UserError, match=r"train_0\.png: duplicate: in test, .* of train too.*one of 3"):
                check_test({"train": data.train, "val": data.validation}, source)
        else:
            check_test({"train": data.train, "val": data.validation}, source)
    assert lines == (
        ["3 images of val are in test, too: figures on test are those that epochs are chosen by"]
        if shared == "val"
        else []
    )
    (tmp_path / "annotations/test.json").write_text("{")
    with heard() as lines:
        check_test({"train": data.train, "val": data.validation}, source)
    assert [line.partition(": ")[0] for line in lines] == ["the test split is not looked at"]
