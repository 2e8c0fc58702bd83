"""Upright crops against integer arithmetic written out pixel by pixel: to the byte, whatever the box."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fiducial import geometry
from fiducial.data import crops
from fiducial.errors import UserError
from fiducial.geometry import Size

SIZE = Size(24, 32)
BOXES = {
    "inside": (10.3, 7.7, 30.1, 28.4),
    "half outside": (-20.0, 30.0, 50.0, 60.0),
    "enlarged": (20.0, 20.0, 4.0, 3.0),
    "ties": (12.0, 12.0, 4.0, 5.0),  # places in the image halfway between two of the grid's
    "shrunk by 2": (0.0, 0.0, 70.0, 60.0),
    "shrunk by 5": (-30.0, -20.0, 120.0, 100.0),
    "shrunk by 11": (-100.0, -90.0, 264.0, 240.0),
    "outside": (500.0, 0.0, 20.0, 20.0),
}


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (53, 71, 3), dtype=np.uint8)


def by_hand(picture: np.ndarray, box: tuple[float, ...], padding: float) -> np.ndarray:
    """The formula in exact fractions; rounding of means of blocks: half up for 2, half to even for 4 and 8."""
    x, y, w, h = geometry.fit_aspect(np.array(box), SIZE, padding)
    step = Fraction(w) / SIZE.w
    block = next((b for b in (8, 4, 2) if step >= Fraction(b) * (1 - Fraction(1, 10**6))), 1)
    high, wide = -(-picture.shape[0] // block), -(-picture.shape[1] // block)
    padded = np.zeros((high * block, wide * block, 3), np.int64)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    sums = padded.reshape(high, block, wide, block, 3).sum((1, 3))
    means = (sums * 2 + 4) // 8 if block == 2 else np.round(sums / block**2).astype(np.int64)

    def cell(row: int, column: int) -> np.ndarray:
        there = 0 <= row < high and 0 <= column < wide
        return means[row, column] if there else np.zeros(3, np.int64)

    def place(i: int, corner: float, length: float, count: int) -> tuple[int, int]:
        """Cell and 32nds on the way to the next."""
        at = (Fraction(corner) + Fraction(2 * i + 1, 2) * Fraction(length) / count) / block - Fraction(1, 2)
        whole = int((at * 32 + Fraction(1, 2) + Fraction(1, 1024)).__floor__())
        return whole // 32, whole % 32

    made = np.zeros((SIZE.h, SIZE.w, 3), np.uint8)
    for i in range(SIZE.h):
        row, down = place(i, y, h, SIZE.h)
        for j in range(SIZE.w):
            column, right = place(j, x, w, SIZE.w)
            value = (cell(row, column) * (32 - right) + cell(row, column + 1) * right) * (32 - down)
            value = value + (cell(row + 1, column) * (32 - right) + cell(row + 1, column + 1) * right) * down
            made[i, j] = (value + 512) // 1024
    return made


@pytest.mark.parametrize("padding", [1.0, 1.25])
@pytest.mark.parametrize("name", BOXES)
def test_a_crop_is_what_exact_arithmetic_gives(name: str, padding: float) -> None:
    found, _ = crops.cut(image(), np.array([BOXES[name]]), SIZE, padding)
    np.testing.assert_array_equal(found[0], by_hand(image(), BOXES[name], padding))


@pytest.mark.parametrize("name", BOXES)
def test_the_graph_cuts_the_same_bytes(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from fiducial.exporting import crop_graph

    session = onnxruntime.InferenceSession(crop_graph.crop_model(SIZE, 1.25).SerializeToString())
    box = np.array([BOXES[name]], np.float32)
    expected, maps = crops.cut(image(), box, SIZE, 1.25)
    found, corner, step = session.run(None, {"image": image(), "boxes": box})
    np.testing.assert_array_equal(found, expected)
    back = geometry.invert(maps[0])
    np.testing.assert_allclose(step[0], [back[0, 0], back[1, 1]], rtol=1e-12)
    edge = geometry.transform(back, np.array([[-0.5, -0.5]]))[0] + 0.5
    np.testing.assert_allclose(corner[0], edge, atol=1e-9)


def test_the_graph_takes_many_boxes_none_and_crops_instead() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from fiducial.exporting import crop_graph

    session = onnxruntime.InferenceSession(crop_graph.crop_model(SIZE, 1.25).SerializeToString())
    boxes = np.array(list(BOXES.values()), np.float32)
    np.testing.assert_array_equal(
        session.run(None, {"image": image(), "boxes": boxes})[0], crops.cut(image(), boxes, SIZE, 1.25)[0]
    )
    none = np.zeros((0, 4), np.float32)
    np.testing.assert_array_equal(
        session.run(None, {"image": image(), "boxes": none})[0], crops.cut(image(), None, SIZE, 1.25)[0]
    )
    given = np.random.default_rng(1).integers(0, 256, (3, SIZE.h, SIZE.w, 3), dtype=np.uint8)
    found, corner, step = session.run(None, {"image": image(), "boxes": none, "crops": given})
    np.testing.assert_array_equal(found, given)
    assert (corner == 0).all()
    assert (step == 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (700, 1), (2, 3)])
def test_odd_images_in_the_graph(shape: tuple[int, int]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from fiducial.exporting import crop_graph

    session = onnxruntime.InferenceSession(crop_graph.crop_model(SIZE, 1.25).SerializeToString())
    picture = np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)
    boxes = np.array(
        [[0, 0, shape[1], shape[0]], [-5, -5, 3, 3], [1e8, -1e8, 1e8, 1e8], [-1e6, -1e6, 2e6, 2e6]], np.float32
    )
    np.testing.assert_array_equal(
        session.run(None, {"image": picture, "boxes": boxes})[0], crops.cut(picture, boxes, SIZE, 1.25)[0]
    )


@pytest.mark.parametrize(
    ("picture", "boxes", "words"),
    [
        (np.zeros((4, 4), np.uint8), None, "expected a numpy array of uint8 RGB"),
        (np.zeros((4, 4, 3), np.float32), None, "got float32"),
        ([[1]], None, "got list"),
        (np.zeros((0, 4, 3), np.uint8), None, "has no pixels"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((2, 5)), r"expected \[n, 4\]"),
        (np.zeros((4, 4, 3), np.uint8), np.array([[1, 2, np.nan, 4]]), "expected finite"),
    ],
)
def test_what_is_no_picture_or_box_is_refused(picture, boxes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        crops.cut(picture, boxes, SIZE, 1.0)
