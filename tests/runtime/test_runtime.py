"""The runtime: crops are evaluation's to the byte, and points come back to where they are in the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from fiducial.card import PADDING, Card, DetectorSpec, Normalization
from fiducial.data import annotations, crops, loading
from fiducial.data.images import ArrayImages
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.contracts import Backbone, Head, Level
from fiducial.models.detector import Detector
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Runtime
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork
from fiducial.types import Batch, Instances, Keypoints, Skeleton

CHANNELS = ("red", "green", "blue")
SIZE = Size(96, 80)
TOLERANCE = 0.08  # px of the crop; edges taken for centres would be off by half a px


class Colours(Backbone):
    """The picture itself."""

    levels = (Level(3, 1),)
    normalization = Normalization((0, 0, 0), (1, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        return [image]


class CentreOfMass(Head):
    """Point i is the centre of mass of colour i: what a picture with one disc a colour is known to have."""

    def forward(self, feature: Tensor) -> Tensor:
        return feature

    def decode(self, raw: Tensor) -> Keypoints:
        mass = raw / raw.sum((-2, -1), keepdim=True)
        y, x = (torch.arange(length, dtype=raw.dtype) for length in raw.shape[-2:])
        xy = torch.stack([(mass * x).sum((-2, -1)), (mass * y[:, None]).sum((-2, -1))], -1)
        return Keypoints(xy, torch.ones_like(xy[..., 0]))

    def unflip(self, raw: Tensor, flip_order: Tensor) -> Tensor:
        return raw.flip(-1)[:, flip_order]


def finder(flip_test: bool = False, padding: float = 1.25, size: Size = SIZE) -> Runtime:
    skeleton = Skeleton("discs", CHANNELS, flip_pairs=())
    spec = DetectorSpec("none", "none", {}, size, skeleton, padding=padding)
    detector = Detector(spec, Colours(), CentreOfMass()).eval()
    return Runtime(TorchNetwork(detector, Card(spec), Path("discs"), flip_test))


def discs(size: Size, xy: np.ndarray, radius: float) -> np.ndarray:
    """Disc i of xy [3, 2] in pure colour i on black."""
    picture = np.zeros((size.h, size.w, 3), np.uint8)
    for i, point in enumerate(xy):
        layer = np.zeros((size.h, size.w), np.uint8)
        centre = (round(point[0] * 16), round(point[1] * 16))
        cv2.circle(layer, centre, round(radius * 16), 255, -1, cv2.LINE_AA, shift=4)
        picture[..., i] = layer
    return picture


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize(
    ("size", "radius"), [(Size(96, 80), 6), (Size(61, 43), 4), (Size(640, 360), 22), (Size(150, 900), 30)]
)
def test_points_of_the_whole_image_are_found_where_they_are(size: Size, radius: float, flip_test: bool) -> None:
    xy = np.array([[0.31, 0.36], [0.64, 0.57], [0.52, 0.71]]) * size
    found = finder(flip_test)(discs(size, xy, radius))
    assert found.xy.shape == (1, 3, 2)
    shrink = max(size.w / SIZE.w, size.h / SIZE.h, 1)
    np.testing.assert_allclose(found.xy[0], xy, atol=TOLERANCE * shrink)


def test_points_in_boxes_are_found_where_they_are() -> None:
    """Boxes of other places and aspects see the same discs; the crop shrinks, enlarges or keeps."""
    size = Size(333, 217)
    xy = np.array([[140.25, 90.5], [171.75, 101.0], [158.5, 128.0]])
    boxes = np.array([[100, 60, 111, 97], [130.5, 77.25, 54, 66], [20, 5, 300, 210], [60, 50, 150, 110.5]])
    found = finder()(discs(size, xy, 8), boxes)
    assert found.xy.shape == (4, 3, 2)
    np.testing.assert_allclose(found.xy, np.tile(xy, (4, 1, 1)), atol=TOLERANCE * 300 * 1.25 / SIZE.w)


def test_boxes_together_are_boxes_one_by_one(blob_model: Path) -> None:
    run = runtime.load(blob_model)
    picture = np.random.default_rng(5).integers(0, 256, (117, 203, 3), dtype=np.uint8)
    boxes = np.array([[3, 4, 50, 90], [100.5, 20, 61, 33.25], [-20, -10, 80, 70]])
    together = run(picture, boxes)
    for i, box in enumerate(boxes):
        alone = run(picture, box[None])
        np.testing.assert_allclose(together.xy[i], alone.xy[0], atol=1e-3)
        np.testing.assert_allclose(together.score[i], alone.score[0], atol=1e-5)
    assert np.abs(together.xy[0] - together.xy[1]).max() > 1  # the boxes matter


def test_no_boxes_give_no_points(blob_model: Path) -> None:
    found = runtime.load(blob_model)(np.zeros((40, 30, 3), np.uint8), np.empty((0, 4)))
    assert found.xy.shape == (0, 3, 2)
    assert found.score.shape == (0, 3)


def instances_of(images: ArrayImages, boxes: np.ndarray, image_row: np.ndarray) -> Instances:
    count, sizes = len(boxes), [(array.shape[1], array.shape[0]) for array in images.arrays]
    return Instances(
        Skeleton("discs", CHANNELS),
        images,
        np.arange(len(images)),
        np.array(sizes, np.int32),
        image_row,
        np.arange(count),
        np.ones((count, 3, 2), np.float32),
        np.full((count, 3), 2, np.uint8),
        boxes.astype(np.float32),
        np.ones(count, np.float32),
        np.zeros(count, bool),
        "memory",
    )


@pytest.mark.parametrize("size", [Size(64, 48), Size(48, 64), Size(128, 128)])
def test_crops_are_those_of_the_evaluation_loader(size: Size) -> None:
    """To the byte, for boxes that enlarge, shrink a little, and shrink by much (there both average first)."""
    generator = np.random.default_rng(1)
    arrays = [generator.integers(0, 256, shape, dtype=np.uint8) for shape in ((90, 131, 3), (700, 1100, 3))]
    boxes = np.array(
        [[10, 20, 40, 31], [-7, 60, 90, 55], [100.5, 37.25, 220, 400], [0, 0, 1100, 700], [300, 200, 31, 44]]
    )
    rows = np.array([0, 0, 1, 1, 1])
    batch: Batch = next(
        iter(loading.loader(instances_of(ArrayImages(arrays), boxes, rows), size, 8, None, padding=1.2))
    )
    for image in (0, 1):
        found, maps = crops.cut(arrays[image], boxes[rows == image].astype(np.float32), size, 1.2)
        np.testing.assert_array_equal(found, batch.image.numpy()[rows == image])
        np.testing.assert_array_equal(maps.astype(np.float32), batch.image_to_crop.numpy()[rows == image])


def test_crops_of_files_are_those_of_the_evaluation_loader(blobs: Path) -> None:
    instances, _ = annotations.load(blobs, "test")
    batch: Batch = next(iter(loading.loader(instances, Size(64, 48), 4, None)))
    for place, row in enumerate(batch.row.tolist()):
        picture = instances.images.read(int(instances.image_row[row]))
        found, _ = crops.cut(picture, instances.box_xywh[row][None], Size(64, 48), PADDING)
        np.testing.assert_array_equal(found[0], batch.image[place].numpy())


def test_the_whole_image_is_not_padded() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    found, maps = crops.cut(picture, None, Size(64, 48), 1.25)
    np.testing.assert_array_equal(found[0], picture)
    np.testing.assert_array_equal(maps[0], np.eye(3))


@pytest.mark.parametrize("box", [[1, 2, 0, 5], [1, 2, 3, -1], [1, np.nan, 3, 4], [np.inf, 2, 3, 4]])
def test_a_box_without_area_is_refused(box: list[float]) -> None:
    with pytest.raises(UserError, match="expected finite x, y and positive width and height"):
        crops.cut(np.zeros((20, 30, 3), np.uint8), np.array([[1, 2, 3, 4], box]), SIZE, 1.25)


def test_the_mirror_is_refused_at_once_where_pairs_are_unknown(blob_model: Path) -> None:
    with pytest.raises(UserError, match="flip pairs are unknown"):
        runtime.load(blob_model, flip_test=True)


def test_the_picture_is_not_changed() -> None:
    picture = discs(Size(70, 50), np.array([[20.0, 20], [40, 25], [30, 35]]), 4)
    before = picture.copy()
    finder()(picture, np.array([[5, 6, 60, 40]]))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    ("files", "model"),
    [
        (("model.onnx", "model.certificate.json", "notes.txt"), "model.onnx"),
        (("model.xml", "model.bin"), "model.xml"),
        (("model.ncnn.param", "model.ncnn.bin", "model.ncnn.json", "model.decode.onnx"), "model.ncnn.param"),
        (("model.safetensors", "model.json", "model.onnx"), ""),
    ],
)
def test_a_folder_of_one_model_means_that_model(tmp_path: Path, files: tuple[str, ...], model: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert runtime.resolved(tmp_path) == tmp_path / model
    assert runtime.is_exported(tmp_path) == bool(model)
    assert model == "" or runtime.files_of(tmp_path) == runtime.files_of(tmp_path / model)


def test_of_several_models_one_must_be_named(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.xml", "model.bin"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"holds 2 models: model\.onnx, model\.xml\. Name one"):
        runtime.load(tmp_path)
