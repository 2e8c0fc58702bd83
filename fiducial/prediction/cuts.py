"""Where a video cuts from one scene to another, so that nobody in it is who was there before."""

from __future__ import annotations

import cv2
import numpy as np

GRID = 32  # cells a side, in which a picture is looked at
# Correlation of grey levels from frame to frame below which it is a cut. Within 15 videos of faces, mice, flies and people, one
# shaken by hand, it is 0.60 at least; between two of them 0.32 at most in 95 of 100 cases.
LEAST = 0.45
PLAIN = 2.0  # grey levels, standard deviation: a picture that is black or plain says nothing


class Cuts:
    """Looks at the frames of one video, in order."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None  # [cells], of mean 0 and length 1

    def __call__(self, image: np.ndarray) -> bool:
        """Says whether the next frame, uint8 RGB [h, w, 3], is of another scene. One in which the light changes is not; of
        two cameras in one room it may not be noticed."""
        step = max(1, min(image.shape[:2]) // (4 * GRID))  # all pixels of a large picture would take 9 ms
        few = np.ascontiguousarray(image[::step, ::step])
        cells = cv2.resize(few, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.float64).mean(2).ravel()
        cells -= cells.mean()
        if cells.std() < PLAIN:
            return False
        cells /= np.linalg.norm(cells)
        last, self._last = self._last, cells
        return last is not None and float(last @ cells) < LEAST
