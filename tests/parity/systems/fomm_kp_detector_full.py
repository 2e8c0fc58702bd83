"""The First-Order-Motion model's detector in its published width, with weights by a formula."""

from __future__ import annotations

import json

import torch
from parity.closed_form import formula
from parity.golden import Case, Tolerance
from parity.systems.fomm_kp_detector import build, evaluate
from torch import Tensor

TOLERANCE = {"jacobian": Tolerance(absolute=1e-3), "*": Tolerance(absolute=1e-4)}


def run(case: Case) -> dict[str, Tensor]:
    backbone, head = build(case.config, case.given["x"], weights(case))
    found = evaluate(backbone.eval(), head.eval(), case.given["x"])
    logits = found["logits"]
    found["heatmap_max"] = found["heatmap"].amax((-2, -1))
    found["logits_stats"] = torch.stack([logits.mean(), logits.std(), logits.min(), logits.max()])
    return found


def weights(case: Case) -> dict[str, Tensor]:
    """In the reference's names and order; the golden's README has the special cases."""
    listed = json.loads((case.folder / "keys.json").read_text())["state_dict"]
    state = {name: formula(name, place, tuple(shape)) for place, (name, shape, *_) in enumerate(listed)}
    for name in ("kp.weight", "kp.bias"):
        state[name] *= 0.25
    if "jacobian.weight" in state:
        state["jacobian.weight"] *= 0.1
        state["jacobian.bias"] += torch.tensor([1.0, 0, 0, 1]).repeat(len(state["jacobian.bias"]) // 4)
    return {name: value.float() for name, value in state.items()}
