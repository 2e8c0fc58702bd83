"""Another set's labels with the places of one's own: shifts that are known are found, in any direction, whatever the model gets wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiducial import Instances, geometry
from fiducial.data import conversion
from fiducial.drawnfaces import procedural_faces
from fiducial.errors import UserError
from fiducial.evaluation import metrics
from fiducial.geometry import Size
from fiducial.labels import aligning
from fiducial.types import Keypoints

NOSE = slice(27, 36)  # of 68 points
SKY = np.zeros((2400, 2400, 3), np.uint8)
NAMES = ("a", "b", "c", "d", "e")
SHAPE = np.array([[0, 0], [60, 0], [60, 40], [0, 40], [30, 70]], float)
MEANT = np.array([[0, 5], [-4, 0], [0, 0], [3, 3], [0, 0]], float)  # where theirs lie beside ours, in the shape's frame
WRONG = np.array([[6, 0], [0, 6], [-5, 5], [0, 0], [4, -4]], float)  # what the model gets wrong of both


def a_set(count: int, seed: int, shift: np.ndarray, turned: float = np.pi) -> tuple[Instances, Keypoints, np.ndarray]:
    """Instances in all directions and sizes, what a model finds on them, and where our labels would be."""
    random = np.random.default_rng(seed)
    maps = [
        geometry.compose(
            geometry.rotation(random.uniform(-turned, turned)),
            geometry.scaling(scale, scale),
            geometry.translation(*random.uniform(800, 900, 2)),
        )
        for scale in random.uniform(0.7, 1.6, count)
    ]
    shapes = SHAPE + random.normal(0, 2, (count, *SHAPE.shape))
    ours, theirs, found = (
        geometry.transform(np.array(maps), shapes + moved)
        for moved in (0, shift, WRONG + random.normal(0, 3, shapes.shape))
    )
    images = [SKY] * count
    boxes = np.concatenate([theirs.min(1) - 10, np.ptp(theirs, axis=1) + 20], 1)
    labels = Instances.of(images, theirs, boxes=boxes, names=NAMES)
    return labels, Keypoints(found, np.ones(found.shape[:2])), ours


def test_what_another_set_means_is_found_whatever_the_model_gets_wrong() -> None:
    theirs, found_theirs, truth = a_set(400, 0, MEANT)
    ours, found_ours, _ = a_set(200, 1, np.zeros((5, 2)))
    shift = aligning.learn(theirs, ours, found_theirs, found_ours)
    moved = shift(theirs)
    before, after = (np.linalg.norm(labels.xy - truth, axis=-1).mean(0) for labels in (theirs, moved))
    assert before[[0, 1, 3]].min() > 3
    assert after.max() < 1.2
    np.testing.assert_array_equal(moved.box_xywh, theirs.box_xywh)
    other, _, where = a_set(50, 2, MEANT)  # of images that nothing was learnt from
    assert np.linalg.norm(shift(other).xy - where, axis=-1).mean() < 1


def test_of_sets_that_mean_the_same_next_to_nothing_is_moved() -> None:
    theirs, found_theirs, truth = a_set(400, 0, np.zeros((5, 2)))
    ours, found_ours, _ = a_set(200, 1, np.zeros((5, 2)))
    moved = aligning.learn(theirs, ours, found_theirs, found_ours)(theirs)
    chance = 3 * np.sqrt(2 * (1 / 400 + 1 / 200))  # of the difference of two means, px of the shape
    assert np.linalg.norm(moved.xy - truth, axis=-1).mean() < chance


def test_what_the_model_did_not_find_tells_nothing() -> None:
    """Files of results have (0, 0) with a score of 0 there, here for most instances."""
    theirs, found, truth = a_set(400, 0, MEANT)
    ours, found_ours, _ = a_set(200, 1, np.zeros((5, 2)))
    missed = np.arange(400) % 4 > 0
    xy = np.where(missed[:, None, None], 0.0, found.xy)
    partly = Keypoints(xy, np.where(missed[:, None], 0.0, found.score))
    moved = aligning.learn(theirs, ours, partly, found_ours)(theirs)
    assert np.linalg.norm(moved.xy - truth, axis=-1).mean() < 1.2


def test_the_shift_turns_and_grows_with_the_instance() -> None:
    theirs, found, _ = a_set(100, 0, MEANT)
    ours, found_ours, _ = a_set(100, 1, np.zeros((5, 2)))
    shift = aligning.learn(theirs, ours, found, found_ours)
    turn = geometry.compose(geometry.rotation(2.0), geometry.scaling(1.7, 1.7), geometry.translation(1400, 200))
    turned = Instances.of([SKY] * 100, geometry.transform(turn, theirs.xy.astype(float)), names=NAMES)
    expected = geometry.transform(turn, shift(theirs).xy.astype(float))
    np.testing.assert_allclose(shift(turned).xy, expected, atol=2e-3)


def test_what_is_not_labelled_or_not_in_both_stays() -> None:
    theirs, found, _ = a_set(100, 0, MEANT)
    ours, found_ours, _ = a_set(100, 1, np.zeros((5, 2)))
    visibility = np.full((100, 5), 2)
    visibility[:95, 1] = 0  # five labels tell nothing
    visibility[7, :] = [2, 0, 0, 0, 0]  # one point has no direction
    labels = Instances.of(
        [SKY] * 100, theirs.xy, visibility, theirs.box_xywh, names=("a", "b", "c", "d", "theirs alone")
    )
    shift = aligning.learn(labels, ours, found, found_ours)
    moved = shift(labels)
    changed = np.linalg.norm(moved.xy - labels.xy, axis=-1) > 1e-3
    assert changed[8:, 0].all()
    assert not changed[:, [1, 4]].any()
    assert not changed[7].any()
    assert shift.left(labels) == [
        "2 points stay as they are, without a point of that name, 10 labels, or a model that is sure, in both: b, theirs alone"
    ]


def test_sets_of_other_points_and_of_hardly_any_labels_are_refused() -> None:
    theirs, found, _ = a_set(30, 0, MEANT)
    others = Instances.of([SKY] * 30, theirs.xy, names=("a", "v", "w", "x", "y"))
    with pytest.raises(UserError, match=r"has 1 point of .* by name.*expected two or more of the same name"):
        aligning.learn(others, theirs, found, found)
    few = np.arange(9)
    with pytest.raises(UserError, match="no point has 10 labels here and in val"):
        aligning.learn(theirs.select(few), theirs, found.select(few), found)


def test_a_model_that_does_not_understand_the_images_is_no_ruler() -> None:
    theirs, found, _ = a_set(200, 0, MEANT)
    ours, found_ours, _ = a_set(200, 1, np.zeros((5, 2)))
    noise = np.random.default_rng(3).normal(0, 30, found.xy.shape)
    lost = Keypoints(found.xy + noise, found.score)
    with pytest.raises(UserError, match=r"spread \d+\.\d times as widely .* can't be the ruler"):
        aligning.learn(theirs, ours, lost, found_ours)
    noise[:, 1:] = 0  # of one point alone
    shift = aligning.learn(theirs, ours, Keypoints(found.xy + noise, found.score), found_ours)
    assert shift.known.tolist() == [False, True, True, True, True]
    assert (shift.by[0] == 0).all()


def write_faces(root: Path, seed: int, nose: float = 0.0) -> Path:
    """Drawn faces on the disk, train and val, whose noses are labelled lower by so much of their length."""
    (root.parent / f"{root.name}_images").mkdir(parents=True)
    splits = {}
    for split, offset in (("train", 0), ("val", 100)):
        faces = procedural_faces(24, seed + offset, Size(112, 112))
        files = [str(root.parent / f"{root.name}_images" / f"{split}_{i}.png") for i in range(len(faces))]
        for i, file in enumerate(files):
            cv2.imwrite(file, faces.images.read(i)[..., ::-1])
        xy = faces.xy.copy()
        xy[:, NOSE] += nose * (xy[:, 33:34] - xy[:, 27:28])
        splits[split] = Instances.of(files, xy, boxes=faces.box_xywh, skeleton=faces.skeleton)
    conversion.write_splits(splits, root, "coco")
    return root


def test_the_command_writes_a_set_that_fit_takes(tmp_path: Path, run) -> None:
    mine = write_faces(tmp_path / "mine", 5000)
    theirs, honest = write_faces(tmp_path / "theirs", 1000, 0.2), Instances.read(write_faces(tmp_path / "same", 1000))
    code, _, err = run(
        "data",
        "align",
        theirs,
        "--to",
        mine,
        "--model",
        "face",
        "--out",
        tmp_path / "moved",
        "--json",
        tmp_path / "x.json",
    )
    assert code == 0, err
    figures = json.loads((tmp_path / "x.json").read_text())
    by_point = {row["point"]: row["moved"] for row in figures["per_point"]}
    assert min(by_point[name] for name in honest.skeleton.points[NOSE]) > 4 * np.mean(
        [by_point[name] for name in honest.skeleton.points[:27]]
    )
    before, after = (
        metrics.measure_instances(Instances.read(folder).xy, honest).nme for folder in (theirs, tmp_path / "moved")
    )
    assert after < 0.5 * before  # of 24 faces
    assert len(Instances.read(tmp_path / "moved", "val")) == 24
    code, _, err = run("data", "align", theirs, "--to", mine, "--model", "face", "--out", tmp_path / "moved")
    assert code == 2
    assert "is there already" in err


def test_a_model_that_learnt_these_labels_is_no_ruler(blobs: Path, blob_model: Path, tmp_path: Path, run) -> None:
    pupil = shutil.copytree(blob_model, tmp_path / "run")
    (pupil / "metrics.json").write_text(json.dumps({"data": f"elsewhere + {blobs}"}))
    code, _, err = run("data", "align", blobs, "--to", blobs, "--model", pupil, "--out", tmp_path / "moved")
    assert code == 2
    assert f"has learnt from {blobs}" in err
    assert not (tmp_path / "moved").exists()
