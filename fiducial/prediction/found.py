"""What a look at a frame gave."""

from __future__ import annotations

from dataclasses import dataclass, field

from fiducial.prediction.boxes import Boxes
from fiducial.types import Keypoints


@dataclass(frozen=True)
class InstancesFound:
    """The instances of one frame: where it was looked, and their points."""

    boxes: Boxes
    points: Keypoints  # px of the image
    lost: list[str] = field(default_factory=list)  # instances that were lost in this frame, and why
    is_cut: bool = False  # another scene begins with this frame
