"""One table of runs, read from their files: what stands in it, what is not finished, what can't be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fiducial import records
from fiducial.errors import UserError
from fiducial.records import Record


def write_run(folder: Path, nme: float, *, data: str = "/sets/faces", labels: str = "aa11", **recipe: Any) -> Path:
    """The files of a run that are read, as `fiducial fit` writes them."""
    folder.mkdir(parents=True)
    settings = {"method": "simcc", "backbone": "resnet18", "size": [96, 128], **recipe}
    (folder / "recipe.json").write_text(json.dumps({"recipe": settings, "data": labels}))
    (folder / "history.csv").write_text("epoch,seconds,val/nme\n0,60,0.5\n1,30,0.4\n")
    spec = {
        "backbone": "resnet18",
        "method": "simcc",
        "head": {},
        "size": [96, 128],
        "skeleton": {"name": "s", "points": ["a", "b"]},
    }
    (folder / "model.json").write_text(json.dumps({"spec": spec, "metrics": {"val": {"nme": nme}}}))
    metrics = {"data": data, "split": "val", "metrics": {"nme": nme}, "floor": {"nme": 0.2, "of": "train"}}
    (folder / "metrics.json").write_text(json.dumps({**metrics, "intervals": {"nme": [nme - 0.01, nme + 0.01]}}))
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two sets, one of them with other labels later; a student; a comparison; what is not finished or broken."""
    write_run(tmp_path / "a", 0.07)
    write_run(tmp_path / "deep" / "b", 0.05, labels="bb22")
    write_run(tmp_path / "mice", 0.01, data="/sets/mice", distillation={"loss": "KL"})
    begun = write_run(tmp_path / "begun", 0.3)
    (begun / "metrics.json").unlink()
    (begun / "model.json").unlink()
    write_run(tmp_path / "broken", 0.1)
    (tmp_path / "broken" / "metrics.json").write_text('{"metrics": ')
    lost = write_run(tmp_path / "lost", 0.1)
    (lost / "metrics.json").unlink()
    run = write_run(tmp_path / "compared" / "runs" / "simcc-s0", 0.06, labels="bb22")
    (tmp_path / "compared" / "plan.json").write_text(json.dumps({"data": "/sets/faces", "cells": {"simcc-s0": {}}}))
    row = {
        "name": "simcc",
        "runs": [str(run)],
        "nme": {"mean": 0.06},
        "metrics": {},
        "training_seconds": 90.0,
        "latency": {"onnxruntime": {"ms": 0.8}, "torch": {"ms": None}},
    }
    results = {"rows": [row], "split": "val", "floor": {"nme": 0.2, "of": "train"}}
    (tmp_path / "compared" / "results.json").write_text(json.dumps(results))
    return tmp_path


def by_path(found: records.Records) -> dict[str, Record]:
    return {run.path: run for run in found.runs}


def test_each_run_with_its_figure_and_cost(many: Path) -> None:
    found = records.read(many)
    runs = by_path(found)
    assert set(runs) == {"a", "deep/b", "mice", "begun", "compared", "compared/runs/simcc-s0"}
    first = runs["a"]
    assert (first.kind, first.figure, first.value, first.floor) == ("fit", "nme", 0.07, 0.2)
    assert (first.minutes, first.epochs, first.interval) == (1.5, 2, (0.07 - 0.01, 0.07 + 0.01))
    assert first.what == "simcc on resnet18 96x128"
    assert runs["mice"].kind == "distill"
    assert runs["begun"].state == "unfinished"
    compared = runs["compared"]
    assert (compared.kind, compared.value, compared.minutes, compared.ms) == (
        "compare",
        0.06,
        1.5,
        {"onnxruntime": 0.8},
    )
    assert runs["compared/runs/simcc-s0"].ms == {"onnxruntime": 0.8}, "its comparison timed it"
    assert set(found.unreadable) == {"broken", "lost"}
    assert "not JSON" in found.unreadable["broken"]
    assert "metrics.json" in found.unreadable["lost"]


def test_runs_of_other_data_are_kept_apart(many: Path) -> None:
    found = records.read(many)
    assert found.data == ["faces", "faces (aa11)", "faces (bb22)", "mice", "not known"]
    assert "can't be compared" in records.lines(found)[0]
    rows = records.rows(records.chosen(found))
    assert [row["data"] for row in rows] == sorted(row["data"] for row in rows)
    mice = records.chosen(found, data="mice")
    assert [run.path for run in mice.runs] == ["mice"]
    with pytest.raises(UserError, match="Did you mean 'mice'"):
        records.chosen(found, data="mise")


def test_sorted_and_filtered(many: Path) -> None:
    found = records.read(many)
    fits = records.chosen(found, kind="fit", sort="path")
    assert [run.path for run in fits.runs] == ["a", "begun", "compared/runs/simcc-s0", "deep/b"]
    best = [run.path for run in records.chosen(found, data="bb22").runs]
    assert best == ["deep/b", "compared/runs/simcc-s0"]
    timed = [run.path for run in records.chosen(found, data="bb22", sort="ms").runs]
    assert timed == ["compared/runs/simcc-s0", "deep/b"]
    with pytest.raises(UserError, match="no such order"):
        records.chosen(found, sort="beauty")
    with pytest.raises(UserError, match="no run is of that kind"):
        records.chosen(found, kind="search")


def test_the_command_prints_a_table_and_json_without_torch(many: Path, tmp_path: Path) -> None:
    code = (
        "import sys, fiducial; r = fiducial.runs(sys.argv[1]); "
        "print(len(r.table), len(r.figures['runs']), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(many)], capture_output=True, text=True, check=True)
    assert done.stdout == "6 6 False\n"


def test_a_folder_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run below it"):
        records.read(tmp_path)
