"""Some of many things, evenly over them."""

from __future__ import annotations

import numpy as np


def places(count: int, most: int) -> np.ndarray:
    """[n] rising places of at most `most` of `count` things, the first and the last among them; none of none."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
