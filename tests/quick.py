"""Runs in seconds: the smallest network, one thread, no processes, no weights from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fiducial.geometry import Size
from fiducial.training.recipe import Recipe

FIXED = ("precision=fp32", "memory_format=contiguous")  # what decides about bits and is "auto" else
ALONE = (*FIXED, "workers=0")

RECIPE = Recipe(
    method="deeppose",
    backbone="test_efficientnet",
    size=Size(64, 48),
    pretrained="no",
    epochs=2,
    batch_size=8,
    precision="fp32",
    memory_format="contiguous",
    workers=0,
    preflight=False,
)

# The same as arguments of `fiducial.fit`, one epoch.
WORDS: dict[str, Any] = {
    "method": RECIPE.method,
    "backbone": RECIPE.backbone,
    "size": str(RECIPE.size),
    "pretrained": "no",
    "epochs": 1,
    "batch_size": 8,
    "workers": 0,
}


def options(settings: Iterable[str] = (), **named: object) -> list[str]:
    """Writes options as a command takes them: ["workers=0"], batch_size=8, preflight=False -> --batch-size 8 --no-preflight
    --set workers=0."""
    words = []
    for name, value in named.items():
        flag = name.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return [*words, *(word for setting in settings for word in ("--set", setting))]


def smallest(settings: Iterable[str] = ALONE, **named: object) -> list[str]:
    """Writes the options of a run of the smallest network, with further or other ones."""
    usual = {"method": "deeppose", "backbone": "test_efficientnet", "size": "64x48", "pretrained": "no"}
    return options(settings, **{**usual, "preflight": False, **named})
