"""Image truth: a blob is drawn, the image is warped, and its centre of mass must be where the map says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from fiducial import geometry
from fiducial.geometry import Size

FROM, TO = Size(97, 71), Size(60, 88)
POINT = np.array([[41.3, 29.6]])


def blob(xy, size, sigma=3.0):
    x, y = np.meshgrid(np.arange(size.w), np.arange(size.h))
    return np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * sigma**2)).astype(np.float32)


def centre_of_mass(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()


MAPS = {
    "identity": geometry.identity(),
    "translation": geometry.translation(5.4, -7.9),
    "scaling": geometry.scaling(1.3, 0.8, (30.0, 20.0)),
    "rotation": geometry.rotation(0.4, (44.0, 31.0)),
    "flip": geometry.flip(FROM),
    "resize": geometry.resize(FROM, TO),
    "crop": geometry.crop(np.array([17.0, 9.0, 53.0, 41.0]), TO),
}
MAPS["composed"] = geometry.compose(MAPS["rotation"], MAPS["flip"], MAPS["crop"])


@pytest.mark.parametrize("name", MAPS)
def test_image_truth(name):
    canvas = Size(120, 110)
    warped = geometry.warp(blob(POINT[0], FROM), MAPS[name], canvas)
    expected = geometry.transform(MAPS[name], POINT)[0]
    assert (expected > 12).all(), "the blob must stay whole for this test to mean anything"
    assert (expected < 98).all()
    assert_allclose(centre_of_mass(warped), expected, atol=0.03)


@pytest.mark.parametrize("grow", [2, 3, 0.5])
def test_resize_agrees_with_an_independent_resize(grow):
    """cv2.resize and torch's interpolate (align_corners=False) share outer edges, as ours does."""
    size, target = Size(90, 66), Size(int(90 * grow), int(66 * grow))
    image = blob((40.25, 30.5), size, 6.0)
    expected = geometry.transform(geometry.resize(size, target), np.array([[40.25, 30.5]]))[0]
    assert_allclose(centre_of_mass(cv2.resize(image, tuple(target), interpolation=cv2.INTER_AREA)), expected, atol=0.02)
    resized = torch.nn.functional.interpolate(torch.tensor(image)[None, None], (target.h, target.w), mode="bilinear")
    assert_allclose(centre_of_mass(resized[0, 0].numpy()), expected, atol=0.02)


def test_flip_is_numpys_flip():
    image = blob(POINT[0], FROM)
    assert_allclose(geometry.warp(image, geometry.flip(FROM), FROM), image[:, ::-1])


def test_crop_takes_the_whole_box_and_the_whole_image():
    assert_allclose(geometry.crop(geometry.whole_image_box(FROM), FROM), np.eye(3), atol=1e-12)
    assert_allclose(geometry.crop(geometry.whole_image_box(FROM), TO), geometry.resize(FROM, TO), atol=1e-12)
    box = np.array([3.0, 5.0, 40.0, 20.0])
    corners = geometry.transform(geometry.crop(box, TO), geometry.box_corners(box))
    assert_allclose(corners, [[-0.5, -0.5], [59.5, -0.5], [59.5, 87.5], [-0.5, 87.5]], atol=1e-9)


def test_crop_between_px_as_published_code_has_it():
    box = np.array([3.0, 5.0, 40.0, 20.0])
    ends = np.array([[3.0, 5.0], [43.0, 25.0]])
    assert_allclose(geometry.transform(geometry.crop(box, TO, "stride"), ends), [[0, 0], [60, 88]], atol=1e-9)
    assert_allclose(geometry.transform(geometry.crop(box, TO, "corner"), ends), [[0, 0], [59, 87]], atol=1e-9)


def test_compose_goes_in_the_order_written_and_invert_undoes_it():
    steps = [MAPS["rotation"], MAPS["scaling"], MAPS["flip"]]
    one_by_one = POINT
    for step in steps:
        one_by_one = geometry.transform(step, one_by_one)
    whole = geometry.compose(*steps)
    assert_allclose(geometry.transform(whole, POINT), one_by_one)
    assert_allclose(geometry.invert(whole), np.linalg.inv(whole), atol=1e-12)
    assert_allclose(geometry.transform(geometry.invert(whole), one_by_one), POINT)


def test_numpy_and_torch_agree_and_batch():
    matrices = np.stack([MAPS["composed"], MAPS["rotation"]])
    xy = np.random.default_rng(0).uniform(0, 50, (2, 5, 2))
    expected = np.stack([geometry.transform(m, p) for m, p in zip(matrices, xy, strict=True)])
    assert_allclose(geometry.transform(matrices, xy), expected)
    assert_allclose(geometry.transform(torch.tensor(matrices), torch.tensor(xy)).numpy(), expected)
    assert_allclose(geometry.invert(torch.tensor(matrices)).numpy(), np.linalg.inv(matrices), atol=1e-12)
    assert_allclose(geometry.scale_of(matrices), np.sqrt(np.abs(np.linalg.det(matrices))))


def test_vectors_ignore_translation():
    moved = geometry.transform_vectors(geometry.translation(9, 4), POINT)
    assert_allclose(moved, POINT)


@pytest.mark.parametrize("frame", ["unit", "corner", "grid"])
def test_frames_agree_with_their_pictures(frame):
    size = Size(4, 10)
    ends = np.array([[0.0, 0.0], [3.0, 9.0]])
    if frame == "unit":
        assert_allclose(geometry.px_to_unit(ends, size), [[0.125, 0.05], [0.875, 0.95]])
        assert_allclose(geometry.unit_to_px(geometry.px_to_unit(ends, size), size), ends)
        mirrored = geometry.transform(geometry.flip(size), ends)
        assert_allclose(geometry.mirror_unit(geometry.px_to_unit(ends, size)), geometry.px_to_unit(mirrored, size))
    elif frame == "corner":
        assert_allclose(geometry.px_to_corner(ends, size), [[-1, -1], [1, 1]])
        assert_allclose(geometry.corner_to_px(geometry.px_to_corner(ends, size), size), ends)
    else:
        grid = Size(2, 5)
        assert_allclose(geometry.px_to_grid(np.array([[0.5, 0.5]]), size, grid), [[0, 0]])
        assert_allclose(geometry.px_to_grid(ends, size, grid), geometry.transform(geometry.resize(size, grid), ends))
        assert_allclose(geometry.grid_to_px(geometry.px_to_grid(ends, size, grid), size, grid), ends)


def test_boxes():
    xy = np.array([[2.0, 7.0], [12.0, 3.0], [99.0, 99.0]])
    box = geometry.box_of_points(xy, np.array([True, True, False]), margin=0.1)
    assert_allclose(box, [1.5, 3.1, 12, 4.8])
    assert np.isnan(geometry.box_of_points(xy, np.zeros(3, bool))).all()
    fitted = geometry.fit_aspect(box, Size(30, 40), padding=1.25)
    assert_allclose(fitted[2] / fitted[3], 0.75)
    assert_allclose(fitted[:2] + fitted[2:] / 2, box[:2] + box[2:] / 2)
    assert fitted[2] >= 1.25 * box[2] - 1e-9
    assert geometry.box_overlap(np.array([-5.0, -5, 10, 20]), Size(8, 9)) == 5 * 9
    assert geometry.box_overlap(np.array([8.0, 0, 5, 5]), Size(8, 9)) == 0
    jittered = geometry.jitter_box(box, 0.1, np.random.default_rng(3))
    assert (np.abs(jittered[2:] / box[2:] - 1) <= 0.1).all()
    assert_allclose(geometry.jitter_box(box, 0.0, np.random.default_rng(3)), box)


@pytest.mark.parametrize("text", ["", "0x5", "12x", "axb", "-3x4", "3.5x2"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
        Size.parse(text)


def test_size_parses():
    assert Size.parse("192x256") == (192, 256)
    assert Size.parse("64") == (64, 64)
    assert str(Size(192, 256)) == "192x256"


def test_share_of_the_smaller_box() -> None:
    large, small = np.array([0.0, 0, 10, 8]), np.array([6.0, 6, 8, 4])
    assert geometry.box_share(large, small) == pytest.approx(4 * 2 / 32)
    assert geometry.box_share(large, np.array([2.0, 2, 3, 3])) == 1
    assert geometry.box_share(large, np.array([20.0, 2, 3, 3])) == 0
    pairs = geometry.box_share(np.stack([large, small])[:, None], np.stack([large, small])[None])
    assert np.allclose(pairs, [[1, 0.25], [0.25, 1]])
