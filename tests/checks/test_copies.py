"""Frames of a video are no copies of each other, by their names or by their labels."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fiducial import geometry
from fiducial.checks import copies
from fiducial.checks.finding import Labelled
from fiducial.data.arrays import GivenImages
from fiducial.data.series import numbered
from fiducial.geometry import Size
from tests.checks.small import beasts


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(30, 220, (6, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC)


def test_what_looks_the_same_and_has_other_labels_is_no_certain_copy() -> None:
    """A still camera's frames look the same where a small animal has moved; copies have their image's labels, in any size."""
    one, two = picture(1), picture(2)
    part = beasts(4)
    half = cv2.resize(one, (70, 70), interpolation=cv2.INTER_AREA)
    images = [one, half, two, cv2.imdecode(cv2.imencode(".jpg", two)[1], cv2.IMREAD_COLOR)]
    xy = part.xy.copy()
    xy[1] = geometry.transform(geometry.resize(Size(96, 96), Size(70, 70)), xy[0])
    sizes = np.array([image.shape[1::-1] for image in images], np.int32)
    part = replace(part, images=GivenImages(images), xy=xy, image_size=sizes)
    labelled = Labelled({"train": part})
    pictures = copies.pictures_of(labelled)
    found = copies.all_copies(labelled, pictures, copies.thumbnails(pictures, labelled))
    told = {(copy.one.row, copy.other.row): copy.confidence > 0.5 for copy in found}
    assert told == {(0, 1): True, (2, 3): False}


@pytest.mark.parametrize(("same", "found"), [(True, [(0, 1)]), (False, [])])
def test_halves_of_odd_sides_are_copies_where_the_labels_say_so(same: bool, found: list[tuple[int, int]]) -> None:
    """Sharp edges of 171 px, half of which are 86: up to half a pixel off, as a small animal's of the next frame."""
    blocks = np.random.default_rng(0).integers(0, 255, (16, 11, 3)).astype(np.uint8)
    image = cv2.resize(blocks, (171, 256), interpolation=cv2.INTER_NEAREST)
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    part = beasts(2)
    xy = part.xy.copy()
    if same:
        xy[1] = xy[0]
    sizes = np.array([(171, 256)] * 2, np.int32)
    part = replace(part, images=GivenImages([image, half]), xy=xy, image_size=sizes)
    labelled = Labelled({"train": part})
    pictures = copies.pictures_of(labelled)
    thumbs = copies.thumbnails(pictures, labelled)
    assert copies.difference(thumbs[0], thumbs[1]) > copies.SAME_GREY
    assert [(copy.one.row, copy.other.row) for copy in copies.all_copies(labelled, pictures, thumbs)] == found


@pytest.mark.parametrize(
    ("name", "series", "number"),
    [
        ("labeled-data/mouse/img0050.png", "labeled-data/mouse/img", 50),
        ("C:\\dlc\\labeled-data\\mouse\\img0050.png", "C:/dlc/labeled-data/mouse/img", 50),
        ("walk.mp4_17.png", "/walk.mp4", 17),
    ],
)
def test_frames_that_tools_wrote_are_a_videos(name: str, series: str, number: int) -> None:
    assert numbered(name) == (series, number, True)
