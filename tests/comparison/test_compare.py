"""Runs that may be compared and those that may not; the figures; the page. Networks are as they were initialised."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

pytest.importorskip("torch")

from comparison.small import quick_plan, untimed, write_run
from conftest import write_blobs

from fiducial import cli, files
from fiducial.comparison import by_labels, costs, runs, scores, train, workflow
from fiducial.comparison.cells import Plan, keep
from fiducial.comparison.scores import Predictions
from fiducial.comparison.table import NME, Row
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, floor
from fiducial.models import detector as detectors
from fiducial.runtime import cost, runtime
from fiducial.training import fit as fitting
from fiducial.training.failure import TrainingFailure
from fiducial.training.recipe import OptimizerSpec, Recipe


@pytest.fixture
def folders(tmp_path: Path, blobs: Path) -> list[Path]:
    """Two seeds of one method, one of another that was trained for longer."""
    return [
        write_run(tmp_path / "runs" / "regression_0", blobs, "deeppose", 0),
        write_run(tmp_path / "runs" / "regression_1", blobs, "deeppose", 1),
        write_run(tmp_path / "runs" / "maps", blobs, "heatmap", 0, epochs=9, optimizer=OptimizerSpec(lr=0.02)),
    ]


@pytest.fixture
def compared(folders: list[Path], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(cost, "measure_many", untimed)
    return compare(blobs, tmp_path / "out", folders)


def compare(data: Path, out: Path, folders: list[Path], **options: Any) -> dict[str, Any]:
    return workflow.compare(Plan(data=Source(data)), out, others=folders, **options)


# -------------------------------------------------------------------------------------------------------- figures


def test_figures_are_those_of_evaluate(compared: dict[str, Any], folders: list[Path], blobs: Path) -> None:
    """Mean, range and points of the table against the evaluation of each run alone."""
    rows = {row["method"]: row for row in compared["rows"]}
    assert list(rows) == [row["method"] for row in sorted(compared["rows"], key=lambda row: row["nme"]["mean"])]
    assert rows.keys() == {"regression_0", "maps"}
    truth = fitting.load_data(blobs, Recipe()).validation
    found = [evaluate.evaluate_detector(detectors.load(folder)[0], truth) for folder in folders]
    nme = [each.metrics.nme for each in found]
    assert rows["regression_0"]["nme"]["seeds"] == pytest.approx(nme[:2], rel=1e-5)
    assert rows["regression_0"]["nme"]["mean"] == pytest.approx(np.mean(nme[:2]), rel=1e-5)
    assert rows["regression_0"]["nme"]["standard_deviation"] == pytest.approx(np.std(nme[:2], ddof=1), rel=1e-3)
    assert rows["maps"]["nme_per_point"] == pytest.approx([point.nme for point in found[2].metrics.points], rel=1e-5)
    assert rows["maps"]["metrics"]["epe"]["mean"] == pytest.approx(found[2].metrics.epe, rel=1e-5)
    jittered = evaluate.evaluate_detector(detectors.load(folders[2])[0], truth, box_jitter=0.2).metrics.nme
    assert rows["maps"]["box_jitter"]["0.2"] == pytest.approx(jittered, rel=1e-5)
    apart = rows[compared["rows"][1]["method"]]["difference"]
    assert apart["mean"] == pytest.approx(compared["rows"][1]["nme"]["mean"] - compared["rows"][0]["nme"]["mean"])
    assert apart["low"] <= apart["mean"] <= apart["high"]
    assert rows["maps"]["parameters"] == sum(p.numel() for p in detectors.load(folders[2])[0].parameters())
    assert rows["regression_0"]["training_seconds"] == pytest.approx((6 + 9) / 2)


def test_all_runs_see_the_same_boxes(folders: list[Path], blobs: Path, tmp_path: Path) -> None:
    """A network without a picture's influence: its points in the image are the crop's, so equal boxes give equal ones."""
    truth = fitting.load_data(blobs, Recipe()).validation
    one = runs.read(folders[0])
    first = scores.predict(one, truth, "a", tmp_path / "1.npz")
    again = scores.predict(one, truth, "a", tmp_path / "2.npz")
    assert np.array_equal(first.xy, again.xy)
    assert not np.allclose(first.xy[0], first.xy[3], atol=0.5), "jitter moves the crop"


def test_predictions_are_kept_until_weights_or_labels_change(
    folders: list[Path], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = fitting.load_data(blobs, Recipe()).validation
    cache = tmp_path / "kept.npz"
    kept = scores.predict(runs.read(folders[0]), truth, scores.digest_of(truth), cache)
    calls: list[object] = []
    real = evaluate.evaluate_network
    monkeypatch.setattr(evaluate, "evaluate_network", lambda *a, **k: calls.append(a) or real(*a, **k))
    again = scores.predict(runs.read(folders[0]), truth, scores.digest_of(truth), cache)
    assert np.array_equal(kept.xy, again.xy)
    assert calls == []
    moved = replace(truth, box_xywh=truth.box_xywh + 1)
    scores.predict(runs.read(folders[0]), moved, scores.digest_of(moved), cache)
    assert len(calls) == len(scores.JITTERS)
    scores.predict(runs.read(folders[1]), moved, scores.digest_of(moved), cache)
    assert len(calls) == 2 * len(scores.JITTERS)
    whole = cache.read_bytes()
    for damaged in (whole[:-300], whole[:400] + bytes(200) + whole[600:], b"", b"no archive"):
        cache.write_bytes(damaged)
        calls.clear()
        again = scores.predict(runs.read(folders[0]), truth, scores.digest_of(truth), cache)
        assert (len(calls), np.array_equal(kept.xy, again.xy)) == (len(scores.JITTERS), True)


def test_ids_of_any_kind_give_the_figures_of_whole_numbers(
    folders: list[Path], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids as text, as floats and beyond 64 bits, in one file; the second time from what was kept."""
    monkeypatch.setattr(cost, "measure_many", untimed)
    plain = compare(blobs, tmp_path / "plain", folders[:1])
    odd = tmp_path / "odd"
    shutil.copytree(blobs, odd)
    for file in (odd / "annotations").glob("*.json"):
        values = json.loads(file.read_text())
        for entry in values["annotations"]:
            number = entry["id"]
            entry["id"] = (f"a{number}", number + 0.5, 2**70 + number)[number % 3]
        file.write_text(json.dumps(values))
    run = write_run(tmp_path / "odd_run" / "regression_0", odd, "deeppose", 0)
    for _ in range(2):
        nme = compare(odd, tmp_path / "out", [run])["rows"][0]["nme"]["mean"]
        assert nme == pytest.approx(plain["rows"][0]["nme"]["mean"])
        monkeypatch.setattr(evaluate, "evaluate_network", None)  # is not asked again


def test_costs_are_kept_until_a_model_joins(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(cost, "measure_many", lambda *a, **k: calls.append(a) or untimed(*a, **k))
    variants = {"a": runs.of_others([runs.read(folders[0])], [])[0]}
    first = costs.measure(variants, tmp_path / "costs.json")
    assert costs.measure(variants, tmp_path / "costs.json") == first
    assert len(calls) == 1
    variants["b"] = runs.of_others([runs.read(folders[2])], [])[0]
    assert costs.measure(variants, tmp_path / "costs.json").keys() == {"a", "b"}
    assert len(calls) == 2
    written = json.loads((tmp_path / "costs.json").read_text())
    for damaged in (
        [],
        {**written, "latency": 3},
        {**written, "static": {"a": {}}},
        {**written, "latency": {"a": {"onnxruntime": 2}}},
    ):
        (tmp_path / "costs.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=r"costs\.json"):
            costs.measure(variants, tmp_path / "costs.json")


def test_figures_stand_beside_their_floor(
    compared: dict[str, Any], folders: list[Path], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean shape of train, by hand; where it is no worse than the best method, that is said first."""
    train, truth = (fitting.annotations.load(blobs, split)[0] for split in ("train", "val"))
    shares = (train.xy - train.box_xywh[:, None, :2] + 0.5) / train.box_xywh[:, None, 2:]
    xy = truth.box_xywh[:, None, :2] + shares.mean(0) * truth.box_xywh[:, None, 2:] - 0.5
    apart = np.linalg.norm(xy - truth.xy, axis=-1).mean(1) / np.sqrt(truth.box_xywh[:, 2:].prod(1))
    assert compared["floor"]["of"] == "train"
    assert compared["floor"]["nme"] == pytest.approx(apart.mean(), rel=1e-4)
    best, nme = compared["rows"][0]["name"], compared["rows"][0]["nme"]["mean"]
    named = f"Even {best} is no better than its floor"
    assert compared["answer"][0].startswith(f"{named} by more than noise: NME {100 * nme:.2f} %, where the mean shape")
    errors_of = floor.shape_errors
    for times, words in (
        (3, "Most accurate on val"),
        (0.5, f"{named}: an NME of {100 * nme:.2f} %, where the mean shape"),
    ):
        monkeypatch.setattr(floor, "shape_errors", lambda *of, times=times: times * errors_of(*of))
        figures = compare(blobs, tmp_path / "out", folders)
        assert figures["answer"][0].startswith(words)
        worthless = times < 1
        assert (figures["notes"][0] == figures["answer"][0]) is worthless, "also in the box of what must be known"
        assert set(figures["no_better_than_floor"]) == (
            {row["name"] for row in figures["rows"]} if worthless else set()
        )
        recommended = any("one image at a time" in line for line in figures["answer"])
        assert recommended is not worthless
        fronts = [timed["on_front"] for row in figures["rows"] for timed in row["latency"].values()]
        assert any(fronts) is not worthless


def test_results_csv_holds_the_table(compared: dict[str, Any], tmp_path: Path) -> None:
    lines = list(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert [line["name"] for line in lines] == [row["name"] for row in compared["rows"]]
    assert [float(line["nme_mean"]) for line in lines] == [row["nme"]["mean"] for row in compared["rows"]]
    assert {line["seeds"] for line in lines} == {"1", "2"}
    assert json.loads((tmp_path / "out" / "results.json").read_text())["rows"] == compared["rows"]


def test_recipes_that_differ_are_told(compared: dict[str, Any]) -> None:
    assert compared["differing_settings"] == {
        "epochs": {"regression_0": 2, "maps": 9},
        "optimizer.lr": {"regression_0": 0.003, "maps": 0.02},
    }


def test_a_baseline_of_ones_own(compared: dict[str, Any], folders: list[Path], blobs: Path, tmp_path: Path) -> None:
    worst = compared["rows"][1]["name"]
    turned = compare(blobs, tmp_path / "out", folders, baseline=worst)
    assert turned["reference"] == worst
    mine, theirs = turned["rows"][0]["difference"], compared["rows"][1]["difference"]
    assert mine["mean"] == pytest.approx(-theirs["mean"])
    assert mine["share_better"] == pytest.approx(1 - theirs["share_better"])
    with pytest.raises(UserError, match=r"--baseline 'regresion_0': no such method\. Did you mean 'regression_0'"):
        compare(blobs, tmp_path / "out", folders, baseline="regresion_0")


def test_test_is_scored_where_asked(
    folders: list[Path], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "measure_many", untimed)
    figures = compare(blobs, tmp_path / "out", folders[:1], split="test")
    truth = fitting.annotations.load(blobs, "test")[0]
    alone = evaluate.evaluate_detector(detectors.load(folders[0])[0], truth).metrics.nme
    assert figures["rows"][0]["nme"]["mean"] == pytest.approx(alone, rel=1e-5)
    assert figures["rows"][0]["difference"] is None


def test_seeds_are_no_part_of_a_name(blobs: Path, tmp_path: Path) -> None:
    """Folders `a-s0`, `a-s1` are `a`; a number that is not the run's seed belongs to the name."""
    names = {"a-s0": ("deeppose", 0), "a-s1": ("deeppose", 1), "b-s7": ("heatmap", 0), "c_seed2": ("rle", 2)}
    found = [runs.read(write_run(tmp_path / name, blobs, *own)) for name, own in names.items()]
    assert [variant.label for variant in runs.of_others(found, [])] == ["a", "b-s7", "c"]


# ------------------------------------------------------------------------------------------------- exported files


def export(run_folder: Path, folder: Path) -> Path:
    """FOLDER/model.onnx."""
    onnx_export = pytest.importorskip("fiducial.exporting.onnx_export")
    folder.mkdir()
    return onnx_export.write(*detectors.load(run_folder), folder, crop="inside", decode="own").file


@pytest.fixture(scope="module")
def shipped(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder, and its export."""
    folder = tmp_path_factory.mktemp("shipping")
    trained = write_run(folder / "regression_0", blobs, "deeppose", 0)
    return trained, export(trained, folder / "shipped")


def test_an_exported_file_beside_its_run(
    shipped: tuple[Path, Path], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As accurate as its run, in its own runtime alone; what a file does not hold is not made up."""
    monkeypatch.setattr(cost, "measure_many", untimed)
    figures = compare(blobs, tmp_path / "out", list(shipped))
    rows = {row["name"]: row for row in figures["rows"]}
    own, file = rows["regression_0"], rows["shipped (ONNX Runtime)"]
    assert file["nme"]["mean"] == pytest.approx(own["nme"]["mean"], abs=1e-5)
    assert file["box_jitter"] == pytest.approx(own["box_jitter"], abs=1e-5)
    assert next(row["difference"] for row in rows.values() if row["difference"])["within_noise"]
    assert (file["exported"], own["exported"]) == ({"runtime": "onnxruntime", "precision": "fp32"}, None)
    assert (list(file["latency"]), list(own["latency"])) == (["onnxruntime"], ["torch", "onnxruntime"])
    assert (file["backbone"], file["size"]) == (own["backbone"], own["size"])
    assert (file["parameters"], file["macs"], file["training_seconds"]) == (None, None, None)
    assert file["weight_bytes"] == shipped[1].stat().st_size
    line = next(csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines()))
    assert line.keys() >= {"onnxruntime_ms", "torch_ms"}
    assert [row["seeds"] for row in by_labels.short_table(figures)] == [1, 1]
    html = (tmp_path / "out" / "report.html").read_text()
    assert "shipped (ONNX Runtime): exported, scored and timed in that runtime alone" in html
    assert "The recipe is that of regression_0" in html


def test_exported_files_alone(blobs: Path, blob_onnx: Path, tmp_path: Path) -> None:
    """Timed, too. The page has no recipe and no torch."""
    figures = compare(blobs, tmp_path / "out", [blob_onnx])
    (row,) = figures["rows"]
    assert (row["name"], row["seeds"], figures["runtimes"]) == ("blobs (ONNX Runtime)", [], ["onnxruntime"])
    assert row["latency"]["onnxruntime"]["error"] == ""
    assert row["latency"]["onnxruntime"]["ms"] > 0
    assert files.read_json(tmp_path / "out" / "costs.json")["measured_on"]["machine"].keys().isdisjoint({"torch"})
    truth = fitting.load_data(blobs, Recipe()).validation
    assert row["nme"]["mean"] == pytest.approx(
        evaluate.evaluate_network(runtime.load(blob_onnx).network, truth).metrics.nme, rel=1e-6
    )


def test_an_exported_file_finds_its_points_by_name(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run with two of the three points: beside that run, and alone."""
    monkeypatch.setattr(cost, "measure_many", untimed)
    fewer = write_run(tmp_path / "fewer", blobs, "deeppose", 0, points=(0, 2))
    file = export(fewer, tmp_path / "two")
    for number, given in enumerate(([file], [file, fewer])):
        assert compare(blobs, tmp_path / f"out{number}", given)["points"] == ["red", "blue"]


def test_exported_files_that_do_not_fit(shipped: tuple[Path, Path], blobs: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", write_blobs(tmp_path / "fewer", {"train": 40, "val": 16}), "heatmap", 0)
    with pytest.raises(UserError, match=r"instances to train on: model.onnx 48, other 40"):
        compare(tmp_path / "fewer", tmp_path / "out", [shipped[1], other])
    with pytest.raises(UserError, match=r"gone.onnx: no such file or folder"):
        compare(blobs, tmp_path / "out", [tmp_path / "gone.onnx"])
    assert not (tmp_path / "out").exists()


def test_an_altered_file_is_scored_anew(blob_onnx: Path, tmp_path: Path) -> None:
    """A file's digest is of all its bytes, and of those beside it where a runtime has several."""
    file = tmp_path / "model.onnx"
    file.write_bytes(blob_onnx.read_bytes())
    before = runs.read(file).digest
    file.with_suffix(".bin").write_bytes(b"of another runtime")
    assert runs.read(file).digest == before
    file.write_bytes(file.read_bytes() + b"\x1a\x00")  # an empty domain: what protobuf skips
    assert runs.read(file).digest != before
    file.with_suffix(".xml").write_text("of OpenVINO")
    assert [path.name for path in runtime.files_of(file.with_suffix(".xml"))] == ["model.xml", "model.bin"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_average_precision_is_evaluates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str) -> None:
    """Crowds and instances without points absorb detections in both, and count in no error."""
    monkeypatch.setattr(cost, "measure_many", untimed)
    data = write_blobs(tmp_path / "data", {"train": 16, "val": 16, "test": 16})
    for file in (data / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        content["categories"][0]["sigmas"] = [0.25, 0.35, 0.3]  # about as wide as untrained points are off
        content["annotations"][3]["iscrowd"] = 1
        # In the images of others, a little aside: what is found there may fit the other one better than its own.
        for place, annotation in enumerate(content["annotations"][5:9]):
            annotation.update(keypoints=[0] * 9, num_keypoints=0, image_id=10 + place, bbox=[0, 0, 40 + 8 * place, 50])
        file.write_text(json.dumps(content))
    run = write_run(tmp_path / "run", data, "deeppose", 0)
    figures = compare(data, tmp_path / "out", [run], split=split)
    expected = evaluate.evaluate_model(run, data, split).summary["metrics"]
    measured = figures["rows"][0]["metrics"]
    assert 0 < expected["ap"] < 1
    for name in ("ap", "ap75", "ar", "nme"):
        assert measured[name]["mean"] == pytest.approx(expected[name], abs=1e-6), name
    assert figures["count"] == 11


# -------------------------------------------------------------------------------------------------------- refused


def test_runs_without_weights(folders: list[Path], blobs: Path, tmp_path: Path) -> None:
    """Refused where they are given; where the plan made them they are not finished."""
    folder = write_run(tmp_path / "run", blobs, "deeppose", 0)
    assert train.is_finished(folder)
    (folder / "model.safetensors").unlink()
    assert not train.is_finished(folder)
    with pytest.raises(UserError, match=r"run: its weights, model.safetensors, are missing"):
        compare(blobs, tmp_path / "out", [*folders, folder])


def test_train_is_no_split_to_compare_on(folders: list[Path], blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--split train: the methods have learnt from it"):
        compare(blobs, tmp_path / "out", folders, split="train")


def test_a_plan_that_is_none(blobs: Path, tmp_path: Path) -> None:
    for text in ("1", '{"a": 1}'):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(UserError, match=r"plan.json: not the plan of a comparison"):
            keep(tmp_path, Plan(data=Source(blobs)))


def test_other_data_is_refused_and_named(folders: list[Path], blobs: Path, tmp_path: Path) -> None:
    other = write_blobs(tmp_path / "other", {"train": 40, "val": 16}, seed=5)
    stranger = write_run(tmp_path / "stranger", other, "heatmap", 0)
    with pytest.raises(UserError) as error:
        compare(blobs, tmp_path / "out", [*folders, stranger])
    assert all(word in str(error.value) for word in ("data", "stranger", ", maps 48", "stranger 40"))
    with pytest.raises(UserError, match="its labels are not those that stranger learnt from"):
        compare(blobs, tmp_path / "out", [stranger])
    assert not (tmp_path / "out" / "report.html").exists()


def test_other_points_are_refused_and_named(folders: list[Path], blobs: Path, tmp_path: Path) -> None:
    fewer = write_run(tmp_path / "fewer", blobs, "heatmap", 0, points=(0, 2))
    with pytest.raises(UserError) as error:
        compare(blobs, tmp_path / "out", [folders[0], fewer])
    assert "points: regression_0 3 (red, green, blue), fewer 2 (red, blue)" in str(error.value)


def test_finished_runs_that_do_not_fit_are_refused_before_anything_is_trained(blobs: Path, tmp_path: Path) -> None:
    fewer = write_run(tmp_path / "fewer", blobs, "heatmap", 0, points=(0, 2))
    with pytest.raises(UserError, match=r"fewer: finds 2 points .red, blue, ..., the methods here are to find 3"):
        workflow.compare(quick_plan(blobs), tmp_path / "out", others=[fewer])
    other = write_blobs(tmp_path / "other", {"train": 40, "val": 16}, seed=5)
    stranger = write_run(tmp_path / "stranger", other, "heatmap", 0)
    with pytest.raises(UserError, match="not those that stranger learnt from"):
        workflow.compare(quick_plan(blobs), tmp_path / "out", others=[stranger])
    assert not (tmp_path / "out").exists()


def test_runs_beside_methods_are_rows_of_their_own(
    folders: list[Path], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished cell of the plan, and two finished runs, one of them given twice."""
    monkeypatch.setattr(cost, "measure_many", untimed)
    plan = quick_plan(blobs, "deeppose")
    write_run(tmp_path / "out" / "runs" / plan.cells[0].name, blobs, "deeppose", 0)
    figures = workflow.compare(plan, tmp_path / "out", others=[folders[2], folders[1], folders[2]])
    assert {row["name"]: row["seeds"] for row in figures["rows"]} == {"deeppose": [0], "maps": [0], "regression_1": [1]}


def test_a_comparison_of_which_everything_failed_is_a_failure(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "train", lambda cells, *a, **k: {cells[0].name: "no memory"})
    with pytest.raises(TrainingFailure, match=r"all 1 runs failed; deeppose-.*: no memory"):
        workflow.compare(quick_plan(blobs, "deeppose"), tmp_path / "out")


def test_other_normalisers_are_refused(folders: list[Path]) -> None:
    one, other = (runs.read(folder) for folder in folders[1:])
    skeleton = replace(other.card.spec.skeleton, normalizer=type(other.card.spec.skeleton.normalizer)("image", "image"))
    other = replace(other, card=replace(other.card, spec=replace(other.card.spec, skeleton=skeleton)))
    with pytest.raises(UserError, match=r"skeleton.*over the box.*over the image"):
        runs.refuse_unlike([one, other], None, "data")


def test_predictions_of_other_instances_are_refused() -> None:
    def of(rows: list[int]) -> Predictions:
        return Predictions(np.array(rows), np.zeros((1, len(rows), 1, 2)), np.zeros((len(rows), 1)))

    assert scores.read_by_all({"a": [of([3, 4])], "b": [of([3, 4])]}).tolist() == [3, 4]
    with pytest.raises(UserError, match=r"a and b were scored on other instances .row 5"):
        scores.read_by_all({"a": [of([3, 4])], "b": [of([3, 4]), of([3, 4, 5])]})


@pytest.mark.parametrize(
    ("methods", "options", "words"),
    [
        ("heatmp", {}, ["heatmp", "Did you mean 'heatmap'"]),
        ("heatmap:sigma=3", {}, ["sigma", "sigma_cells"]),
        ("heatmap", {"backbone": "mobilenetv3_smal_100"}, ["mobilenetv3_smal_100", "mobilenetv3_small_100"]),
        ("heatmap", {"split": "tst"}, ["tst", "Did you mean 'test'"]),
        ("", {}, ["--methods", "--runs"]),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(
    methods: str, options: dict[str, Any], words: list[str], blobs: Path, tmp_path: Path
) -> None:
    split = options.pop("split", "val")
    with pytest.raises(UserError) as error:
        workflow.compare(quick_plan(blobs, methods, **options), tmp_path / "out", split=split)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not (tmp_path / "out").exists()


def test_folders_that_hold_no_run(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run here"):
        compare(blobs, tmp_path / "out", [blobs])


# ------------------------------------------------------------------------------------------------------- the page


def test_the_page_stands_alone_and_says_what_matters(compared: dict[str, Any], tmp_path: Path) -> None:
    html = (tmp_path / "out" / "report.html").read_text()
    bare = re.sub(r"base64,[^\"]*", "", html)
    assert not re.search(r"<script|<link|<iframe|url\(|@import|https?:|//[a-z]", bare)
    assert {match[:23] for match in re.findall(r'src="([^"]*)', html)} == {"data:image/jpeg;base64,"}
    text = " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", bare, flags=re.S).split())
    best, other = (row["name"] for row in compared["rows"])
    for words in (
        f"Most accurate on val: {best}, NME",
        other,
        "has one seed",
        "The recipes differ in more than the method",
        "optimizer.lr",
        "Not measured: torch: no memory",
        "val also chose the best epoch",
        "Where methods disagree",
        "Accuracy against time, ONNX Runtime",
        "Disturbed boxes",
        "Training, by epoch",
    ):
        assert words in text, words
    assert not re.search(r"\b(nan|inf|None)\b", text)
    assert html.count("<svg") == 6


def measured_row(name: str, errors: np.ndarray, ms: float = 1.0) -> Row:
    """By hand: two seeds of a method, the same errors for both."""
    latency = {name: cost.Latency(name, 1, ms) for name in cost.OF_RUN_FOLDERS}
    return Row(
        name=name,
        variant=runs.Variant(name, "b", Recipe().size, ()),
        errors={NME.name: np.stack([errors, errors])},
        cost=costs.VariantCost(cost.Cost(1, 1, 1), latency),
        about={"exported": None},
    )


def test_the_answer_in_words(blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: of four methods one can't be told from the best, one is slow, one is quick and the mean shape's equal."""
    truth = fitting.load_data(blobs, Recipe()).validation
    even, noise = np.ones(len(truth)), np.tile([-1.0, 1.0], len(truth) // 2)
    monkeypatch.setattr(floor, "shape_errors", lambda truth, shape: 0.1 * even)
    rows = [
        measured_row("c", 0.07 * even, 5.0),
        measured_row("b", 0.051 * even + 0.03 * noise, 1.25),
        measured_row("d", 0.099 * even + 0.05 * noise, 0.5),
        measured_row("a", 0.05 * even, 4.0),
    ]
    of = by_labels.scored(rows, None, truth, truth, "test")
    assert by_labels.answer(of, {"e": "why"}) == [
        "d is not better by more than noise than the mean shape of train (NME 10.00 %), which looks at no image: "
        "recommended for no budget.",
        "Most accurate on test: a, NME 5.00 %.",
        "b can't be told from it: the difference is within noise.",
        "c and d are less accurate than it beyond noise.",
        "On ONNX Runtime, one thread, one image at a time: best within 1.25 ms b (5.10 %) and within 4.00 ms a (5.00 %).",
        "On PyTorch, one thread, one image at a time: best within 1.25 ms b (5.10 %) and within 4.00 ms a (5.00 %).",
        "1 of the runs failed and is missing here; why is said below.",
    ]
    turned = by_labels.answer(by_labels.scored(rows, "c", truth, truth, "test"), {})
    assert "a and b are more accurate than c beyond noise." in turned
    alone = by_labels.answer(by_labels.scored(rows[2:3], None, truth, truth, "test"), {})
    assert alone[0].startswith(
        "Even d is no better than its floor by more than noise: NME 9.90 %, where the mean shape"
    )


def test_frames_of_videos_are_not_taken_for_independent() -> None:
    """By their names: numbered frames of two clips, in one folder or in two; not photographs, nor numbers alone."""
    clips = [f"images/clip_{clip}_{frame:04d}.jpg" for clip in "ab" for frame in range(8)]
    assert "16 of the 16 images are numbered in 2 series" in by_labels.series_note(clips)[0]
    assert "in 2 series" in by_labels.series_note([f"{clip}/{frame}.png" for clip in "ab" for frame in range(8)])[0]
    assert by_labels.series_note([f"Name_{chr(97 + i)}_{i:04d}.jpg" for i in range(16)]) == []
    assert by_labels.series_note([f"val/{i:012d}.jpg" for i in range(16)]) == []
    assert by_labels.series_note([]) == []


def test_the_command_line_takes_runs_as_shells_write_them(
    folders: list[Path], blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--runs a b` and `--runs a,b`; a stray word is a mistake."""
    given: list[list[Path]] = []
    figures = {"rows": [], "answer": [], "files": {}}
    monkeypatch.setattr(workflow, "compare", lambda *a, others, **k: given.append(list(others)) or figures)
    command = typer.main.get_command(cli.app)
    names = [str(folder) for folder in folders]
    for words in (["--runs", *names], ["--runs", ",".join(names)], [f"--runs={name}" for name in names]):
        command.main(["compare", str(blobs), "--out", str(tmp_path), "--json", "-", *words], standalone_mode=False)
        assert given[-1] == folders
    with pytest.raises(UserError, match="one DATA is expected"):
        command.main(["compare", str(blobs), names[0], "--out", str(tmp_path)], standalone_mode=False)
