"""How far the mean of a softmax map is off, and what each way of taking out its background leaves of that.

    python benchmarks/debias.py [--cells 64] [--sigma 2] [--json]

Maps of zeros but for a Gaussian of `--sigma` cells whose height is the peak logit, centred within three cells of the
borders and corners, where the pull of the background towards the map's centre is strongest. Mean distance, cells."""

from __future__ import annotations

import argparse
import json

import torch
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import heatmaps, integral
from fiducial.reference import maps

PEAKS = (2, 3, 4, 5, 6, 7, 8)
NEAR_CELLS = 3


def centres(grid: Size, count: int, seed: int = 0) -> Tensor:
    """[1, n, 2] cells, those of `count` random ones that lie near the border, all within the outermost cells' centres."""
    last = torch.tensor([grid.w - 1.0, grid.h - 1.0])
    xy_grid = last * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    near = ((xy_grid < NEAR_CELLS) | (xy_grid > last - NEAR_CELLS)).any(-1)
    return xy_grid[near][None]


def by_the_sum(mean_grid: Tensor, logits: Tensor, grid: Size) -> Tensor:
    """The correction as it is often written, MMPose's too: by the *sum* of exp(logits) where the derivation has their
    mean, and with the centre at half of the sides. It changes next to nothing."""
    share = geometry.px_to_share(mean_grid, grid)
    corrected = maps.debiased(share, maps.cell_share(logits), share.new_tensor([0.5, 0.5]))
    return geometry.share_to_px(corrected, grid)


def measure(cells: int, sigma_cells: float) -> list[dict[str, float]]:
    """One row a peak logit."""
    grid = Size(cells, cells)
    xy_grid = centres(grid, 4000)
    rows = []
    for peak in PEAKS:
        logits = peak * heatmaps.draw_gaussians(xy_grid, grid, sigma_cells)
        plain = heatmaps.expectation(heatmaps.spatial_softmax(logits))
        found = {
            "plain": plain,
            "sum": by_the_sum(plain, logits, grid),
            "background": integral.background_free_expectation(logits),
        }
        errors = {name: float((at - xy_grid).norm(dim=-1).mean()) for name, at in found.items()}
        rows.append({"peak_logit": peak, **errors, "share_left": errors["background"] / errors["plain"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--sigma", type=float, default=2.0, help="width of the peaks, cells")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    rows = measure(arguments.cells, arguments.sigma)
    print("peak logit   plain   by the sum       background taken out   left of the error")
    for row in rows:
        print(
            f"{row['peak_logit']:10}  {row['plain']:6.2f}   {row['sum']:14.4f}   {row['background']:20.3f}   "
            f"{row['share_left']:16.1%}"
        )
    if arguments.json:
        print(json.dumps({"cells": arguments.cells, "sigma": arguments.sigma, "rows": rows}))


if __name__ == "__main__":
    main()
