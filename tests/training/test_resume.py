"""Ended at any moment and resumed, a run ends with the bits of one that was not; two processes learn as one does."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from command_line import Run
from quick import FIXED, smallest
from safetensors.torch import load_file
from training.killing import Ended, Stage, in_processes

EPOCHS = 6
# With the default's loader processes. The best epoch moves: it is not the first.
OPTIONS = smallest([*FIXED, "head.dropout=0.1", "optimizer.ema_decay=0.9"], epochs=EPOCHS, batch_size=8, lr="1e-3")


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    return ["fit", str(data), "--out", str(out), *OPTIONS, *more]


def ended_at(places: list[tuple[str, int, str]], command: Callable[..., list[str]]) -> list[Stage]:
    """A run that is ended at each of the places, is resumed after each, and comes to its end."""
    resumed = [False, *[True] * len(places)]
    more = [["--resume"] if again else [] for again in resumed]
    return [Stage(command(*words), *place) for words, place in zip(more, [*places, ("", 0, "")], strict=True)]


def assert_the_same_run(whole: Path, ended: Path) -> None:
    """Bit by bit: what is kept, what a resumed run would start from, and what is told of the epochs."""
    for weights in whole.glob("*.safetensors"):
        expected, found = load_file(weights), load_file(ended / weights.name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected), weights.name
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (torch.load(run / "checkpoints" / name, weights_only=False) for run in (whole, ended))
        assert ours["epoch"] == theirs["epoch"], name
        for key in ("state_dict", "current_model_state"):
            assert all(torch.equal(ours[key][part], theirs[key][part]) for part in ours[key]), (name, key)
    assert rows_of(whole) == rows_of(ended)
    figures = [json.loads((run / "metrics.json").read_text())["metrics"] for run in (whole, ended)]
    assert figures[0] == figures[1]
    assert not [path for path in ended.rglob(".*") if path.is_file()], "half of a file is left"


def rows_of(run: Path) -> list[dict[str, str]]:
    """What history.csv tells, without how long it took."""
    with (run / "history.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_ended_as_told(ended: list[Ended], places: list[tuple[str, int, str]]) -> None:
    for end, (place, _, how) in zip(ended, [*places, ("", 0, "")], strict=True):
        if not place:
            assert end.code == 0, end.errors
        elif place in FAULTS:
            assert end.code == 2, (place, end.errors)
            last = end.errors.splitlines()[-1]
            assert re.fullmatch(
                rf"fiducial: .*{FAULTS[place]}.*; then `fiducial fit` continues exactly with --resume", last
            )
        elif how == "SIGKILL":
            assert end.code == -9, (place, end.errors)
        else:
            assert end.code == 130, (place, end.errors)
            last = end.errors.splitlines()[-1]
            assert last.startswith("fiducial: stopped; ")
            assert "continues exactly" in last


class Runs(NamedTuple):
    """A run that nothing happened to, and one that was ended at some places; made by one process, for its imports."""

    whole: Path
    ended: Path
    told: list[Ended]  # how the stages of the second ended


def both_runs(command: Callable[..., list[str]], places: list[tuple[str, int, str]], folder: Path) -> Runs:
    """`command(out, ..)`: the words of a run."""
    stages = ended_at(places, lambda *more: command(folder / "ended", *more))
    first, *told = in_processes([Stage(command(folder / "whole")), *stages], folder / "said")
    assert first.code == 0, first.errors
    return Runs(folder / "whole", folder / "ended", told)


@pytest.fixture(scope="module")
def runs(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return both_runs(lambda out, *more: arguments(blobs, out, *more), SOME, tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def whole(runs: Runs) -> Path:
    """A run that nothing happened to."""
    return runs.whole


# Six steps an epoch: step 3 is in the first epoch, 8 in the second.
FAULTS = {"loader": "a loader process was killed", "gone": "can't be read any more: No such file or directory"}
SOME = [
    ("begun", 1, "SIGKILL"),
    ("gone", 0, ""),
    ("writing", 2, "SIGKILL"),
    ("step", 8, "SIGINT"),
    ("loader", 9, "SIGKILL"),
    ("between", 2, "SIGKILL"),
]
MORE = [
    ("step", 3, "SIGKILL"),
    ("writing", 1, "SIGKILL"),
    ("step", 3, "SIGINT"),
    ("between", 2, "SIGKILL"),
    ("step", 11, "SIGTERM"),
    ("between", 2, "SIGKILL"),
    ("validation", 1, "SIGKILL"),
    ("writing", 1, "SIGINT"),
    ("step", 18, "SIGKILL"),
    ("between", 2, "SIGTERM"),
    ("writing", 2, "SIGKILL"),
    ("trained", 1, "SIGKILL"),
]


def test_ended_and_resumed_a_run_ends_with_the_same_bits(runs: Runs):
    assert_ended_as_told(runs.told, SOME)
    assert_the_same_run(runs.whole, runs.ended)
    best = torch.load(runs.whole / "checkpoints" / "best.ckpt", weights_only=False)["epoch"]
    assert best > 0, "a best epoch that never moves would show little"


@pytest.mark.long
@pytest.mark.parametrize("workers", [None, 0, 1, 2])
def test_ended_anywhere(blobs: Path, whole: Path, tmp_path: Path, workers: int | None):
    """With a temporary folder on another file system, where the machine has one: it is not used."""
    setting = [] if workers is None else ["--set", f"workers={workers}"]
    stages = ended_at(MORE, lambda *more: arguments(blobs, tmp_path / "ended", *setting, *more))
    other = {"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else None
    assert_ended_as_told(in_processes(stages, tmp_path / "said", other), MORE)
    assert_the_same_run(whole, tmp_path / "ended")


def test_resume_refuses_other_settings_and_other_data(run: Run, blobs: Path, whole: Path):
    code, _, err = run(*arguments(blobs, whole, "--resume", "--seed", "5"))
    assert (code, "seed was 0 and is now 5" in err) == (2, True)
    code, _, err = run(*arguments(blobs, whole))
    assert (code, "holds a run already" in err) == (2, True)
    written = (whole / "recipe.json").read_text()
    try:
        (whole / "recipe.json").write_text(json.dumps({**json.loads(written), "data": "0" * 16}))
        code, _, err = run(*arguments(blobs, whole, "--resume"))
    finally:
        (whole / "recipe.json").write_text(written)
    assert (code, "data differ" in err) == (2, True)


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("kind", ["code", "cut off", "without its optimiser"])
def test_checkpoints_that_can_not_be_gone_on_from(run: Run, blobs: Path, whole: Path, tmp_path: Path, kind: str):
    """A line that names the file; nothing in it is run, and the run's other files stay as they were."""
    out, target = tmp_path / "run", tmp_path / "ran"
    shutil.copytree(whole, out)
    last = out / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    if kind == "code":
        content["callbacks"]["x"] = Code(target)
    elif kind == "without its optimiser":
        del content["optimizer_states"]
    last.unlink()  # a link, maybe, of best.ckpt
    torch.save(content, last)
    if kind == "cut off":
        last.write_bytes(last.read_bytes()[:-2000])
    before = (out / "model.json").read_bytes()
    code, _, err = run(*arguments(blobs, out, "--resume"))
    line = err.strip().splitlines()[-1]
    assert code == 2
    assert re.search(r"last\.ckpt: the run can't go on from it: .+ Begin another run with --init", line), err
    assert (target.exists(), (out / "model.json").read_bytes()) == (False, before)


def test_nothing_to_resume(run: Run, blobs: Path, tmp_path: Path):
    code, _, err = run(*arguments(blobs, tmp_path / "none", "--resume"))
    assert (code, "no run to resume" in err) == (2, True)
    assert not (tmp_path / "none").exists()


def test_two_processes(blobs: Path, tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "fiducial.cli",
        *arguments(blobs, tmp_path / "two", "--epochs", "2", "--devices", "2", "--json", "-"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    assert figures["count"] == 16, "each val instance once, whichever process saw it"
    assert figures["metrics"]["nme"] > 0


def test_more_epochs_than_a_finished_run_had(run: Run, blobs: Path, tmp_path: Path) -> None:
    """It trains on and says how; fewer are refused. A run that is no better than the mean shape says so first."""
    words = arguments(blobs, tmp_path / "run")
    words[words.index("--epochs") + 1] = "1"
    code, out, err = run(*words)
    assert code == 0, err
    floor = json.loads((tmp_path / "run" / "metrics.json").read_text())["floor"]["nme"]
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert out.startswith("warning: this run has learnt little") == (figures["nme"] >= floor)
    assert "best epoch  1 of 1" in out
    assert "epoch 1 of 1: val nme" in err
    words[words.index("--epochs") + 1] = "2"
    code, out, err = run(*words, "--resume")
    assert code == 0, err
    assert "goes on to epoch 2, where it was to end after 1" in err
    assert len(rows_of(tmp_path / "run")) == 2
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 2
    words[words.index("--epochs") + 1] = "1"
    code, _, err = run(*words, "--resume")
    assert (code, "more epochs are possible, fewer are not" in err) == (2, True)
