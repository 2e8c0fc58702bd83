"""Wild values of every setting of `fit`: a run, or a line.

`pytest -m long tests/hostile/test_words.py` tries 300; the default run a sample by the same seeds."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hostile import limits, mutations

torch = pytest.importorskip("torch")

import fiducial  # noqa: E402
from fiducial import config  # noqa: E402
from fiducial.errors import Failure, UserError  # noqa: E402
from fiducial.models import catalog  # noqa: E402
from fiducial.training.recipe import Recipe  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
METHODS = [method for method in catalog.methods() if method != "motion"]
ASIDE = ("epochs", "passes", "patience")  # however many are asked for are trained
NEAR: list[Any] = [0, 1, 2, 3, -1, 0.5, 1.5, 16, 100, 1e-6, 1e6, True, "auto", "none", [0, 0], [1, 2], [0.5, -0.5]]


def setting_of(dice: random.Random, method: str) -> str:
    """One setting of the recipe or of the method's head with a value that it may or may not take."""
    head = {f"head.{name}" for name in config.to_dict(catalog.head_module(method).Spec())}
    names = sorted(set(config.flat(config.to_dict(Recipe()))) - {"head", "method", *ASIDE} | head)
    value = dice.choice(dice.choice((NEAR, NEAR, mutations.VALUES)))
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{dice.choice(names)}={text[:2000]}"


def fit(value: list[Any]) -> str:
    """Trains one epoch of a few crops with one or two wild settings."""
    data, seed = value
    dice = random.Random(seed)
    method = dice.choice(METHODS)
    usual = ["batch_size=4", "workers=0", "preflight=false", "precision=fp32", "memory_format=contiguous"]
    wild = [setting_of(dice, method) for _ in range(dice.choice((1, 1, 2)))]
    with tempfile.TemporaryDirectory() as folder:
        try:
            fiducial.fit(
                data, f"{folder}/run", method=method, backbone="test_efficientnet", size=32, epochs=1,
                pretrained="no", settings=[*usual, *wild],
            )  # fmt: skip
        except Failure as error:
            raise UserError(f"{method} {wild}"[:200].encode("unicode_escape").decode(), str(error)[:1000]) from error
    return ""


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import write_blobs

    return write_blobs(tmp_path_factory.mktemp("data") / "few", {"train": 6, "val": 3})


@pytest.mark.parametrize("count", [4, pytest.param(300, marks=pytest.mark.long)])
def test_wild_settings(few: Path, count: int) -> None:
    outcomes = limits.run("hostile.test_words:fit", [[str(few), seed] for seed in range(count)], seconds=30)
    if count > 100:
        print(f"\nfit: {limits.table(outcomes, 0)}")
    assert not limits.faults(outcomes), limits.table(outcomes, 30)
