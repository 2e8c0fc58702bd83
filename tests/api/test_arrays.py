"""Instances of a program's arrays: what they hold, and each wrong argument named in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from api.conftest import Arrays

import fiducial
from fiducial import Instances, Skeleton, UserError

NAMES = ["red", "green", "blue"]


def test_columns_are_those_of_the_arrays(discs: Arrays, said: list[str]) -> None:
    xy = discs.xy.copy()
    xy[3, 1] = np.nan
    data = Instances.of(discs.images, xy, names=NAMES)
    assert len(data) == len(discs.images)
    np.testing.assert_array_equal(data.visibility[3], [2, 0, 2])
    np.testing.assert_allclose(data.xy[3, [0, 2]], xy[3, [0, 2]], rtol=1e-6)
    np.testing.assert_array_equal(data.image_size[:2], [[80, 48], [64, 56]])
    low, high = xy[0].min(0), xy[0].max(0)  # centres of pixels; edges lie half a pixel further
    np.testing.assert_allclose(data.box_xywh[0], [*(low + 0.5 - 0.1 * (high - low)), *(1.2 * (high - low))], rtol=1e-5)
    np.testing.assert_allclose(data.area, data.box_xywh[:, 2] * data.box_xywh[:, 3], rtol=1e-6)
    assert "boxes: made of the points, enlarged by a tenth of themselves on each side" in said
    assert data.skeleton.points == tuple(NAMES)
    np.testing.assert_array_equal(data.images.read(7), discs.images[7])


def test_a_folder_gives_what_the_same_arrays_give(blobs: Path, discs: Arrays, tmp_path: Path) -> None:
    read = Instances.read(blobs, "val")
    images = [read.images.read(row) for row in range(len(read.images))]
    names, boxes = list(read.skeleton.points), read.box_xywh
    of = Instances.of(images, read.xy, read.visibility, boxes, names=names, areas=read.area, image_row=read.image_row)
    for column in ("xy", "visibility", "box_xywh", "area", "image_size", "image_row", "crowd", "ignored"):
        np.testing.assert_array_equal(getattr(of, column), getattr(read, column), err_msg=column)
    for row, image in enumerate(discs.images[:2]):
        cv2.imwrite(str(tmp_path / f"{row}.png"), image[:, :, ::-1])
    mixed = Instances.of([str(tmp_path / "0.png"), discs.images[1]], discs.xy[:2], names=NAMES)
    np.testing.assert_array_equal(mixed.images.read(0), discs.images[0])


def test_points_are_named_by_what_is_known(said: list[str]) -> None:
    image = [np.zeros((300, 300, 3), np.uint8)]
    face = Instances.of(image, np.random.default_rng(0).uniform(10, 290, (1, 68, 2)))
    assert face.skeleton.normalizer.kind == "points"
    assert any("taken for those of" in line for line in said)
    eyes = Instances.of(image, [[[10, 20], [30, 20]]], names=["left_eye", "right_eye"])
    assert eyes.skeleton.flip_pairs == ((0, 1),)
    two = Skeleton("two", ("a", "b"), edges=((0, 1),))
    assert Instances.of(image, [[[10, 20], [30, 20]]], skeleton=two, flip_pairs=[]).skeleton.flip_pairs == ()


def test_one_point_of_each_is_looked_for_in_the_whole_image(said: list[str]) -> None:
    images = [np.zeros((40, 60, 3), np.uint8)] * 3
    alone = Instances.of(images, [[[10, 20]], [[30, 20]], [[50, 9]]], names=["tip"])
    assert alone.box_xywh.tolist() == [[0, 0, 60, 40]] * 3
    assert any("memory: 3 of 3 instances have no box" in line and "the whole image" in line for line in said)
    boxes = np.array([[0, 0, 30, 10], [np.nan] * 4, [5, 5, 20, 8]])
    some = Instances.of(images, [[[10, 20]], [[30, 20]], [[50, 9]]], boxes=boxes, names=["tip"])
    np.testing.assert_allclose(some.box_xywh[1], [30.5 - 12.5, 20.5 - 12.5, 25, 25])


GREY, XY = np.zeros((50, 60), np.uint8), np.full((2, 3, 2), 20.0) + np.arange(6).reshape(1, 3, 2)
GOOD = [np.zeros((50, 60, 3), np.uint8)] * 2
WRONG: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "no images": ([], XY, {}, "images: is empty"),
    "one image": (
        GOOD[0],
        XY,
        {},
        r"images\[0\]: expected uint8 RGB \[height, width, 3\] or a path, got uint8 \[60, 3\]",
    ),
    "a path alone": ("a.png", XY, {}, "images: expected a list of arrays or paths, got str"),
    "grey": ([GREY, GREY], XY, {}, r"images\[0\]: expected uint8 RGB .* got uint8 \[50, 60\]"),
    "rgba": ([np.zeros((5, 6, 4), np.uint8)] * 2, XY, {}, r"images\[0\]: .* got uint8 \[5, 6, 4\]"),
    "float": ([np.zeros((5, 6, 3))] * 2, XY, {}, r"images\[0\]: .* got float64 \[5, 6, 3\]"),
    "no file": (["gone.png", "x.png"], XY, {}, r"images\[0\]: gone.png: no such file"),
    "flat points": (GOOD, XY[0], {}, r"xy: has the shape \[3, 2\]; expected \[n, points, 2\]"),
    "text": (GOOD, [["a"]], {}, "xy: is no array of numbers"),
    "ragged": (GOOD, [[[1, 2]], [[1, 2], [3, 4]]], {}, "xy: is no array of numbers"),
    "none": (GOOD, XY[:0], {"names": "abc"}, "xy: holds no instances"),
    "too few images": (GOOD[:1], XY, {}, "images: 1 images for 2 rows of xy; expected as many, or image_row"),
    "infinite": (
        GOOD,
        np.where(np.arange(6).reshape(3, 2) == 1, np.inf, XY),
        {"visibility": np.ones((2, 3))},
        "row 0 of xy, visibility and boxes: point 'point_0' is labelled .* without finite",
    ),
    "all NaN": (GOOD, np.full((2, 3, 2), np.nan), {}, "xy: row 0 has no labelled point and no box"),
    "v": (GOOD, XY, {"visibility": np.full((2, 3), 5)}, "row 0 .*: v is 5 at point"),
    "v of another shape": (
        GOOD,
        XY,
        {"visibility": np.ones((2, 4))},
        r"visibility: has the shape \[2, 4\]; expected \[2, 3\]",
    ),
    "boxes of another length": (
        GOOD,
        XY,
        {"boxes": np.ones((3, 4))},
        r"boxes: has the shape \[3, 4\]; expected \[2, 4\]",
    ),
    "a box of no area": (GOOD, XY, {"boxes": [[1, 2, 0, 4]] * 2}, "row 0 .*: its box .* has no area"),
    "far": (GOOD, XY + 9e6, {}, "row 0 .* far outside the picture"),
    "names": (GOOD, XY, {"names": ["a", "b"]}, "names: 2 names for 3 points"),
    "a name twice": (GOOD, XY, {"names": ["a", "b", "a"]}, "names: point 'a' is named twice"),
    "a name that is none": (GOOD, XY, {"names": ["a", "", "b"]}, "names: point 2 is named ''"),
    "a skeleton with a name twice": (
        GOOD,
        XY,
        {"skeleton": Skeleton("s", ("a", "b", "b"))},
        "skeleton: point 'b' is named",
    ),
    "a skeleton of others": (GOOD, XY, {"skeleton": Skeleton("s", ("a",))}, "skeleton: has 1 points, and xy has 3"),
    "no skeleton": (GOOD, XY, {"skeleton": "coco"}, "skeleton: expected a Skeleton, got str"),
    "rows": (GOOD, XY, {"image_row": [0, 2]}, "image_row: expected whole numbers from 0 to 1"),
    "normalizer": (GOOD, XY, {"normalizer": "head"}, "normalizer: 'head': expected box, image, interocular or"),
    "eyes": (GOOD, XY, {"normalizer": "interocular"}, "normalizer: the eyes of 'points' are not known"),
    "pairs": (GOOD, XY, {"flip_pairs": [(0, 9)]}, "point index 9 with 3 points"),
    "sigmas": (GOOD, XY, {"sigmas": [1.0]}, "expected 3 positive sigmas"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_named(name: str) -> None:
    images, xy, options, message = WRONG[name]
    with pytest.raises(UserError, match=message) as error:
        Instances.of(images, xy, **options)
    assert "\n" not in str(error.value)


def test_what_fit_can_not_take(discs: Arrays, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data = Instances.of(discs.images[:2], discs.xy[:2], names=NAMES)
    out = tmp_path / "run"
    for options, message in [
        ({"method": "motion"}, "method: 'motion' learns from videos"),
        ({"val": Instances.of(discs.images[:1], discs.xy[:1])}, "val: has other points than the data"),
        ({"epochs": 0}, "epochs: 0: expected a whole number above 0"),
        ({"epochs": "many"}, "epochs: 'many': expected a whole number"),
        ({"size": 0.5}, "size: 0.5: expected a number, "),
        ({"method": "heatmpa"}, "heatmpa"),
        ({"wokers": 1}, "wokers"),
    ]:
        with pytest.raises(UserError, match=message):
            fiducial.fit(data, out, **options)
    with pytest.raises(UserError, match="data: are on one image"):
        fiducial.fit(data.select(np.array([0])), out)
    with pytest.raises(UserError, match="data: expected a path, got list"):
        fiducial.fit([1, 2], out)
    assert not out.exists()
