"""Killed in mid-epoch and resumed, a run ends with the bits of one that was not; two processes learn as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

OPTIONS = ["--size", "64x48", "--epochs", "3", "--batch-size", "8", "--backbone", "mobilenetv3_small_050", "--pretrained", "no",
           "--method", "deeppose", "--no-preflight", "--set", "precision=fp32", "--set", "memory_format=contiguous",
           "--set", "workers=0", "--set", "head.dropout=0.1"]  # fmt: skip


def command(data: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "fiducial.cli", "fit", str(data), "--out", str(out), *OPTIONS, *more]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, env=environment, check=False)


def kill_in_second_epoch(arguments: list[str], out: Path) -> None:
    """kill -9 once the first epoch's checkpoint is there."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    last = out / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 200
    while not last.exists():
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_kill_9_and_resume_end_with_the_same_bits(blobs: Path, tmp_path: Path):
    whole = run(*command(blobs, tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    kill_in_second_epoch(command(blobs, tmp_path / "killed"), tmp_path / "killed")
    assert not (tmp_path / "killed" / "model.json").exists(), "killed before the end"
    resumed = run(*command(blobs, tmp_path / "killed", "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    last = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=False) for name in ("whole", "killed")
    ]
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(last[0][key][name], last[1][key][name]) for name in last[0][key])
    rows = [(tmp_path / name / "history.csv").read_text().count("\n") for name in ("whole", "killed")]
    assert rows == [4, 4], "the history has one row an epoch and a header"


def test_resume_refuses_other_settings_and_other_data(blobs: Path, tmp_path: Path):
    out = tmp_path / "run"
    first = run(*command(blobs, out))
    assert first.returncode == 0, first.stderr
    other = run(*command(blobs, out, "--resume", "--seed", "5"))
    assert other.returncode == 2
    assert "seed was 0 and is now 5" in other.stderr
    again = run(*command(blobs, out))
    assert again.returncode == 2
    assert "holds a run already" in again.stderr
    recipe = json.loads((out / "recipe.json").read_text())
    (out / "recipe.json").write_text(json.dumps({**recipe, "data": "0" * 16}))
    moved = run(*command(blobs, out, "--resume"))
    assert moved.returncode == 2
    assert "data differ" in moved.stderr


def test_two_processes(blobs: Path, tmp_path: Path):
    done = run(*command(blobs, tmp_path / "two", "--devices", "2", "--json", "-"))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures["count"] == 16, "each val instance once, whichever process saw it"
    assert figures["metrics"]["nme"] > 0


@pytest.mark.parametrize("gone", ["checkpoints", "recipe.json"])
def test_resume_of_nothing(blobs: Path, tmp_path: Path, gone: str):
    if gone == "recipe.json":
        done = run(*command(blobs, tmp_path / "none", "--resume"))
        assert done.returncode == 2
        assert "no run to resume" in done.stderr
