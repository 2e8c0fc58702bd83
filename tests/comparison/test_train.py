"""Which cells are trained, continued and kept; what is said; several at a time. A stand-in takes the place of training."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from heard import heard

pytest.importorskip("torch")

from comparison.small import quick_plan, write_run

from fiducial import files
from fiducial.comparison import places, train
from fiducial.comparison.cells import Cell, Plan
from fiducial.comparison.places import Places
from fiducial.training.recipe import Recipe

# Writes what it was called with and a card; cells of seed 2 fail, those of seed 3 are killed.
STAND_IN = """
import json, os, signal, time
from fiducial.errors import Failure
def obey(words):
    out = words[words.index("--out") + 1]
    seed = words[words.index("--seed") + 1]
    began = time.monotonic()
    time.sleep(0.3)
    print("noise", flush=True)
    if seed == "2":
        raise Failure("the weights have diverged")
    if seed == "3":
        os.kill(os.getpid(), signal.SIGKILL)
    call = {"arguments": words, "threads": os.environ["OMP_NUM_THREADS"], "began": began, "ended": time.monotonic(),
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}
    json.dump(call, open(os.path.join(out, "call.json"), "w"))
    with open(os.path.join(out, "history.csv"), "w") as file:
        file.write("epoch,seconds\\n0,5\\n1,5\\n")
    open(os.path.join(out, "model.safetensors"), "w").close()
    with open(os.path.join(out, "model.json"), "w") as file:
        file.write(open(os.path.join(out, "..", "..", "card.json")).read())
    yield
"""


@pytest.fixture
def out(tmp_path: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a comparison whose runs are stand-ins."""
    folder = tmp_path / "out"
    card = write_run(tmp_path / "model", blobs, "deeppose", 0) / "model.json"
    folder.mkdir()
    (folder / "card.json").write_text(card.read_text())
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(places, "COMMAND", "stand_in:obey")
    monkeypatch.setattr(train, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(Places, "gpus", [])
    return folder


def trained(plan: Plan, out: Path, **options: Any) -> dict[str, str]:
    return train.train(plan.cells, out, lambda val: f"val NME {100 * val['nme']:.2f} %", **options)


def call_of(out: Path, name: str) -> dict[str, object]:
    return json.loads((out / "runs" / name / "call.json").read_text())


def test_finished_cells_are_kept_begun_ones_resumed_others_started(out: Path, blobs: Path) -> None:
    plan = quick_plan(blobs, "deeppose", seeds=2)
    first, second = (out / cell.folder for cell in plan.cells)
    with heard() as lines:
        assert trained(plan, out) == {}
    assert "--resume" not in call_of(out, first.name)["arguments"]  # type: ignore[operator]
    assert [line.split(",")[0] for line in lines] == [
        "[1 of 2] deeppose-test_efficientnet-64x64-s0: val NME 30.00 %",
        "[2 of 2] deeppose-test_efficientnet-64x64-s1: val NME 30.00 %",
    ]
    assert lines[0].endswith("; about 10 s left"), "two epochs of five seconds"

    (first / "call.json").unlink()
    (second / "model.json").unlink()
    (second / "recipe.json").write_text("{}")
    with heard() as lines:
        assert trained(plan, out) == {}
    assert not (first / "call.json").exists()
    assert call_of(out, second.name)["arguments"][-1] == "--resume"  # type: ignore[index]
    assert "1 of 2 runs are finished already" in lines
    assert (second / "log.txt").read_text().count("$ fiducial fit") == 2


def test_a_failing_cell_is_told_with_its_last_line_and_the_rest_goes_on(out: Path, blobs: Path) -> None:
    plan = quick_plan(blobs, "deeppose", seeds=5)
    with heard() as lines:
        failures = trained(plan, out, places=Places(3))
    assert failures == {
        "deeppose-test_efficientnet-64x64-s2": "the weights have diverged",
        "deeppose-test_efficientnet-64x64-s3": "killed by SIGKILL (out of memory?)",
    }
    assert [train.is_finished(out / cell.folder) for cell in plan.cells] == [True, True, False, False, True]
    assert sum("failed after" in line for line in lines) == 2


def test_cells_are_asked_about_when_their_turn_comes(out: Path, blobs: Path) -> None:
    plan = quick_plan(blobs, "deeppose", seeds=2)
    first, second = plan.cells
    asked: list[str] = []

    def begins(cell: Cell) -> bool:
        asked.append(cell.name)
        return cell is second

    with heard() as lines:
        assert trained(plan, out, begins=begins) == {}
    assert asked == [first.name, second.name]
    assert [train.is_finished(out / cell.folder) for cell in plan.cells] == [False, True]
    assert [line.split(":")[0] for line in lines] == [f"[1 of 1] {second.name}"]


def test_jobs_run_side_by_side_and_share_cores_and_gpus(
    out: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Places, "gpus", ["4", "6"])
    monkeypatch.setattr(files, "cores", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    plan = quick_plan(blobs, "deeppose,heatmap")
    assert trained(plan, out) == {}
    one, other = (call_of(out, cell.name) for cell in plan.cells)
    assert one["began"] < other["ended"]  # type: ignore[operator]
    assert other["began"] < one["ended"]  # type: ignore[operator]
    assert (one["threads"], {one["gpu"], other["gpu"]}) == ("4", {"4", "6"})
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    more = quick_plan(blobs, "deeppose,heatmap", seeds=2)
    assert trained(more, out) == {}
    assert call_of(out, more.cells[1].name)["threads"] == "3", "what the user says is the limit"
    assert places.shares(2, 1) == (2, 1)
    assert places.shares(2, 4) == (1, 1)
    assert places.shares(64, 2) == (32, 8)


def test_time_left_goes_by_the_speed_measured() -> None:
    slow, quick, new = (
        Cell(label=method, recipe=Recipe(epochs=10), folder=f"runs/{method}-s0", command=("fit",))
        for method in ("slow", "quick", "new")
    )
    rows = {slow.name: [{"seconds": 4.0}] * 10, quick.name: [{"seconds": 2.0}] * 4, new.name: []}
    assert train.seconds_left([quick, new], rows, 1) == 6 * 2 + 10 * 3, "what has not run is taken for the usual"
    assert train.seconds_left([quick, new], rows, 2) == 21
    assert train.seconds_left([quick, new], rows, 1, 5.0) == 6 * 2 + 10 * 3 + 2 * 5, (
        "each has to start and to report, too"
    )
    assert train.seconds_left([slow], {slow.name: []}, 1) is None


def test_without_a_terminal_it_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [
        Cell(label=method, recipe=Recipe(epochs=10), folder=f"runs/{method}-s0", command=("fit",))
        for method in ("quick", "new")
    ]
    (tmp_path / cells[0].folder).mkdir(parents=True)
    (tmp_path / cells[0].folder / "history.csv").write_text("epoch,seconds\n0,2\n1,2\n2,2\n3,2\n")
    board = train._Board(cells, tmp_path, lambda metrics: "", jobs=1, progress=False)
    with heard() as lines:
        board.show(cells[:1])
        assert lines == [], "not yet"
        monkeypatch.setattr(train, "LINE_S", 0.0)
        board.show(cells[:1])
    assert lines == ["0 of 2 runs done; epochs of quick seed 0: 4/10; about 32 s left"]


def test_commands_run_on_whatever_becomes_of_others(tmp_path: Path) -> None:
    """By real processes: one of the two is no command of ours."""
    commands = {"bad": ("nonsense",), "good": ("fit", "--help")}
    cells = [Cell(label=name, recipe=Recipe(), folder=name, command=command) for name, command in commands.items()]
    failures = train.train(cells, tmp_path, str, places=Places(2))
    assert "nonsense" in failures["bad"]
    assert failures["good"] == "ended without a result"
    assert "$ fiducial fit --help" in (tmp_path / "good" / "log.txt").read_text()


@pytest.mark.long
def test_a_cluster_gives_the_weights_of_this_machine_with_a_worker_lost(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process that Ray gives the second run to dies of it; another one trains it."""
    ray = pytest.importorskip("ray")
    plan = quick_plan(blobs, "deeppose", seeds=2)
    assert trained(plan, tmp_path / "here") == {}
    lost = tmp_path / "lost"

    def dying(arguments: list[str], folder: str, *more: Any) -> dict[str, str]:
        if folder.endswith("s1") and not lost.exists():
            lost.touch()
            os._exit(9)
        return places.obey(arguments, folder, *more)

    monkeypatch.setattr(places, "IN_RAY", dying)
    try:
        there = Places.of(None, "local")
        assert there.at_once == 1
        assert trained(plan, tmp_path / "there", places=there) == {}
    finally:
        ray.shutdown()
    assert lost.exists()
    for cell in plan.cells:
        here, there = (
            (tmp_path / place / cell.folder / "model.safetensors").read_bytes() for place in ("here", "there")
        )
        assert here == there


@pytest.mark.long
def test_what_fails_on_a_cluster_is_told_as_here(blobs: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    plan = quick_plan(blobs, "deeppose")
    [cell] = plan.cells
    broken = [replace(cell, command=(*cell.command[:-1], "--nonsense"))]
    try:
        failures = [
            train.train(broken, tmp_path / name, str, places=Places.of(1, ray_address))
            for name, ray_address in (("here", None), ("there", "local"))
        ]
    finally:
        ray.shutdown()
    assert failures[0] == failures[1] != {}
