"""Flip tests: each representation back from the mirror, and the mean of maps of two sizes."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.geometry import Size
from fiducial.models import flipping
from fiducial.reference import flipping as others

TOLERANCE = {"aggregate*": Tolerance(absolute=1e-6), "*": Tolerance(absolute=1e-7)}


def run(case: Case) -> dict[str, Tensor]:
    given, order = case.given, torch.tensor(case.config["flip"])
    size = Size(*case.config["input_size"])
    x, y = flipping.unflip_vectors(given["vx"], given["vy"], order)
    combined, offset = given["combined"].unflatten(1, (-1, 3)), given["offset"].unflatten(1, (-1, 2))
    found = {
        "vx": x,
        "vy": y,
        # The reference's coordinates are shares of the input; without its shift it mirrors them as if they were unit.
        "coords_shift0": flipping.unflip_coordinates(given["coords"], order, size, "unit"),
        "coords_shift1": flipping.unflip_coordinates(given["coords"], order, size, "share"),
    }
    for shift in (0, 1):
        found[f"heatmaps_shift{shift}"] = flipping.unflip_maps(given["heatmaps"], order, shift)
        found[f"combined_shift{shift}"] = others.unflip_combined(combined, order, shift).flatten(1, 2)
        found[f"offset_shift{shift}"] = others.unflip_offsets(offset, order, shift).flatten(1, 2)
    grid = Size(given["heatmaps"].shape[-1], given["heatmaps"].shape[-2])
    maps = [given["heatmaps"], given["small"]]
    found["aggregate_ac0"] = others.average(maps, grid, "edge")
    found["aggregate_ac1"] = others.average(maps, grid, "corner")
    return found
