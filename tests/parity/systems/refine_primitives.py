"""Peaks of maps: the highest cell, quarter, DARK, DARK as UDP has it, blurs, and suppression of lower peaks."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.models import heatmaps
from fiducial.reference import maps as others

TOLERANCE = {
    "max_maps*": Tolerance(),
    "ties*": Tolerance(),
    "refined_quarter*": Tolerance(),
    "refined_dark_k*": Tolerance(absolute=1e-4),
    "refined_dark_udp_k*": Tolerance(absolute=1e-3),
    "*": Tolerance(absolute=1e-5),
}
LEFT_OUT = {"blur_index": "says which maps the blurred ones are of"}


def run(case: Case) -> dict[str, Tensor]:
    given = {name: value[None] for name, value in case.given.items() if name != "vec"}
    shown = case.expected["blur_index"]
    found: dict[str, Tensor] = {}
    for which in ("maps", "maps_any"):
        xy, peak, refined = peaks(given[which])
        found |= {f"max_{which}.locs": xy, f"max_{which}.vals": peak}
        found[which.replace("maps", "refined_quarter")] = refined
    found["ties_locs"], _, found["ties_refined"] = peaks(given["ties"])
    maps = given["maps"]
    cells, _ = heatmaps.argmax(maps)
    for name in case.expected:
        start, _, kernel = name.rpartition("_k")
        if start in ("refined_dark", "refined_dark_udp"):
            refine = heatmaps.dark if start == "refined_dark" else heatmaps.dark_udp
            found[name] = refine(maps, cells, int(kernel))[0]
    for kernel in case.config["kernels"]:
        found[f"blur{kernel}"] = heatmaps.blur(maps, kernel)[0, shown]
        found[f"blur1d_{kernel}"] = others.blur_vectors(case.given["vec"], kernel)
    for name, theirs in case.expected.items():
        if name.startswith("nms"):
            found[name] = others.suppress(maps, int(name.removeprefix("nms")))[0, : len(theirs)]
    return found


def peaks(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cells, heights, and cells after the quarter shift. The reference says (-1, -1) for a map with nothing above 0; we
    say its highest cell, whose height is the point's score."""
    cells, peak = heatmaps.argmax(maps)
    cells = torch.where(peak[..., None] > 0, cells, -1.0)
    return cells[0], peak[0], heatmaps.quarter(maps, cells)[0]
