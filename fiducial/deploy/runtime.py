"""A detector's contract for whole images: full image + boxes in, Keypoints in px of that image out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import Keypoints, Skeleton


class Runtime(Protocol):
    """What prediction, evaluation and serving speak to; torch here, exported files join as runtimes."""

    skeleton: Skeleton

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        """uint8 RGB [h, w, 3] and boxes [n, 4] (edge frame; None = the whole image) -> xy [n, k, 2] px of image."""
        ...


class TorchRuntime:
    """A run folder's detector on this machine's accelerator or CPU."""

    def __init__(self, folder: Path, flip_test: bool = False) -> None:
        import torch

        from fiducial.models import detector as detectors

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.detector, self.card = detectors.load(folder, str(self.device))
        self.skeleton, self.flip_test = self.card.spec.skeleton, flip_test

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        import torch

        spec = self.card.spec
        crops, image_to_crop = cut(image, boxes_xywh, spec.size, spec.padding)
        found = self.detector.predict(torch.from_numpy(crops).to(self.device), self.flip_test).numpy()
        return found.mapped(geometry.invert(image_to_crop))


def cut(image: np.ndarray, boxes_xywh: np.ndarray | None, size: Size, padding: float) -> tuple[np.ndarray, np.ndarray]:
    """One crop a box, the very crops of training without augmentation: [n, h, w, 3] uint8, maps [n, 3, 3].

    None = the whole image, which is not enlarged by `padding`, only brought to the aspect of `size`."""
    if boxes_xywh is None:
        boxes, padding = geometry.whole_image_box(Size(image.shape[1], image.shape[0]))[None], 1.0
    else:
        boxes = np.asarray(boxes_xywh, np.float64).reshape(-1, 4)
    wrong = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] <= 0).any(1)
    if wrong.any():
        raise UserError(f"box {boxes[wrong][0].tolist()}: expected finite x, y and positive width and height, px")
    maps = [geometry.crop(geometry.fit_aspect(box, size, padding), size) for box in boxes]
    crops = [geometry.warp(image, matrix, size) for matrix in maps]
    shape = (len(boxes), size.h, size.w, 3)
    return np.stack(crops) if crops else np.empty(shape, np.uint8), np.stack(maps) if maps else np.empty((0, 3, 3))


def load(path: Path, flip_test: bool = False) -> Runtime:
    """The runtime of a run folder."""
    return TorchRuntime(path, flip_test)
