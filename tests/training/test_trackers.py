"""Whoever else is told of a run, the run does not depend on it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from heard import heard

from fiducial.training import trackers
from fiducial.training.recipe import Recipe


def test_tensorboard_alone_is_told_where_nobody_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(trackers.PLACE, raising=False)
    assert [type(each).__name__ for each in trackers.trackers_of(Recipe(), tmp_path)] == ["TensorBoardLogger"]


def test_mlflow_that_is_asked_for_and_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trackers.PLACE, "http://127.0.0.1:1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with heard() as lines:
        assert len(trackers.trackers_of(Recipe(), tmp_path)) == 1
    assert any("pip install mlflow" in line for line in lines)


def test_what_fails_is_said_once_and_never_called_again() -> None:
    calls: list[int] = []

    class Server:
        def log_metrics(self, step: int) -> None:
            calls.append(step)
            if step == 2:
                raise ConnectionError("gone")

    tell = trackers.Guarded(Server(), "MLflow")
    log = tell.guarded("log_metrics")
    with heard() as lines:
        for step in range(5):
            log(step)
    assert calls == [0, 1, 2]
    assert lines == ["MLflow can't be told of this run any more: gone"]


def test_a_real_mlflow_has_the_settings_and_goes_on_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    place = f"file://{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv(trackers.PLACE, place)
    out = tmp_path / "run"
    out.mkdir()
    first = trackers.trackers_of(Recipe(seed=7), out)[-1]
    first.log_metrics({"val/nme": 0.5}, step=1)
    again = trackers.trackers_of(Recipe(seed=7), out)[-1]
    assert again.run_id == first.run_id
    kept = mlflow.MlflowClient(tracking_uri=place).get_run(first.run_id)
    assert kept.data.params["seed"] == "7"
    assert kept.data.metrics["val/nme"] == 0.5
