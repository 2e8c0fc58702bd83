"""Procedural faces: the points agree with the picture, with iBUG's names, and with real faces; same in any order."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiducial import drawnfaces as faces
from fiducial import geometry
from fiducial.data.skeletons import IBUG68
from fiducial.drawnfaces import features, head, meshes, photo, props, render, scene, skin
from fiducial.drawnfaces.curves import circle, smooth_curve
from fiducial.drawnfaces.head import Expression, Proportions
from fiducial.errors import UserError
from fiducial.geometry import Size

SIZE = Size(96, 80)
DIGEST = """
import hashlib
from fiducial import drawnfaces as faces
from fiducial.geometry import Size
def digest(index):
    face = faces.render_face(5, index, Size(96, 80))
    return hashlib.sha256(face.image.tobytes() + face.xy.tobytes() + face.visibility.tobytes()).hexdigest()
"""


def test_same_in_any_order_and_process():
    scope: dict = {}
    exec(DIGEST, scope)
    here = {index: scope["digest"](index) for index in (4, 0, 7)}
    assert {index: scope["digest"](index) for index in (7, 4, 0)} == here
    there = subprocess.run(
        [sys.executable, "-c", DIGEST + "print(digest(7))"], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here[7]
    assert len(set(here.values())) == 3
    assert not np.array_equal(faces.face_points(5, 0, SIZE)[0], faces.face_points(6, 0, SIZE)[0])


def test_points_without_drawing_are_those_of_the_picture():
    for index in range(6):
        xy, visibility = faces.face_points(2, index, SIZE)
        face = faces.render_face(2, index, SIZE)
        assert np.array_equal(xy, face.xy)
        assert np.array_equal(visibility, face.visibility)
        assert (xy.dtype, visibility.dtype, face.image.dtype) == (np.float32, np.uint8, np.uint8)
        assert (xy.shape, visibility.shape, face.image.shape) == ((68, 2), (68,), (80, 96, 3))
        assert set(visibility.tolist()) <= {1, 2}


def test_points_follow_a_resize():
    large, small = Size(150, 120), Size(100, 80)
    for index in range(4):
        xy, _ = faces.face_points(3, index, large)
        expected = geometry.transform(geometry.resize(large, small), xy.astype(np.float64))
        assert np.allclose(faces.face_points(3, index, small)[0], expected, atol=1e-3)


def test_rasterizer_is_exact_at_pixel_centres():
    """Closed form: on a plane with linear values, every pixel shows the value at its centre."""
    size = Size(11, 7)
    corners = np.array([[1.3, 0.7], [9.1, 1.2], [1.8, 5.6], [8.4, 6.1]])

    def value(xy: np.ndarray) -> np.ndarray:
        return np.stack([0.07 * xy[..., 0], 0.1 * xy[..., 1], 0.02 * xy[..., 0] + 0.05 * xy[..., 1]], -1)

    triangles = np.array([[0, 1, 2], [1, 3, 2]], np.int32)
    values, depth = render.rasterize(corners, np.full(4, 6.0), triangles, value(corners).astype(np.float32), size)
    there = depth < render.FAR
    outline = corners[[0, 1, 3, 2]].astype(np.float32)
    inside = [[cv2.pointPolygonTest(outline, (float(x), float(y)), False) > 0 for x in range(11)] for y in range(7)]
    assert np.array_equal(there, inside)
    y, x = np.nonzero(there)
    assert np.allclose(values[there], value(np.stack([x, y], -1).astype(float)), atol=1e-5)
    # Seen from behind nothing is drawn.
    _, behind = render.rasterize(
        corners, np.full(4, 6.0), triangles[:, ::-1].copy(), np.zeros((4, 3), np.float32), size
    )
    assert (behind == render.FAR).all()


@pytest.mark.parametrize("point", [27, 36, 42, 45, 48, 54, 57, 19, 24])
def test_drawn_features_lie_on_their_points(point: int, monkeypatch: pytest.MonkeyPatch):
    """End to end: a white disc drawn on the skin at a point has its centre of mass at that point of the picture."""
    size = Size(120, 140)
    monkeypatch.setattr(photo, "photograph", lambda image, random: image)
    monkeypatch.setattr(props, "draw_cover", lambda *arguments: None)

    def draw(index: int, shown: bool) -> faces.Face:
        def disc(points: np.ndarray, *_: object) -> list[features.Shape]:
            return [features.Shape(circle(points[point], 0.04, 0.04), np.full(3, 255.0), alpha=float(shown))]

        monkeypatch.setattr(skin, "face_shapes", disc)
        return faces.render_face(9, index, size)

    errors = []
    for index in range(10):
        with_disc, without = draw(index, True), draw(index, False)
        weight = np.abs(with_disc.image.astype(float) - without.image).sum(-1)
        if without.visibility[point] != 2 or weight.sum() < 200:  # under a fringe
            continue
        y, x = np.mgrid[: size.h, : size.w]
        centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        errors.append(centre - with_disc.xy[point])
    assert len(errors) >= 3
    assert np.abs(np.median(errors, axis=0)).max() < 0.3


def test_curve_runs_through_its_points():
    points = np.array([[0.0, 0], [1, 0.5], [3, 0.2], [4, -1]])
    for closed in (False, True):
        assert np.allclose(smooth_curve(points, 4, closed)[::4][:4], points)
    line = np.array([[0.0, 1], [2, 2], [4, 3]])
    assert np.allclose(smooth_curve(line, 5), np.stack([np.linspace(0, 4, 11), np.linspace(1, 3, 11)], -1))


def test_mirror_image_has_the_mirrored_names():
    points = head.frontal_points(Proportions(jaw_width=1.1, nose_width=0.9), Expression(mouth_open=0.2, smile=0.4))
    assert np.allclose(points[IBUG68.flip_order] * [-1, 1], points)
    names = list(IBUG68.points)
    # A person's right eye is on the left of the picture.
    assert points[names.index("right_eye_0"), 0] < 0 < points[names.index("left_eye_0"), 0]


@pytest.mark.parametrize("yaw", [-0.6, 0.55])
def test_jaw_points_lie_on_the_visible_edge(yaw: float):
    """On the side turned away, the jaw's points lie on the silhouette of the bare head."""
    size = Size(200, 220)
    shape = head.build_head(Proportions(), Expression())
    turn = scene.turn_matrix(yaw, 0.05, 0.1)
    placed = geometry.compose(geometry.scaling(70, 70), geometry.translation(100, 95))
    view = scene.View(turn, 9.0, placed)
    xy = scene.face_outline(scene.Scene(shape, view, Proportions(), Expression(), yaw, 0.05, 0.1))
    vertices, _ = head.head_mesh(shape, meshes.POLAR)
    px, away = view.project(vertices.reshape(-1, 3))
    mesh = meshes.Mesh(vertices, meshes.normals(vertices, closed=True), vertices[..., :2], closed=True)
    values = np.zeros((len(px), 3), np.float32)
    _, depth = render.rasterize(px, away, meshes.triangles(mesh), values, size)
    solid = (depth < render.FAR).astype(np.uint8)
    (edge,), _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    away_side = range(3, 8) if yaw < 0 else range(9, 14)
    for i in away_side:
        assert abs(cv2.pointPolygonTest(edge, tuple(xy[i].tolist()), True)) < 2.5, i
    nose, pivot = view.project(shape.lift(shape.points[30:31]))[0], view.project(head.PIVOT[None])[0]
    assert np.sign(nose[0, 0] - pivot[0, 0]) == np.sign(yaw)


def test_turned_heads_hide_the_far_side():
    shape = head.build_head(Proportions(), Expression())
    view = scene.View(scene.turn_matrix(1.0, 0, 0), 9.0, geometry.scaling(50, 50))
    hidden = scene.turned_away(scene.Scene(shape, view, Proportions(), Expression(), 1.0, 0, 0))
    assert hidden[45 - 17]  # the far eye's outer corner
    assert not hidden[36 - 17]


def test_covers_hide_points(monkeypatch: pytest.MonkeyPatch):
    square = props.Cover((np.array([[10.0, 10], [30, 10], [30, 24], [10, 24]]),), np.zeros(3))
    points = np.array([[12.0, 12], [31, 12], [29, 25], [20, 20]])
    assert props.covered(square, points).tolist() == [True, False, False, True]
    assert not props.covered(None, points).any()
    monkeypatch.setattr(props, "draw_cover", lambda *arguments: square)
    xy, visibility = faces.face_points(1, 2, Size(40, 34))
    behind = props.covered(square, xy)
    assert behind.any()
    assert (visibility[behind] == 1).all()


def test_instances():
    size = Size(72, 64)
    data = faces.procedural_faces(5, seed=4, size=size, first=3)
    assert data.skeleton is IBUG68
    assert len(data) == len(data.images) == 5
    assert (data.xy.shape, data.xy.dtype, data.box_xywh.dtype) == ((5, 68, 2), np.float32, np.float32)
    assert data.image_row.tolist() == [0, 1, 2, 3, 4]
    face = faces.render_face(4, 5, size)
    assert np.array_equal(data.images.read(2), face.image)
    assert np.array_equal(data.images.read(2, reduce=4), face.image)
    assert np.array_equal(data.xy[2], face.xy)
    assert data.images.name(2) == "face-4-5"
    low = data.box_xywh[:, None, :2] - 0.5
    assert ((data.xy > low) & (data.xy < low + data.box_xywh[:, None, 2:])).all()
    with pytest.raises(UserError, match="count 0"):
        faces.procedural_faces(0, seed=4, size=size)


def test_old_opencv_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(cv2, "triangleRasterize")
    with pytest.raises(UserError, match="need OpenCV 5"):
        faces.render_face(0, 0, SIZE)


def test_faces_vary_and_have_contrast():
    size = Size(64, 60)
    images = np.stack([faces.render_face(8, index, size).image for index in range(24)]).astype(float)
    assert images.std(axis=(1, 2, 3)).min() > 4
    assert images.mean(axis=(1, 2, 3)).std() > 10
    points = np.stack([faces.face_points(8, index, size)[0] for index in range(60)])
    turned = (points[:, 30, 0] - points[:, 0, 0]) / (points[:, 16, 0] - points[:, 0, 0])
    assert turned.min() < 0.25
    assert turned.max() > 0.75


# ------------------------------------------------------------------------------------- against real faces


def _frontal(xy: np.ndarray) -> np.ndarray:
    """Median layout of faces that look straight ahead: origin at point 27, eyes level, eye corners 1 apart."""
    turned = (xy[:, 30, 0] - xy[:, 0, 0]) / (xy[:, 16, 0] - xy[:, 0, 0])
    xy = xy[np.abs(turned - 0.5) < 0.06]
    eyes = xy[:, 45] - xy[:, 36]
    unit = np.hypot(eyes[:, 0], eyes[:, 1])
    c, s = (eyes / unit[:, None]).T[..., None]
    x, y = np.moveaxis((xy - xy[:, 27:28]) / unit[:, None, None], -1, 0)
    return np.median(np.stack([x * c + y * s, y * c - x * s], -1), 0)


def _real(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    annotations = json.loads((shared / "faces68" / "annotations" / "train.json").read_text())["annotations"]
    keypoints = np.array([item["keypoints"] for item in annotations], float).reshape(-1, 68, 3)
    complete = (keypoints[..., 2] > 0).all(1)
    return keypoints[complete, :, :2], np.array([item["bbox"] for item in annotations], float)[complete]


def test_layout_is_that_of_real_faces(shared: Path):
    real, _ = _real(shared)
    ours = np.stack([faces.face_points(0, index, Size(128, 128))[0] for index in range(500)])
    distance = np.hypot(*(_frontal(ours) - _frontal(real)).T)
    assert distance.mean() < 0.06
    assert distance[17:].max() < 0.12
    assert distance[:17].max() < 0.15


def test_boxes_are_those_of_real_faces(shared: Path):
    ours = faces.procedural_faces(300, 0, Size(128, 128))

    def margins(xy: np.ndarray, box: np.ndarray) -> np.ndarray:
        low, high = xy.min(1), xy.max(1)
        before, after = (low + 0.5 - box[:, :2]) / (high - low), (box[:, :2] + box[:, 2:] - high - 0.5) / (high - low)
        return np.concatenate([before, after], 1).mean(0)

    assert np.allclose(margins(ours.xy, ours.box_xywh), margins(*_real(shared)), atol=0.05)
