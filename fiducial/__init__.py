"""Fiducial: from annotated images to the best keypoint detector for a device, with proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fiducial.version import __version__ as __version__

if TYPE_CHECKING:
    from fiducial.runtime.runtime import Runtime


def load(model: str) -> Runtime:
    """An exported model or a run folder: `fiducial.load("model.onnx")(image, boxes)` gives Keypoints in px of image.

    image is uint8 RGB [h, w, 3], boxes [n, 4] xywh px (None = the whole image)."""
    from pathlib import Path

    from fiducial.runtime import runtime

    return runtime.load(Path(model))
