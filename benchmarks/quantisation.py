"""What reading between the cells is worth: px that are lost on perfect maps.

    python benchmarks/quantisation.py [--side 2500] [--cells 64] [--sigma 2] [--points 4000] [--json]

A square picture of `--side` px, maps of `--cells` x `--cells` cells, points drawn evenly over it. No network: the maps
are what it was to learn, so all that is lost is lost in reading. Gaussians of peak 1 and width `--sigma` cells for the
decoders of maps; for the mean of the highest cells the splat, which is the mean of randomly rounded targets. Figures,
px: mean, median and largest distance of the points that lie further than two cells from the border; then the mean of
those nearer to it, where DARK lacks neighbours and the splat loses what is beyond the outermost cells' centres."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import axes, heatmaps, rounding

BORDER_CELLS = 2


def decoders(grid: Size, sigma_cells: float) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> xy_grid of Gaussian maps."""
    return {
        "argmax": lambda maps: heatmaps.argmax(maps)[0],
        "quarter": lambda maps: heatmaps.quarter(maps, heatmaps.argmax(maps)[0]),
        "dark": lambda maps: heatmaps.dark(maps, heatmaps.argmax(maps)[0]),
        "dark, no blur": lambda maps: heatmaps.dark(maps, heatmaps.argmax(maps)[0], 1),
        "dark_udp": lambda maps: heatmaps.dark_udp(maps, heatmaps.argmax(maps)[0]),
        "dark_udp, no blur": lambda maps: heatmaps.dark_udp(maps, heatmaps.argmax(maps)[0], 1),
        "mean": lambda maps: axes.untruncated(heatmaps.expectation(heatmaps.normalised(maps)), grid, sigma_cells),
        "square": lambda maps: axes.untruncated(
            heatmaps.expectation(heatmaps.squared(maps)), grid, sigma_cells, power=2
        ),
        "windowed mean": lambda maps: heatmaps.windowed_mean(maps, heatmaps.argmax(maps)[0], sigma_cells),
    }


def measure(side: int, cells: int, sigma_cells: float, points: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Decoder -> mean, median, largest and `border_mean` distance, px; the last of points within two cells of the
    centres of the outermost cells, the others of all others."""
    size, grid = Size(side, side), Size(cells, cells)
    unit = torch.rand(1, points, 2, generator=torch.Generator().manual_seed(seed))
    xy = geometry.unit_to_px(unit, size)
    xy_grid = geometry.px_to_grid(xy, size, grid)
    far = ((xy_grid > BORDER_CELLS) & (xy_grid < cells - 1 - BORDER_CELLS)).all(-1)[0]
    maps = heatmaps.draw_gaussians(xy_grid, grid, sigma_cells)
    found = {name: decode(maps) for name, decode in decoders(grid, sigma_cells).items()}
    logits = rounding.splat(xy_grid, grid).clamp_min(1e-30).log()
    found["mean of the top 4"], found["mean of the top 9"] = (rounding.top_k_mean(logits, count) for count in (4, 9))
    result = {}
    for name, at in found.items():
        error = (geometry.grid_to_px(at, size, grid) - xy).norm(dim=-1)[0].double()
        result[name] = {
            "mean": float(error[far].mean()),
            "median": float(error[far].median()),
            "largest": float(error[far].max()),
            "border_mean": float(error[~far].mean()),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2500, help="px of the picture")
    parser.add_argument("--cells", type=int, default=64, help="cells of the maps")
    parser.add_argument("--sigma", type=float, default=2.0, help="width of the Gaussians, cells")
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    result = measure(options.side, options.cells, options.sigma, options.points, options.seed)
    print(f"px of {options.side}, {options.cells}x{options.cells} cells of {options.side / options.cells:.1f} px")
    print(f"{'':20}  {'mean':>7}  {'median':>7}  {'largest':>7}  {'at the border':>13}")
    for name, error in result.items():
        figures = f"{error['mean']:7.3f}  {error['median']:7.3f}  {error['largest']:7.3f}  {error['border_mean']:13.3f}"
        print(f"{name:20}  {figures}")
    if options.json:
        print(json.dumps({"errors_px": result, **{k: v for k, v in vars(options).items() if k != "json"}}))


if __name__ == "__main__":
    main()
