"""Machines that train one run together: two addresses of this one."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fiducial.errors import UserError
from fiducial.training import nodes
from fiducial.training.nodes import Devices

Run = Callable[..., tuple[int, str, str]]
# No batch normalisation: on CPUs its means are those of each process.
CHOICES = [
    "--method",
    "deeppose",
    "--backbone",
    "test_convnext",
    "--size",
    "32x32",
    "--epochs",
    "4",
    "--no-plan",
    "--no-preflight",
]
FIXED = ["--set", "precision=fp32", "--set", "memory_format=channels_last"]


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "history.csv") as file:
        return list(csv.DictReader(file))


def test_two_machines_learn_what_one_does(run: Run, blobs: Path, tmp_path: Path) -> None:
    """24 steps of 8 crops, by one process and by two machines of 4 each: the losses and the weights."""
    from safetensors.numpy import load_file

    code, _, err = run("fit", blobs, "--out", tmp_path / "one", "--batch-size", "8", *CHOICES, *FIXED)
    assert code == 0, err
    words = [*map(str, ("fit", blobs, "--out", tmp_path / "two", "--batch-size", "4", *CHOICES, *FIXED))]
    command, first = [sys.executable, "-m", "fiducial.cli", *words, "--node"], f"127.0.0.1:{port()}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen([*command, f"{node}/2@{first}"], **pipes) for node in (1, 0)]
    (silent, further), (told, main) = (process.communicate(timeout=300) for process in both)
    assert [process.returncode for process in both] == [0, 0], (further, main)
    assert silent == "", "one machine writes and tells"
    assert "figures: " in told
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert max(float(np.abs(one[name] - two[name]).max()) for name in one) < 1e-5
    for alone, together in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        for column in ("train/loss", "val/nme"):
            assert float(alone[column]) == pytest.approx(float(together[column]), abs=1e-5)


@pytest.mark.parametrize("text", ["", "1", "0/2", "2/2@host:1", "0/2@host", "0/2@host:0", "0/2@host:70000", "-1/2@h:1"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"expected K/N@HOST:PORT"):
        Devices.of(1, text)


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_RANK", "7")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert nodes.is_main(), "a cluster's own number says nothing"
    with Devices.of(2, "0/3@somewhere:29500").joined():
        assert (os.environ["NODE_RANK"], os.environ["MASTER_ADDR"]) == ("0", "somewhere")
        assert nodes.is_main()
    assert os.environ["NODE_RANK"] == "7"
    assert "MASTER_ADDR" not in os.environ
    assert Devices.of(2, "0/3@somewhere:29500").world == 6


def test_a_first_machine_that_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PATIENCE_SECONDS", 0.0)
    with (
        pytest.raises(
            UserError, match=r"nothing listens at 127\.0\.0\.1:\d+ .*Start the first machine: --node 0/2@127"
        ),
        Devices.of(1, f"1/2@127.0.0.1:{port()}").joined(),
    ):
        raise AssertionError("it waits")
    with (
        pytest.raises(UserError, match=r"no such machine"),
        Devices.of(1, "1/2@no.such.machine.invalid:29500").joined(),
    ):
        raise AssertionError("it waits")
    assert nodes.OURS not in os.environ
