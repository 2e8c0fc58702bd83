"""What a run will take, by those before it; which runs are at their end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from fiducial.data.source import Source
from fiducial.searching import rungs
from fiducial.searching.state import Candidate, Clock, State, Tried
from fiducial.searching.training import Training
from fiducial.training.recipe import Recipe


def candidate(name: str, pace_s: float) -> Candidate:
    return Candidate(name, "simcc", Recipe(), 1.0, 1.0, pace_s=pace_s)


def write_history(folder: Path, seconds: list[float]) -> None:
    folder.mkdir(parents=True)
    rows = "".join(f"{i},{value}\n" for i, value in enumerate(seconds))
    (folder / "history.csv").write_text(f"epoch,seconds\n{rows}")


def test_a_run_takes_as_much_longer_as_those_before_it(tmp_path: Path) -> None:
    """Ten more epochs of 2 s are 20 s; that before it took 3 s an epoch where 1 s was foreseen: 60 s, and 5 beside."""
    state = State({}, candidates=(candidate("first", 1.0), candidate("second", 2.0)), beside_s=5.0)
    rung = Tried(20, ("first", "second"), begun=10)
    first, second = (rungs.cell_of(each, 20, Source(tmp_path)) for each in state.candidates)
    assert rungs._expected_s(second, rung, state, tmp_path, []) == 25
    write_history(tmp_path / first.folder, [1.0] * 10 + [3.0] * 10)
    assert rungs._expected_s(second, rung, state, tmp_path, [first]) == 65


def test_a_run_is_at_its_end_when_its_last_file_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("model.json", "model.safetensors"):
        (run / name).touch()
    assert not rungs.is_trained(run, 10)
    (run / "metrics.json").write_text(json.dumps({"epochs": 10}))
    assert rungs.is_trained(run, 10)
    assert not rungs.is_trained(run, 30), "those are the figures of the rung before"


def test_time_that_is_left_over_goes_to_the_best_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """600 s at 2 s an epoch are 300 more; its last rung had 4 minutes, from which a run counts on: 14."""
    trained: list[Tried] = []

    def train(training: Training) -> None:
        rung = training.state.rungs[-1]
        trained.append(rung)
        rung.done, rung.nme = True, {"best": 0.04}

    monkeypatch.setattr(rungs, "_train", train)
    last = Tried(50, ("best",), begun=20, minutes=4.0, done=True, nme={"best": 0.05}, made={"best": 60})
    state = State({}, candidates=(candidate("best", 2.0),), most_epochs=1000, rungs=(last,))
    training = Training(state, Source(tmp_path), tmp_path, Clock(0.0, 10.0), 0.0)
    rungs.go_on(training)
    [rung] = trained
    assert (rung.runs, rung.begun) == (("best",), 60)
    assert 355 <= rung.epochs <= 360
    assert rung.minutes == pytest.approx(14.0, abs=0.05)
    rungs.go_on(training)
    assert len(trained) == 1
    short = State({}, candidates=(candidate("best", 2.0),), most_epochs=1000, rungs=(last,))
    rungs.go_on(Training(short, Source(tmp_path), tmp_path, Clock(0.0, 1.0), 0.0))
    assert len(trained) == 1, "a minute is not worth it"
