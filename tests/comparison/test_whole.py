"""One real comparison through the command line: killed inside a cell, continued, one method failing in training."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import typer
import warmed
from quick import options

from fiducial import cli
from fiducial.errors import UserError

pytest.importorskip("torch")

RECIPE = """
from dataclasses import replace
from comparison.small import QUICK
from fiducial.training.recipe import OptimizerSpec

def diverging():
    # Rates that no network survives: the first step leaves weights that are infinite.
    return replace(QUICK, method="deeppose", optimizer=OptimizerSpec(lr=1e30, warmup=0.0, clip_norm=0.0))
"""
OPTIONS = options(
    ["preflight=false", "workers=0", "memory_format=contiguous"],
    **{"epochs": 2, "batch_size": 8, "backbones": "test_efficientnet", "sizes": "64x64", "pretrained": "no"},
)
FIRST, SECOND = (f"{method}-test_efficientnet-64x64-s0" for method in ("deeppose", "heatmap"))


def command(*words: str) -> warmed.Process:
    return warmed.start("from fiducial import cli; cli.main()", *words, path=[Path(__file__).parents[1]])


def test_killed_continued_and_with_a_failing_method(blobs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "own.py").write_text(RECIPE)
    methods = f"deeppose,heatmap,@{tmp_path / 'own.py'}:diverging"
    words = ["compare", str(blobs), "--out", str(out), "--methods", methods, *OPTIONS]
    process = command(*words)
    begun = out / "runs" / SECOND / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 300
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait().returncode == -signal.SIGKILL, "it was to be killed inside its second cell"
    assert (out / "runs" / FIRST / "model.json").exists()
    assert not (out / "report.html").exists()
    kept = (out / "runs" / FIRST / "model.safetensors").stat().st_mtime_ns

    done = command(*words, "--jobs", "2", "--json", str(tmp_path / "figures.json")).wait()
    assert done.returncode == 0, done.stderr
    assert (out / "runs" / FIRST / "model.safetensors").stat().st_mtime_ns == kept
    log = (out / "runs" / SECOND / "log.txt").read_text()
    assert log.count("$ fiducial fit") == 2
    assert log.count("--resume") == 1
    assert len((out / "runs" / SECOND / "history.csv").read_text().splitlines()) == 3, "each epoch once"

    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {row["name"]: row["seeds"] for row in figures["rows"]} == {"deeppose": [0], "heatmap": [0]}
    assert len(figures["failures"]) == 1
    assert all("the weights have diverged" in why for why in figures["failures"].values())
    assert all(own["ms"] > 0 for row in figures["rows"] for own in row["latency"].values()), figures
    page = (out / "report.html").read_text()
    assert "Failed runs" in page
    assert "the weights have diverged" in page
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("plan: ", "this run is of "))]
    assert lines[0].endswith("going on in its place"), "the killed one's lock"
    assert lines[1] == "1 of 3 runs are finished already"
    assert sum(f"of 3] {SECOND}: val NME " in line for line in lines) == 1
    assert sum("failed after" in line for line in lines) == 1

    with pytest.raises(UserError, match="epochs was 2 and is now 3"):
        typer.main.get_command(cli.app).main([*words, "--epochs", "3"], standalone_mode=False)
