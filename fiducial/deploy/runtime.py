"""A detector's contract for whole images: full image + boxes in, Keypoints in px of that image out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import Keypoints, Skeleton

if TYPE_CHECKING:
    from fiducial.models.detector import Detector


class Runtime(Protocol):
    """What prediction, evaluation and serving speak to; torch here, exported files join as runtimes."""

    skeleton: Skeleton

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        """uint8 RGB [h, w, 3] and boxes [n, 4] (edge frame; None = the whole image) -> xy [n, k, 2] px of image."""
        ...


class TorchRuntime:
    """A detector (in eval mode) on the device where it is."""

    def __init__(self, detector: Detector, flip_test: bool = False) -> None:
        self.detector, self.flip_test = detector, flip_test
        self.skeleton = detector.spec.skeleton
        if flip_test:
            _ = self.skeleton.flip_order  # refused at once where it is unknown

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        import torch

        spec = self.detector.spec
        crops, image_to_crop = cut(image, boxes_xywh, spec.size, spec.padding)
        device = self.detector.get_buffer("mean").device
        found = self.detector.predict(torch.from_numpy(crops).to(device), self.flip_test).numpy()
        return found.mapped(geometry.invert(image_to_crop))


def cut(image: np.ndarray, boxes_xywh: np.ndarray | None, size: Size, padding: float) -> tuple[np.ndarray, np.ndarray]:
    """One crop a box, the very crops of evaluation: [n, h, w, 3] uint8, maps [n, 3, 3] float64, image -> crop.

    None = the whole image, which is not enlarged by `padding`, only brought to the aspect of `size`."""
    from fiducial.data import loading

    if boxes_xywh is None:
        boxes, padding = geometry.whole_image_box(Size(image.shape[1], image.shape[0]))[None], 1.0
    else:
        boxes = np.asarray(boxes_xywh, np.float64).reshape(-1, 4)
    wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] <= 0).any(1)
    if wrong.any():
        raise UserError(f"box {boxes[wrong][0].tolist()}: expected finite x, y and positive width and height, px")
    maps = np.empty((len(boxes), 3, 3))
    crops = np.empty((len(boxes), size.h, size.w, 3), np.uint8)
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    for i, box in enumerate(boxes):
        maps[i] = geometry.crop(geometry.fit_aspect(box, size, padding), size)
        crops[i] = loading.crop_of(picture, None, maps[i], size)
    return crops, maps


def load(path: Path, flip_test: bool = False) -> Runtime:
    """The runtime of a run folder, on this machine's accelerator or CPU."""
    import torch

    from fiducial.models import detector as detectors

    detector, _ = detectors.load(path, "cuda" if torch.cuda.is_available() else "cpu")
    return TorchRuntime(detector, flip_test)
