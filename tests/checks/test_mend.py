"""A proposal does to the labels what it says, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fiducial.checks.finding import Finding, Labelled
from fiducial.checks.mend import mended
from fiducial.errors import UserError
from fiducial.types import Instances

XY = np.arange(24, dtype=np.float32).reshape(3, 4, 2)


def labelled() -> Labelled:
    """Three instances on two images, four points; a second split of one."""
    train = Instances.of(
        [np.zeros((50, 50, 3), np.uint8)] * 2,
        XY,
        boxes=np.tile([1.0, 2, 30, 40], (3, 1)),
        image_row=[0, 0, 1],
        names=["left", "right", "nose", "tail"],
    )
    return Labelled({"train": train, "val": train.select(np.array([2]))})


def finding(proposal: dict[str, Any] | None, **about: Any) -> Finding:
    where = {"split": "train", "image": "images[0]", "annotation_id": 2, **about}
    return Finding(kind="moved_point", confidence=1.0, what="wrong", proposal=proposal, **where)


@pytest.mark.parametrize(
    ("proposal", "xy"),
    [
        ({"swap": [["left", "right"]]}, XY[1][[1, 0, 2, 3]]),
        ({"order": ["tail", "nose", "right", "left"]}, XY[1][[3, 2, 1, 0]]),
        ({"xy": {"nose": [7.5, 8]}}, np.array([XY[1, 0], XY[1, 1], [7.5, 8], XY[1, 3]])),
        ({"missing": ["tail"]}, np.array([*XY[1, :3], [0, 0]])),
        ({"scale": [2, 3]}, XY[1] * (2, 3)),
        ({"box": [5, 6, 7, 8]}, XY[1]),
    ],
)
def test_only_the_instance_it_is_about_changes(proposal: dict[str, Any], xy: np.ndarray) -> None:
    before = labelled()
    after, said = mended(before, [finding(proposal)])
    np.testing.assert_array_equal(after.splits["train"].xy[1], xy)
    np.testing.assert_array_equal(after.splits["train"].xy[[0, 2]], XY[[0, 2]])
    np.testing.assert_array_equal(after.splits["val"].xy, before.splits["val"].xy)
    np.testing.assert_array_equal(before.splits["train"].xy, XY)
    assert len(said) == 1
    assert "images[0], annotation 2" in said[0]
    assert after.splits["train"].visibility[1].tolist() == ([2, 2, 2, 0] if "missing" in proposal else [2] * 4)
    box = {"box": [5, 6, 7, 8], "scale": [2, 6, 60, 120]}.get(next(iter(proposal)), [1, 2, 30, 40])
    assert after.splits["train"].box_xywh[1].tolist() == box


def test_an_image_leaves_with_its_instances_and_after_all_else() -> None:
    after, said = mended(
        labelled(), [finding({"leave_out": True}, annotation_id=None), finding({"xy": {"nose": [1, 1]}})]
    )
    assert after.splits["train"].annotation_id.tolist() == [3]
    assert len(after.splits["val"]) == 1
    assert len(said) == 2


def test_flip_indices_and_an_order_may_be_of_a_whole_split() -> None:
    about = {"image": "", "annotation_id": None}
    after, _ = mended(labelled(), [finding({"order": ["right", "left", "nose", "tail"]}, **about)])
    np.testing.assert_array_equal(after.splits["train"].xy, XY[:, [1, 0, 2, 3]])
    after, _ = mended(labelled(), [finding({"flip_indices": [1, 0, 2, 3]}, split="", **about)])
    assert [part.skeleton.flip_pairs for part in after.splits.values()] == [((0, 1),), ((0, 1),)]


def test_without_a_proposal_nothing_changes() -> None:
    before = labelled()
    after, said = mended(before, [finding(None)])
    assert said == []
    assert after.splits == before.splits


@pytest.mark.parametrize(
    "proposal",
    [{"turn": 3}, {"swap": [["left", "ear"]]}, {"order": ["left"]}, {"xy": {"nose": [1]}}, {"box": "large"}],
)
def test_what_is_no_proposal_is_refused_by_name(proposal: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"images\[0\], annotation 2"):
        mended(labelled(), [finding(proposal)])
