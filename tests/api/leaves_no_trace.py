"""Calls the API and looks whether the caller's random numbers, threads and words are what they were: a script of
test_side_effects.py, DATA, MODEL and a folder as its words."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fiducial
from fiducial import UserError

QUICK: dict[str, Any] = {
    "method": "deeppose",
    "backbone": "test_efficientnet",
    "size": (64, 48),
    "epochs": 1,
    "batch_size": 8,
    "lr": 3e-3,
    "pretrained": "no",
    "workers": 0,
    "precision": "fp32",
    "memory_format": "contiguous",
}


def state() -> list[Any]:
    """The caller's random numbers, threads and words."""
    import torch

    numbers = np.random.get_state()
    return [
        random.getstate(),
        numbers[1].tolist(),
        numbers[2],
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        list(sys.argv),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    ]


def refused(words: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except UserError as error:
        said = str(error)
    else:
        said = "nothing"
    assert words in said, said


def main(data: Path, model: Path, folder: Path) -> None:
    random.seed(3)
    np.random.seed(4)
    torch.manual_seed(5)
    before = state()
    instances = fiducial.Instances.read(data, "train")
    run = fiducial.fit(instances, folder / "run", preflight=True, **QUICK)
    assert state() == before, "fit"
    refused("holds a run already", lambda: fiducial.fit(instances, folder / "run", **QUICK))
    wrong = {**QUICK, "method": "heatmap"}  # said when the network is made, after seeding
    refused("32", lambda: fiducial.fit(instances, folder / "other", **wrong))
    assert state() == before, "a fit that fails"
    loaded = fiducial.load(model, threads=1 + torch.get_num_threads())
    image = instances.images.read(0)
    loaded(image)
    loaded.batch([image] * 3)
    assert state() == before, "load with threads, a call, a batch"
    refused("images[1]", lambda: loaded.batch([image, "gone.png"]))
    fiducial.evaluate(run, data)
    fiducial.evaluate(loaded, instances)
    assert state() == before, "evaluate"
    fiducial.export(run, folder / "shipped")
    fiducial.predict(folder / "shipped", data / "images", folder / "found")
    assert state() == before, "export, predict"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
