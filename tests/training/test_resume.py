"""Killed or stopped in mid-epoch and resumed, a run ends with the bits of one that was not; two processes learn as one
does."""

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

EPOCHS = 12  # so many that a run is still going when a busy machine gets round to ending it
OPTIONS = ["--size", "64x48", "--epochs", str(EPOCHS), "--batch-size", "8", "--backbone", "mobilenetv3_small_050",
           "--pretrained", "no", "--method", "deeppose", "--no-preflight", "--set", "precision=fp32",
           "--set", "memory_format=contiguous", "--set", "workers=0", "--set", "head.dropout=0.1"]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(data: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "fiducial.cli", "fit", str(data), "--out", str(out), *OPTIONS, *more]


def in_a_process(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, env=ENVIRONMENT, check=False)


def end_in_second_epoch(arguments: list[str], out: Path, how: signal.Signals) -> tuple[int, str]:
    """Sends the signal once the first epoch's checkpoint is there: exit code and stderr."""
    # Tests that were started in the background ignore Ctrl-C, and all that they start would inherit that.
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    signal.signal(signal.SIGINT, own)
    deadline = time.monotonic() + 200
    while not (out / "checkpoints" / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


@pytest.fixture(scope="module")
def whole(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("resume") / "whole"
    done = in_a_process(command(blobs, out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_and_resumed_a_run_ends_with_the_same_bits(blobs: Path, whole: Path, tmp_path: Path, how: signal.Signals):
    out = tmp_path / "ended"
    code, errors = end_in_second_epoch(command(blobs, out), out, how)
    if how == signal.SIGINT:
        assert code == 130, errors
        assert errors.splitlines()[-1] == "fiducial: stopped; `fiducial fit` continues exactly with --resume"
    assert not (out / "model.json").exists(), "it was to be ended before its end"
    resumed = in_a_process(command(blobs, out, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, out))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    ours, theirs = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False) for folder in (whole, out))
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(ours[key][name], theirs[key][name]) for name in ours[key])
    assert len((out / "history.csv").read_text().splitlines()) == 1 + EPOCHS


def test_resume_refuses_other_settings_and_other_data(blobs: Path, whole: Path):
    other = in_a_process(command(blobs, whole, "--resume", "--seed", "5"))
    assert other.returncode == 2
    assert "seed was 0 and is now 5" in other.stderr
    again = in_a_process(command(blobs, whole))
    assert again.returncode == 2
    assert "holds a run already" in again.stderr
    written = (whole / "recipe.json").read_text()
    try:
        (whole / "recipe.json").write_text(json.dumps({**json.loads(written), "data": "0" * 16}))
        moved = in_a_process(command(blobs, whole, "--resume"))
    finally:
        (whole / "recipe.json").write_text(written)
    assert moved.returncode == 2
    assert "data differ" in moved.stderr


def test_nothing_to_resume(blobs: Path, tmp_path: Path):
    done = in_a_process(command(blobs, tmp_path / "none", "--resume"))
    assert done.returncode == 2
    assert "no run to resume" in done.stderr
    assert not (tmp_path / "none").exists()


def test_two_processes(blobs: Path, tmp_path: Path):
    done = in_a_process(command(blobs, tmp_path / "two", "--devices", "2", "--json", "-"))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures["count"] == 16, "each val instance once, whichever process saw it"
    assert figures["metrics"]["nme"] > 0
