"""Several drawn faces in an image: where they are said to be, they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fiducial import geometry
from fiducial.drawnfaces import clutter, crowd, faces, procedural_crowds
from fiducial.geometry import Size

SIZE = Size(160, 120)


def test_an_image_is_the_same_whoever_draws_it():
    crowds = procedural_crowds(6, 3, SIZE)
    assert np.array_equal(crowds.images.read(4), crowd.render_crowd(3, 4, SIZE))
    again = procedural_crowds(6, 3, SIZE)
    assert np.array_equal(crowds.xy, again.xy)


def test_some_images_are_empty_and_some_hold_several():
    crowds = procedural_crowds(60, 5, SIZE)
    counts = np.bincount(crowds.image_row, minlength=60)
    assert 4 <= (counts == 0).sum() <= 24
    assert counts.max() > 1
    assert counts.max() <= crowd.MOST


def test_faces_stand_beside_each_other():
    crowds = procedural_crowds(40, 7, SIZE)
    for row in range(40):
        boxes = crowds.box_xywh[crowds.image_row == row]
        apart = geometry.box_iou(boxes[:, None], boxes[None]) - np.eye(len(boxes))
        assert apart.max(initial=0) < crowd.APART + 0.01


def people_alone(monkeypatch) -> None:
    """No camera, no things, no pictures in the picture, and a background of one grey."""
    monkeypatch.setattr(crowd.photo, "photograph", lambda image, random: image)
    monkeypatch.setattr(
        crowd, "draw_backdrop", lambda size, random, photographs: np.full((size.h, size.w, 3), 90, np.uint8)
    )


@pytest.mark.parametrize("cut_out", [0.0, 1.0])
def test_people_are_painted_where_their_boxes_are(monkeypatch, cut_out):
    """The image's truth: most of a face's box is painted; far above all heads nothing is, bodies hang down from them."""
    people_alone(monkeypatch)
    monkeypatch.setattr(crowd, "CUT_OUT", cut_out)
    seen = 0
    for index in range(12):
        people = crowd.layout(9, index, SIZE)
        painted = np.asarray((np.abs(crowd.render_crowd(9, index, SIZE).astype(int) - 90) > 8).any(-1))
        highest = SIZE.h
        for one in people:
            x, y, w, h = crowd.box_of(crowd.points_of(9, one)[0])
            part = painted[max(0, int(y)) : max(0, int(y + h)), max(0, int(x)) : max(0, int(x + w))]
            if part.size > 0.8 * w * h:
                assert part.mean() > 0.6
                seen += 1
            highest = min(highest, one.top - one.side // 2)
        assert not painted[: max(0, highest)].any()
    assert seen > 10


def test_bodies_end_below_faces_and_not_with_their_parts(monkeypatch):
    people_alone(monkeypatch)
    monkeypatch.setattr(crowd, "layout", lambda seed, index, size: [crowd.Placed(5, 40, 60, 5)])
    monkeypatch.setattr(crowd, "CUT_OUT", 0.0)
    painted = np.asarray((crowd.render_crowd(2, 0, SIZE) != 90).any(-1))
    middle = painted[:, 80]
    assert middle[45:80].all()
    assert painted[60].sum() > painted[20].sum()


def test_who_shows_his_back_is_no_face(monkeypatch):
    """He stands there, as painted as others are, and has no box."""
    people_alone(monkeypatch)
    monkeypatch.setattr(crowd, "AWAY", 1.0)
    monkeypatch.setattr(crowd, "CLOSE", 0.0)
    crowds = procedural_crowds(6, 3, SIZE)
    assert len(crowds) == 0
    assert any(len(crowd.layout(3, row, SIZE)) for row in range(6))
    assert any((crowds.images.read(row) != 90).any() for row in range(6))
    one = crowd.Placed(5, 96, 20, 5)
    seen, turned = (crowd._person(2, each) for each in (one, replace(one, away=True)))
    assert float((seen.scene.view.turn @ turned.scene.view.turn.T)[2, 2]) < -0.5


def test_photographs_stand_behind(monkeypatch):
    monkeypatch.setattr(crowd, "layout", lambda seed, index, size: [])
    monkeypatch.setattr(crowd.photo, "photograph", lambda image, random: image)
    monkeypatch.setattr(clutter, "SHOWN", 1.0)
    green = np.tile(np.array([3, 200, 7], np.uint8), (50, 70, 1))
    shares = [(crowd.render_crowd(2, index, SIZE, [green]) == green[0, 0]).all(-1).mean() for index in range(8)]
    assert max(shares) == 1
    assert min(shares) > 0.2
    assert (crowd.render_crowd(2, 1, SIZE) == green[0, 0]).all(-1).mean() < 0.2


def test_a_face_alone_may_be_larger_than_the_image():
    shares = []
    for index in range(80):
        people = crowd.layout(4, index, SIZE)
        if len(people) == 1:
            shares.append(crowd.box_of(crowd.points_of(4, people[0])[0])[3] / SIZE.h)
    assert max(shares) > 1
    assert min(shares) < 0.4


def test_portraits_are_filled_by_one_face_in_the_middle(monkeypatch):
    monkeypatch.setattr(crowd, "EMPTY", 0.0)
    monkeypatch.setattr(crowd, "CLOSE", 1.0)
    shares, largest = [], []
    for index in range(60):
        boxes = [crowd.box_of(crowd.points_of(6, one)[0]) for one in crowd.layout(6, index, SIZE)]
        box = max(boxes, key=lambda box: box[2:].prod())
        shares.append(np.sqrt(box[2:].prod() / (SIZE.w * SIZE.h)))
        off = np.abs(geometry.box_middle(box) / np.array(SIZE) - 0.5)
        assert off.max() < crowd.CLOSE_SHIFT + 0.02
        largest.append(len(boxes))
    low, high = crowd.CLOSE_SHARE
    assert low * 0.95 < min(shares) < 0.5
    assert 1 < max(shares) < high * 1.05
    assert set(largest) >= {1, 2}


def test_images_without_a_face_may_show_backs(monkeypatch):
    """Some of them with the head above the image."""
    monkeypatch.setattr(crowd, "EMPTY", 1.0)
    people = [crowd.layout(8, index, SIZE) for index in range(40)]
    assert len(procedural_crowds(40, 8, SIZE)) == 0
    assert 8 < sum(len(some) == 0 for some in people) < 32
    everyone = [one for some in people for one in some]
    assert all(one.away for one in everyone)
    assert {one.top + one.side // 2 < 0 for one in everyone} == {True, False}


def test_boxes_begin_a_little_above_the_brows():
    """Between the box of the points alone and that with the whole forehead, as a detector of `faces.box_of` has it."""
    for index in range(20):
        xy, _ = faces.face_points(4, index, Size(100, 100))
        alone = geometry.box_of_points(xy, np.ones(68, bool), crowd.MARGIN)
        own, tall = crowd.box_of(xy), faces.box_of(xy)
        assert own[1] <= alone[1]
        assert geometry.box_iou(own, tall) > 0.85
        assert geometry.box_iou(own, alone) > 0.85
