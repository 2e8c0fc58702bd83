"""Which run's file ships: the best that can be certified and keeps the budget. Exports and measurements are stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from heard import heard

pytest.importorskip("torch")

from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.searching import shipping
from fiducial.searching.budget import budget_of
from fiducial.searching.state import Candidate, State, Tried
from fiducial.training.recipe import Recipe

NAMES = ("best", "second", "third", "fourth")


@pytest.fixture
def state() -> State:
    candidates = tuple(Candidate(name, "simcc", Recipe(), 1.0, 1.0) for name in NAMES)
    figures = {name: 0.04 + 0.01 * place for place, name in enumerate(NAMES)}
    return State({}, candidates=candidates, rungs=(Tried(9, NAMES, done=True, nme=figures),))


def shipped(state: State, out: Path, ms: dict[str, float | UserError], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the run whose file ships; `ms`: what each file takes, or why there is none."""

    def exported(_: Any, name: str, *__: Any) -> tuple[Path, list[float]]:
        took = ms[name]
        if isinstance(took, UserError):
            raise took
        (out / "shipped").mkdir(exist_ok=True)
        file = out / "shipped" / "model.onnx"
        file.touch()
        return file, [took] * 20

    def judged(name: str, file: Path, took: list[float], keeps: bool | None, *_: Any) -> str:
        return name

    monkeypatch.setattr(shipping, "_exported", exported)
    monkeypatch.setattr(shipping, "_judged", judged)
    monkeypatch.setattr(shipping.runtime, "resolved", lambda path: path / "model.onnx")
    return shipping.ship(state, Source(out), out, budget_of("1ms@onnxruntime:1"))  # type: ignore[return-value]


def test_the_next_best_ships_where_a_file_is_over_the_budget_or_not_certified(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = UserError("ncnn", "its points are up to 0.064 px from torch's")
    ms = {"best": 1.2, "second": refusal, "third": 0.9, "fourth": 0.5}
    with heard() as lines:
        assert shipped(state, tmp_path, ms, monkeypatch) == "third"
    assert any("second is not exported: ncnn: its points are up to 0.064 px" in line for line in lines)
    assert any("best: its exported file takes up to 1.2 ms" in note for note in state.notes)
    assert any("second was not exported" in note for note in state.notes)


def test_where_none_keeps_the_budget_the_nearest_ships(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ms: dict[str, float | UserError] = {"best": 1.4, "second": 1.2, "third": 1.3, "fourth": 0.5}
    assert shipped(state, tmp_path, ms, monkeypatch) == "second", "three are measured"
    assert any("second came nearest" in note for note in state.notes)


def test_where_none_can_be_exported_the_first_reason_is_told(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with heard(), pytest.raises(UserError, match="of best"):
        shipped(state, tmp_path, {name: UserError(f"of {name}") for name in NAMES}, monkeypatch)
