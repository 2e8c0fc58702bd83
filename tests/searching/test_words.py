"""Budgets and tables as users write and carry them: what is read, and what is refused with which words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.runtime.cost import Latency
from fiducial.searching import bench
from fiducial.searching import table as tables
from fiducial.searching.budget import Budget, Place, budget_of
from fiducial.searching.table import Entry, Network, Table

HERE = Place("onnxruntime", 1)
NETWORK = Network("resnet18", "simcc", {"split": 2.0}, Size(96, 128), 17)


@pytest.mark.parametrize(
    ("text", "ms", "place"),
    [
        ("3ms@onnxruntime:1", 3, HERE),
        (" .25 ms @ ncnn ", 0.25, Place("ncnn", 1)),
        ("1e1ms@openvino:4", 10, Place("openvino", 4)),
    ],
)
def test_budgets_are_read(text: str, ms: float, place: Place) -> None:
    assert budget_of(text) == Budget(ms, place)
    assert budget_of(str(budget_of(text))) == budget_of(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3", "no number of ms"),
        ("3ms", "no @RUNTIME"),
        ("ms@onnxruntime", "no number of ms before @"),
        ("3s@onnxruntime", "no number of ms before @"),
        ("3ms@tflite", "'tflite': no files are exported for it"),
        ("3ms@onnx", "Did you mean 'onnxruntime'"),
        ("-1ms@onnxruntime", "expected a number above 0"),
        ("0ms@onnxruntime", "expected a number above 0"),
        ("3ms@onnxruntime:0", "expected a whole number above 0"),
        ("3ms@onnxruntime:two", "expected a whole number above 0"),
    ],
)
def test_malformed_budgets_are_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        budget_of(text)


def entry_of(*rounds: float) -> Entry:
    return Entry.of(NETWORK, Latency("onnxruntime", 1, median_ms=9.0, round_ms=rounds), 1000)


def test_an_entry_is_of_the_rounds() -> None:
    """The median, not the mean: one round in which the machine did something else counts as one."""
    entry = entry_of(1.0, 1.1, 7.0, 1.2, 0.9)
    assert (entry.ms, entry.low_ms, entry.high_ms, entry.wall_ms) == (1.1, 0.9, 7.0, 9.0)
    failed = Entry.of(NETWORK, Latency("onnxruntime", 1, error="no memory"), 1000)
    assert (failed.ms, failed.error) == (None, "no memory")


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = Table(tables.this_device(HERE), (entry_of(1.0),))
    tables.write(tmp_path / "table.json", table)
    again = tables.read(tmp_path / "table.json")
    assert again == table
    assert again.find(NETWORK) == entry_of(1.0)
    assert again.find(replace(NETWORK, points=68)) is None
    assert again.find(replace(NETWORK, head={})) is None
    assert again.with_entries([entry_of(2.0)]).entries == (entry_of(2.0),)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda values: values.pop("entries"), "field 'entries'"),
        (lambda values: values["entries"].clear(), "holds no latency"),
        (lambda values: values["entries"][0].update(ms=-1), "expected a number above 0"),
        (lambda values: values["entries"][0].update(ms="quick"), "expected"),
        (lambda values: values["entries"][0]["network"].pop("size"), "size: missing"),
        (lambda values: values.update(table_version=99), "Update it"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, damage: object, words: str) -> None:
    path = tmp_path / "table.json"
    tables.write(path, Table(tables.this_device(HERE), (entry_of(1.0),)))
    values = json.loads(path.read_text())
    damage(values)  # type: ignore[operator]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=words) as caught:
        tables.read(path)
    assert str(path) in str(caught.value)


def test_devices_that_differ_are_told(tmp_path: Path) -> None:
    here = tables.this_device(HERE)
    newer = replace(here, runtime_version="0.1")
    other = replace(here, processor="Abacus 9")
    assert tables.unlike(here, here) == []
    assert tables.unlike(here, newer) == [f"onnxruntime {here.runtime_version} against 0.1"]
    assert not tables.is_elsewhere(here, newer)
    assert tables.is_elsewhere(here, other)
    assert "Abacus 9" in tables.unlike(here, other)[0]
    path = tmp_path / "table.json"
    tables.write(path, Table(other, (entry_of(1.0),)))
    with pytest.raises(UserError, match=r"another device .*Abacus 9"):
        bench.continued(path, HERE)


def test_a_folder_that_holds_no_networks_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bench --make"):
        bench.read_listing(tmp_path)
    bench.write_listing(tmp_path, bench.Listing("ncnn", (bench.Made(NETWORK, "a/model.onnx"),)))
    with pytest.raises(UserError, match="1 of 1 are missing"):
        bench.read_listing(tmp_path)
