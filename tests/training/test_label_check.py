"""`fit` looks at its labels first: it ends on what would waste the run, and tells of the rest in a line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import quick
from heard import heard

import fiducial
from fiducial.api.distill import distill_study
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
    with pytest.raises(UserError, match=rf"^beasts: split val: {kind}: .*--set check=false"):
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
            noise = np.random.default_rng(list(name.encode())).integers(0, 255, (20, 30, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "images" / name), noise)
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


@pytest.fixture(scope="module")
def copied(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of whose test one image has the bytes of one of train, under a name of its own."""
    root = shutil.copytree(blobs, tmp_path_factory.mktemp("copied") / "blobs")
    shutil.copyfile(root / "images/train_5.png", root / "images/test_2.png")
    return root


ONE_RUN = {**quick.WORDS, "preflight": False}
MANY = {name: quick.WORDS[name] for name in ("epochs", "batch_size", "workers", "pretrained")}
DOORS: dict[str, Any] = {
    "fit": lambda data, out, model: fiducial.fit(data, out, **ONE_RUN),
    "fit --folds": lambda data, out, model: fiducial.fit(data, out, folds=2, **ONE_RUN),
    "compare": lambda data, out, model: fiducial.compare(data, out, methods="deeppose", **MANY),
    "search": lambda data, out, model: fiducial.search(data, out, budget="9ms@onnxruntime:1", minutes=1),
    "distill": lambda data, out, model: fiducial.distill(model, data, out, student="test_efficientnet"),
    "distill --study": lambda data, out, model: distill_study(model, data, out, student="test_efficientnet"),
}


@pytest.mark.parametrize("door", DOORS)
def test_no_command_trains_on_images_of_the_test_split(
    copied: Path, blob_model: Path, tmp_path: Path, door: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match=r"test_2\.png: duplicate: in test, .*train_5\.png: the same bytes; .*check=false"
    ):
        DOORS[door](copied, out, blob_model)
    assert not list(out.rglob("model.json"))
    kept = {path.name for path in out.rglob("*.json")}
    assert kept <= {"clock.json"}, "nothing that would keep the command from going on with other settings"


def test_a_video_in_train_and_test_is_told_of(blobs: Path, tmp_path: Path) -> None:
    """By the frames' names, where neither was cut off by time."""
    root = shutil.copytree(blobs, tmp_path / "blobs")
    for split, odd in (("train", 0), ("test", 1)):
        file = root / f"annotations/{split}.json"
        content = json.loads(file.read_text())
        for place, image in enumerate(content["images"]):
            name = f"video1_{2 * place + odd:03}.png"
            (root / "images" / image["file_name"]).rename(root / "images" / name)
            image["file_name"] = name
        file.write_text(json.dumps(content))
    data = load_data(root, Recipe())
    with heard() as lines:
        check_test({"train": data.train, "val": data.validation}, Source(root))
    assert len(lines) == 1
    assert "video1': 48 in train, 16 in test of its images" in lines[0]
