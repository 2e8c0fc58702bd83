"""SimpleBaseline's Gaussian maps, biased and unbiased (DARK)."""

from __future__ import annotations

from functools import partial

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.geometry import Size
from fiducial.reference import codecs

TOLERANCE = {
    "*.heatmaps": Tolerance(absolute=1e-6),
    "*.weights": Tolerance(),
    "biased.*": Tolerance(absolute=1e-5),
    "*": Tolerance(absolute=1e-4),
}
# What code bases call the kernel of DARK's blur.
BLUR_NAMES = ("blur", "blur_kernel_size", "blur_kernel", "blur_cells", "kernel_size", "kernel", "dark_kernel")


def run(case: Case) -> dict[str, Tensor]:
    size, grid = Size(*case.config["input_size"]), Size(*case.config["heatmap_size"])
    xy, visible = case.given["keypoints"], case.given["visible"]
    found: dict[str, Tensor] = {}
    blur = blur_cells(case)
    for kind, encode, decode in (
        ("biased", codecs.msra_encode, codecs.msra_decode),
        ("unbiased", codecs.msra_unbiased_encode, partial(codecs.msra_unbiased_decode, kernel_cells=blur)),
    ):
        target = encode(xy, visible, size, grid, case.config["sigma"])
        found |= {f"{kind}.heatmaps": target.maps[0], f"{kind}.weights": target.weight}
        maps = {name: case.given[name][None] for name in ("pred", "pred_pos") if name in case.given}
        roundtrip = case.expected.get(f"{kind}.dec_roundtrip.keypoints")
        if roundtrip is not None:
            maps["roundtrip"] = target.maps[:, subset(xy, size, roundtrip.shape[1])]
        for name, values in maps.items():
            decoded = decode(values, size)
            found |= {f"{kind}.dec_{name}.keypoints": decoded.xy, f"{kind}.dec_{name}.scores": decoded.score}
    return found


def blur_cells(case: Case) -> int:
    """DARK's kernel; 11, which all published code has, where the case states none."""
    return case.config.first(*BLUR_NAMES, default=11)


def subset(xy: Tensor, size: Size, count: int) -> Tensor:
    """Which points went round: all, or the first ones in the picture."""
    if count == xy.shape[1]:
        return torch.arange(count)
    inside = ((xy[0] >= 0) & (xy[0] <= xy.new_tensor(size) - 1)).all(-1)
    return inside.nonzero()[:count, 0]
