"""Single frames of clips as instances without labels: what a teacher is asked about, and what its student looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiducial import geometry
from fiducial.data import sampling, skeletons
from fiducial.motion.clips import Clips
from fiducial.types import Instances, Skeleton

SCORED_A_CLIP = 60  # frames of a held-out clip, evenly over it


def scored_rows(clips: Clips) -> np.ndarray:
    """Lists the frames [n] to score on: at most 60 of each scored clip, evenly over it."""
    rows = [np.array(clips.rows(clip)) for clip in clips.scored]
    return np.concatenate([of_clip[sampling.places(len(of_clip), SCORED_A_CLIP)] for of_clip in rows])


def train_rows(clips: Clips) -> np.ndarray:
    """Lists all frames [n] to learn from."""
    return np.concatenate([np.array(clips.rows(clip)) for clip in clips.chosen(held_out=False)])


def instances_of(clips: Clips, points: int) -> Instances:
    """Makes an instance of every frame, whole, none of whose `points` is labelled. Its row is the frame's.

    The points have no names, so a mirrored frame has them where they are found: mirroring is allowed."""
    count, size = len(clips.frames), clips.index.size
    numbers = np.arange(count)
    return Instances(
        skeleton=Skeleton("frames", skeletons.numbered(points), flip_pairs=()),
        images=_ClipImages(clips),
        image_id=numbers,
        image_size=np.tile(np.array(size, np.int32), (count, 1)),
        image_row=numbers,
        annotation_id=numbers,
        xy=np.zeros((count, points, 2), np.float32),
        visibility=np.zeros((count, points), np.uint8),
        box_xywh=np.tile(geometry.whole_image_box(size).astype(np.float32), (count, 1)),
        area=np.full(count, size.w * size.h, np.float32),
        crowd=np.zeros(count, bool),
    )


@dataclass(frozen=True)
class _ClipImages:
    """Implements `Images`; the frames stay in their file."""

    clips: Clips

    def __len__(self) -> int:
        return len(self.clips.frames)

    def name(self, row: int) -> str:
        return self.clips.where(row)

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        return self.clips.frames[row]
