"""A search from data to the file that ships, with the smallest networks; runs are trained in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import quick
from heard import heard

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import fiducial  # noqa: E402
from fiducial import cli, records  # noqa: E402
from fiducial.comparison import places  # noqa: E402
from fiducial.errors import Failure, UserError  # noqa: E402
from fiducial.searching import bench, candidates, networks, rungs, state, teaching, workflow  # noqa: E402
from fiducial.searching import table as tables  # noqa: E402
from fiducial.searching.budget import Place  # noqa: E402

HERE = Place("onnxruntime", 1)


class InThisProcess:
    """Stands in for `worker.Worker`: a run's command is obeyed at once."""

    commands: list[tuple[str, ...]] = []  # noqa: RUF012
    killed_at: int | None = None  # the number of the command that kills the search before it is obeyed

    def __init__(self, function: str, arguments: Any, **options: Any) -> None:
        self.error: Exception | None = None
        if len(self.commands) == self.killed_at:
            raise KeyboardInterrupt
        self.commands.append(tuple(arguments))
        try:
            for _ in cli.obey(list(arguments)):
                pass
        except Failure as error:
            self.error = error

    def has_answered(self) -> bool:
        return True

    def answer(self) -> None:
        if self.error is not None:
            raise self.error

    def interrupt(self) -> None: ...
    def wait(self, seconds: float) -> None: ...
    def end(self) -> None: ...


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[InThisProcess]:
    """Runs in this process, few measurements, rungs of few epochs."""
    monkeypatch.setattr(places, "Worker", InThisProcess)
    monkeypatch.setattr(InThisProcess, "commands", [])
    monkeypatch.setattr(InThisProcess, "killed_at", None)
    monkeypatch.setattr(bench, "REPEATS", 2)
    monkeypatch.setattr(bench, "RUNS", 3)
    monkeypatch.setattr(workflow, "RESERVE_S", 0.0)
    monkeypatch.setattr(rungs, "BESIDE_S", 1.0)
    monkeypatch.setattr(rungs, "_expected_s", lambda *_: -1e9)  # half a minute is over before the second run
    return InThisProcess


WORDS: dict[str, Any] = {
    "budget": "1000ms@onnxruntime:1",
    "minutes": 0.5,
    "methods": "deeppose,rle",
    "backbones": "test_efficientnet",
    "sizes": "32x32",
    "pretrained": "no",
    "batch_size": 16,
    "settings": [*quick.ALONE, "passes=1"],
    "int8": False,
    "distill": False,
}


def test_from_data_to_the_file_that_ships(
    here: type[InThisProcess], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "searched"
    # Two candidates for 2 epochs, the better one for 6.
    monkeypatch.setattr(rungs.halving, "plan", lambda paces, limits: [rungs.Rung(2, 2), rungs.Rung(1, 6)])
    monkeypatch.setattr(
        rungs.halving, "further", lambda paces, begun, limits: [rungs.Rung(1, 6)] if len(paces) > 1 else []
    )
    here.killed_at = 1
    with pytest.raises(KeyboardInterrupt):
        fiducial.search(blobs, out, **WORDS)
    begun = json.loads((out / "state.json").read_text())
    assert [len(rung["runs"]) for rung in begun["rungs"]] == [2]
    here.killed_at = None
    result = fiducial.search(blobs, out, **WORDS)

    # Each run once, the best of them continued.
    assert len(here.commands) == 3
    trained = [command[command.index("--out") + 1].rpartition("/")[2] for command in here.commands]
    epochs = [command[command.index("--epochs") + 1] for command in here.commands]
    assert sorted(trained[:2]) == sorted(candidate["name"] for candidate in begun["candidates"])
    assert epochs == ["2", "2", "6"]
    assert ["--resume" in command for command in here.commands] == [False, False, True]
    figures = result.figures
    first = figures["rungs"][0]["nme"]
    assert trained[2] == min(first, key=lambda name: first[name]), "the best of the first rung goes on"
    rows = (out / "runs" / trained[2] / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in rows[1:]] == [str(i) for i in range(len(rows) - 1)], "each epoch once"
    assert len(rows) - 1 == figures["tried"][0]["epochs"] > 2 or figures["tried"][0]["name"] != trained[2]
    assert any(word.startswith("minutes=") for word in here.commands[2]), "the last run has the time that is left"

    # The file is what its figures are of.
    winner = figures["winner"]
    assert winner["keeps_budget"]
    assert len(winner["ms"]) == 2
    again = fiducial.evaluate(winner["file"], blobs, "val")
    assert again["nme"] == pytest.approx(figures["metrics"]["nme"], abs=1e-6)
    assert figures["test"]["count"] == 16
    assert json.loads((out / "shipped" / "model.certificate.json").read_text())["max_px"] < 0.05
    tried = {row["name"]: row["nme"] for row in figures["tried"]}
    assert list(tried.values()) == sorted(tried.values())
    assert sum(row["on_front"] for row in figures["tried"]) >= 1
    page = (out / "report.html").read_text()
    assert all(words in page for words in ("Rungs", "The file that ships", figures["answer"][0][:20]))

    # The same words give the same answer without training, other words are refused.
    with heard():
        same = fiducial.search(blobs, out, **WORDS)
    assert len(here.commands) == 3
    assert same.figures["metrics"] == figures["metrics"]
    with pytest.raises(UserError, match=r"budget was 1000ms@onnxruntime:1 and is now 5ms"):
        fiducial.search(blobs, out, **{**WORDS, "budget": "5ms@onnxruntime:1"})

    # All of it in one table.
    found = records.read(tmp_path)
    kinds = [run.kind for run in found.runs]
    assert (kinds.count("search"), kinds.count("fit")) == (1, 2)
    assert found.unreadable == {}
    assert {Path(run.path).name: run.value for run in found.runs if run.kind == "fit"} == pytest.approx(tried, abs=1e-4)
    assert all(run.ms["onnxruntime"] > 0 for run in found.runs)


def test_a_teacher_teaches_the_best_run_where_there_is_time(
    here: type[InThisProcess], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the student, it goes on with that; the student is a run among the others."""
    monkeypatch.setattr(teaching, "FEWEST_MINUTES", 0.0)
    monkeypatch.setattr(teaching, "TEACHERS", ("test_efficientnet",))
    monkeypatch.setattr(teaching, "BETTER", 100.0)
    out, words = tmp_path / "searched", {**WORDS, "methods": "deeppose", "distill": True}
    here.killed_at = 2
    with pytest.raises(KeyboardInterrupt):
        fiducial.search(blobs, out, **words)
    lesson = json.loads((out / "state.json").read_text())["lesson"]
    assert lesson["teacher_nme"] > 0
    assert lesson["outcome"] == ""
    here.killed_at = None
    figures = fiducial.search(blobs, out, **words).figures
    kinds = [command[0] for command in here.commands]
    assert kinds == ["fit", "fit", "distill"]
    run, teacher, student = ("runs/" + Path(command[command.index("--out") + 1]).name for command in here.commands)
    assert (teacher, student) == ("runs/teacher", "runs/student")
    words_of_student = here.commands[2]
    assert words_of_student[words_of_student.index("--init") + 1] == str(out / run)
    assert "distillation.cache=false" in words_of_student
    assert {row["name"] for row in figures["tried"]} == {Path(run).name, "student"}
    assert figures["winner"]["run"] == f"runs/{figures['tried'][0]['name']}"
    assert "taught by test_efficientnet" in figures["teaching"]
    of_run, of_student = (json.loads((out / each / "model.json").read_text())["spec"] for each in (run, student))
    assert all(of_run[name] == of_student[name] for name in ("backbone", "method", "head", "size"))


def test_a_budget_that_nothing_keeps_is_told_with_the_nearest(
    here: type[InThisProcess], blobs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "searched"
    with pytest.raises(
        UserError, match=r"no network keeps it; the nearest is \w+ on test_efficientnet 32x32, .* ms"
    ) as caught:
        fiducial.search(blobs, out, **{**WORDS, "budget": "0.001ms@onnxruntime:1"})
    offered = str(caught.value).partition("--budget ")[2].partition("--budget ")[2].split()[0]
    table = tables.read(out / "table.json")
    assert float(offered.partition("ms")[0]) >= min(entry.high_ms or 9.0 for entry in table.entries)
    assert here.commands == []
    assert not (out / "state.json").exists(), "other words may follow"


def test_mistakes_leave_nothing(blobs: Path, tmp_path: Path) -> None:
    out, broken = tmp_path / "searched", tmp_path / "table.json"
    broken.write_text('{"device": ')
    for words, told in (
        ({"backbones": "resnet1888"}, "no such name"),
        ({"methods": "motion"}, "finds points of its own"),
        ({"table": broken}, "not JSON"),
        ({"budget": "3ms"}, "no @RUNTIME"),
    ):
        with pytest.raises(UserError, match=told):
            fiducial.search(blobs, out, **{**WORDS, **words})
        assert not out.exists()


def test_networks_that_keep_the_budget_in_int8_alone_are_thought_of(blobs: Path) -> None:
    """In fp32 it is said to take 2 ms; in int8 1 ms. Its accuracy and its real time then decide, as of any export."""

    def latency(cell: Any, precision: Any) -> tables.Entry:
        ms = {"fp32": 2.0, "int8": 1.0}[precision]
        return tables.Entry(workflow.space.network_of(cell, 3, precision), ms=ms, low_ms=ms, high_ms=ms)

    now = state.State({"distill": False})
    search = workflow.Search(
        data=workflow.Source(blobs),
        budget=workflow.Budget(1.5, HERE),
        minutes=1,
        methods="simcc",
        backbones="test_efficientnet",
        sizes="32x32",
    )
    plan = workflow._space(search, workflow.Recipe(pretrained="no"))
    found, over = candidates.find(plan, search.budget, latency, now, 9.0)
    assert (found, [each.entry.ms for each in over]) == ([], [2.0])
    assert [each.ms for each in now.dropped] == [2.0]
    found = candidates.find_int8(plan, search.budget, latency, now, 9.0)
    assert [(each.entry.network.precision, each.entry.ms) for each in found] == [("int8", 1.0)]
    assert now.dropped == ()
    assert candidates.find_int8(plan, workflow.Budget(0.5, HERE), latency, now, 9.0) == [], "too far over the budget"


def test_a_table_of_elsewhere_is_said_and_used(here: type[InThisProcess], blobs: Path, tmp_path: Path) -> None:
    listing = networks.make_folder(
        workflow.space.networks_of("deeppose", "test_efficientnet", "32x32", 3), "onnxruntime", tmp_path / "made"
    )
    assert [made.error for made in listing.networks] == [""]
    code = "import sys, fiducial; fiducial.bench(sys.argv[2], folder=sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "made"), str(tmp_path / "table.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n", "the device needs no torch"
    table = bench.table_of_folder(tmp_path / "made", HERE, tmp_path / "table.json")
    assert [entry.ms for entry in table.entries] == [entry.ms for entry in tables.read(tmp_path / "table.json").entries]
    other = tables.replace(table, device=tables.replace(table.device, processor="Abacus 9"))
    tables.write(tmp_path / "table.json", other)
    asked = {**WORDS, "methods": "deeppose,simcc", "table": tmp_path / "table.json", "minutes": 0.5}
    now = state.State({})
    budget = workflow.Budget(1000.0, HERE)
    read = candidates.read_table(tmp_path / "table.json", budget, 3, now)
    assert "another machine: processor Abacus 9" in now.notes[0]
    assert "Abacus 9" in now.device
    latency = candidates.latency_of(read, 3)
    search = workflow.Search(
        data=workflow.Source(blobs),
        budget=budget,
        minutes=0.5,
        methods=asked["methods"],
        backbones="test_efficientnet",
        sizes="32x32",
    )
    plan = workflow._space(search, workflow.Recipe(pretrained="no"))
    found, _ = candidates.find(plan, budget, latency, now, 60.0)
    assert [each.cell.label for each in found] == ["deeppose"]
    assert any(each.why == "not in the table" for each in now.dropped)
    with pytest.raises(UserError, match="3 points, the data have 68"):
        candidates.read_table(tmp_path / "table.json", budget, 68, now)
    with pytest.raises(UserError, match="is of onnxruntime:1, the budget of onnxruntime:2"):
        candidates.read_table(tmp_path / "table.json", workflow.Budget(1.0, Place("onnxruntime", 2)), 3, now)
