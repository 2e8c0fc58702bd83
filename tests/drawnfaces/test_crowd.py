"""Several drawn faces in an image: where they are said to be, they are."""

from __future__ import annotations

import numpy as np

from fiducial import geometry
from fiducial.drawnfaces import crowd, procedural_crowds
from fiducial.drawnfaces.background import draw_background
from fiducial.drawnfaces.scene import stream
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


def test_what_differs_from_the_background_is_the_faces(monkeypatch):
    """The image's truth: without the camera's noise, most of a face's box is painted, and nothing far from all boxes is."""
    monkeypatch.setattr(crowd.photo, "photograph", lambda image, random: image)
    seen = 0
    for index in range(12):
        faces = crowd.layout(9, index, SIZE)
        if not faces:
            continue
        margin = max(face.side for face in faces)
        wide = Size(SIZE.w + 2 * margin, SIZE.h + 2 * margin)
        behind = draw_background(wide, stream(9, index, crowd.BACKDROP))
        behind = behind[margin : margin + SIZE.h, margin : margin + SIZE.w]
        painted = (np.abs(crowd.render_crowd(9, index, SIZE).astype(int) - behind) > 8).any(-1)
        near = np.zeros_like(painted)
        for face in faces:
            x, y, w, h = crowd.box_of(crowd.points_of(9, face)[0])
            part = painted[max(0, int(y)) : max(0, int(y + h)), max(0, int(x)) : max(0, int(x + w))]
            if part.size > 0.8 * w * h:
                assert part.mean() > 0.6
                seen += 1
            top, left = max(0, face.top), max(0, face.left)
            near[top : max(0, face.top + face.side), left : max(0, face.left + face.side)] = True
        assert not painted[~near].any()
    assert seen > 10
