"""H3R: the mean position of the highest cells, the mean of randomly rounded targets and one drawing of them."""

from __future__ import annotations

from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import rounding

TOLERANCE = {"coords_*": Tolerance(absolute=1e-4), "enc_hard": Tolerance(), "*": Tolerance(absolute=1e-6)}


def run(case: Case) -> dict[str, Tensor]:
    logits = case.given["scores"]
    grid = Size(logits.shape[-1], logits.shape[-2])
    size = Size(*(round(cells * case.config["stride"]) for cells in grid))
    found: dict[str, Tensor] = {}
    for name in case.expected:
        if name.startswith("coords_topk"):
            xy_grid = rounding.top_k_mean(logits, int(name.removeprefix("coords_topk")))
            found[name] = geometry.grid_to_px(xy_grid, size, grid, "stride")
    xy_grid = geometry.px_to_grid(case.given["gt"], size, grid, "stride")
    found["enc_prob"] = rounding.splat(xy_grid, grid)
    found["enc_hard"] = rounding.one_hot(rounding.rounded(xy_grid, case.given["u01"]), grid)
    return found
