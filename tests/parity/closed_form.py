"""Weights by a formula, for networks whose weights are too large to be kept: the goldens' READMEs define it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn


def fill(network: nn.Module, damped: tuple[str, ...] = ()) -> None:
    """Every tensor of the state by `formula` of its place in the state. Keys ending in one of `damped` are multiplied by
    0.3, which keeps residual sums bounded."""
    for ordinal, (name, tensor) in enumerate(network.state_dict().items()):
        values = formula(name, ordinal, tuple(tensor.shape))
        with torch.no_grad():
            tensor.copy_((values * 0.3 if name.endswith(damped) else values).to(tensor.dtype))


def formula(name: str, ordinal: int, shape: tuple[int, ...]) -> Tensor:
    """A tensor of float64 by a hash of its place in the state and of the element's place in it."""
    phase = 12.9898 * np.arange(math.prod(shape), dtype=np.float64) + 78.233 * ordinal
    h = np.sin(phase) * 43758.5453123
    u = h - np.floor(h)
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        values = np.zeros_like(u)
    elif last == "running_mean":
        values = 0.1 * (2 * u - 1)
    elif last == "running_var" or (last == "weight" and len(shape) == 1):
        values = 0.75 + 0.5 * u
    elif len(shape) >= 2:
        values = (2 * u - 1) * math.sqrt(6 / math.prod(shape[1:]))
    else:
        values = 0.05 * (2 * u - 1)
    return torch.from_numpy(values.reshape(shape))


def ends_of_blocks(network: nn.Module) -> tuple[str, ...]:
    """The last norm of every residual block of an HRNet: the third of a bottleneck, the second of a basic block."""
    names = [name for name, _ in network.named_parameters() if name.endswith(".weight")]
    bottlenecks = {name.removesuffix("bn3.weight") for name in names if name.endswith(".bn3.weight")}
    basic = [n for n in names if n.endswith(".bn2.weight") and n.removesuffix("bn2.weight") not in bottlenecks]
    return tuple([f"{start}bn3.weight" for start in bottlenecks] + basic)
