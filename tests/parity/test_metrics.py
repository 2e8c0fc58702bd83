"""Metrics against the reference implementations (goldens `metric_*`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fiducial.data.skeletons import COCO17
from fiducial.evaluation import coco, keypoint_accuracy, metrics
from fiducial.evaluation.coco_files import Findings, TruthTable, read_detections, read_truth
from fiducial.evaluation.results import evaluate_results
from fiducial.geometry import Size
from fiducial.types import Normalizer

TEN = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
CROWDPOSE = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
SIGMAS = np.array(COCO17.sigmas)


def cases(folder: Path) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """Configuration and tensors of each case of a golden folder."""
    for case in json.loads((folder / "case.json").read_text())["cases"]:
        yield case["config"], load_file(folder / case["files"][0])


def read(truth: Path, results: Path, use_area: bool = True) -> tuple[TruthTable, coco.Detections]:
    table = read_truth(Findings(truth), use_area=use_area)
    return table, read_detections(Findings(results), table)


def test_pck_nme_epe_auc_of_mmpose(golden: Path):
    for config, tensors in cases(golden / "metric_keypoint_basic"):
        truth, labelled = tensors["in.gt"], tensors["in.mask"] > 0
        errors = metrics.point_errors(tensors["in.pred"], truth, labelled)
        sides = (tensors["in.bbox"][:, 2:] - tensors["in.bbox"][:, :2]).max(1)

        by_point = metrics.pck(metrics.normalized(errors, sides), config["thr"])
        assert np.nan_to_num(by_point, nan=-1) == pytest.approx(tensors["out.pck_bbox.acc"], abs=0)
        assert metrics.mean(by_point) == pytest.approx(tensors["out.pck_bbox.avg"], abs=1e-12)
        assert metrics.mean(by_point) == pytest.approx(tensors["out.metric.PCK"], abs=1e-12)
        assert (~np.isnan(by_point)).sum() == tensors["out.pck_cnt"]
        heads = metrics.normalized(errors, tensors["in.head_size"])
        assert metrics.mean(metrics.pck(heads, config["pckh_thr"])) == pytest.approx(
            tensors["out.metric.PCKh"], abs=1e-12
        )
        torso = np.linalg.norm(truth[:, 4] - truth[:, 5], axis=-1)
        torso = np.where(torso < 1, np.linalg.norm(tensors["in.pred"][:, 4] - tensors["in.pred"][:, 5], axis=-1), torso)
        share = metrics.mean(metrics.pck(metrics.normalized(errors, torso), config["thr"]))
        assert share == pytest.approx(tensors["out.metric.tPCK"], abs=1e-12)

        scaled = metrics.normalized(errors, np.full(len(truth), config["auc_norm"]))
        steps = np.arange(config["auc_n"]) / config["auc_n"]
        area = np.mean([metrics.mean(metrics.pck(scaled, step)) for step in steps])
        assert area == pytest.approx(tensors["out.auc"], abs=1e-6)

        assert metrics.mean(errors) == pytest.approx(tensors["out.epe"], abs=1e-5)  # float32 distances there
        eyes = Normalizer("points", "eyes", tuple(config["eyes"]))
        between = metrics.normalizer_px(eyes, truth, np.ones_like(labelled), tensors["in.bbox"], truth[:, 0])
        for name, lengths in (("bbox", sides), ("norm", tensors["in.norm"]), ("interocular", between)):
            nme = metrics.mean(metrics.normalized(errors, lengths))
            assert nme == pytest.approx(tensors[f"out.nme_{name}"], abs=1e-6), name


def test_nmae_and_fomms_figures(golden: Path):
    for config, tensors in cases(golden / "metric_keypoint_basic"):
        predicted, truth, labelled = tensors["in.pred"], tensors["in.gt"], tensors["in.mask"] > 0
        size = config["size"]
        for name, sides in (("size", size), ("wh", np.array([size, 0.75 * size]))):
            nmae = metrics.mean(metrics.coordinate_errors(predicted, truth, labelled, sides))
            assert nmae == pytest.approx(tensors[f"out.nmae_{name}"], abs=1e-6)
        both = labelled & (tensors["in.pred_present"] > 0)
        by_coordinate = metrics.coordinate_errors(predicted, truth, both)
        assert metrics.mean(metrics.mean_of_instance(by_coordinate)) == pytest.approx(
            tensors["out.akd_script"], abs=1e-5
        )
        by_distance = metrics.point_errors(predicted, truth, both)
        assert metrics.mean(metrics.mean_of_instance(by_distance)) == pytest.approx(tensors["out.akd_l2"], abs=1e-5)
        missing = metrics.missing_rate(tensors["in.pred_present"] > 0, labelled)
        assert missing == pytest.approx(tensors["out.mkr"], abs=1e-6)


def test_face_alignment_nme_failures_and_auc(golden: Path):
    corners = {98: (60, 72), 68: (36, 45), 29: (8, 9)}
    for config, tensors in cases(golden / "metric_wflw"):
        truth = tensors["in.gt"]
        labelled = np.ones(truth.shape[:2], dtype=bool)
        normalizer = Normalizer("points", "inter-ocular", corners[config["L"]])
        nothing = np.zeros((len(truth), 4))
        lengths = metrics.normalizer_px(normalizer, truth, labelled, nothing, nothing[:, :2])
        errors = metrics.point_errors(tensors["in.pred"], truth, labelled)
        nme = metrics.mean_of_instance(metrics.normalized(errors, lengths))
        np.testing.assert_allclose(nme, tensors["out.nme"], atol=1e-6)
        assert metrics.mean(nme) == pytest.approx(tensors["out.nme_mean"], abs=1e-6)
        for limit in ("0.08", "0.10"):
            end = float(limit)
            assert metrics.failure_rate(nme, end) == tensors[f"out.fr_{limit}"]
            assert metrics.auc(nme, end) == pytest.approx(tensors[f"out.auc_exact_{limit}"], abs=1e-6)
            at = np.arange(0, end + 1e-4, 1e-4)
            curve = metrics.cumulative_errors(nme, at)
            trapezoids = np.trapezoid(curve, at) / end
            assert trapezoids == pytest.approx(tensors[f"out.auc_trapz_{limit}"], abs=1e-6)
        np.testing.assert_allclose(
            metrics.cumulative_errors(nme, np.arange(0, 0.1 + 1e-4, 1e-4))[::10],
            tensors["out.ced_0.10_every10"],
            atol=1e-6,
        )


def test_keypoint_accuracy_of_heatmaps(golden: Path):
    for config, tensors in cases(golden / "metric_fe_kpacc"):
        labelled = tensors["in.kpscore"] >= 1
        rows = keypoint_accuracy.of_heatmaps(tensors["in.pred"], tensors["in.gt_xy"], labelled)
        np.testing.assert_array_equal(rows, tensors["out.counts_per_sample"])
        counts = keypoint_accuracy.Counts.of(rows)
        assert [counts.tp, counts.tn, counts.fp, counts.fn] == tensors["out.counts"].tolist()
        assert counts.accuracy == pytest.approx(tensors["out.kp_acc"].item(), abs=1e-12)
        few = len(tensors["out.gt"])
        target = keypoint_accuracy.mask(tensors["in.gt_xy"][:few], labelled[:few], Size(config["W"], config["H"]))
        np.testing.assert_allclose(target, tensors["out.gt"], atol=1e-6)


def test_coco_with_its_sigmas_and_wider_ones(golden: Path):
    folder = golden / "metric_coco_oks"
    table, detections = read(folder / "gt.json", folder / "dt.json")
    expected = json.loads((folder / "stats.json").read_text())
    tensors = load_file(folder / "case.safetensors")
    found = coco.average_precision(table.truth, detections, SIGMAS)
    assert list(found) == list(TEN)
    assert list(found.values()) == pytest.approx([expected[name] for name in expected["_order"]], abs=1e-9)
    assert list(found.values()) == pytest.approx(tensors["stats_xtcocotools"], abs=1e-9)
    wider = coco.average_precision(table.truth, detections, SIGMAS * 1.5)
    assert list(wider.values()) == pytest.approx(tensors["stats_sigmas_x1.5"], abs=1e-9)


def test_oks_of_every_pair(golden: Path):
    folder = golden / "metric_coco_oks"
    table, detections = read(folder / "gt.json", folder / "dt.json")
    rows = load_file(folder / "case.safetensors")["oks"]
    order, rank = coco._best_of_each_image(detections)
    pairs = coco.similarities(table.truth, detections, SIGMAS, order)
    first = {}
    for i, row in enumerate(table.truth.image_row.tolist()):
        first.setdefault(row, []).append(i)
    found = {
        (
            int(table.truth.image_id[table.truth.image_row[t]]),
            int(rank[d]),
            first[int(table.truth.image_row[t])].index(t),
        ): oks
        for d, t, oks in zip(pairs.detection.tolist(), pairs.truth.tolist(), pairs.oks, strict=True)
    }
    assert len(rows) == len(found)
    for image, place, other, oks in rows:
        assert found[int(image), int(place), int(other)] == pytest.approx(oks, rel=1e-12, abs=1e-300)


def test_coco_annotation_id_zero_can_be_found(golden: Path, tmp_path: Path):
    """As xtcocotools, which is right; pycocotools takes 0 for "nothing found"."""
    folder = golden / "metric_coco_oks"
    content = json.loads((folder / "gt.json").read_text())
    for annotation in content["annotations"]:
        annotation["id"] -= 1
    shifted = tmp_path / "truth.json"
    shifted.write_text(json.dumps(content))
    tensors = load_file(folder / "case.safetensors")
    report = evaluate_results(folder / "dt.json", shifted)
    found = [report["metrics"][name] for name in TEN]
    assert found == pytest.approx(tensors["stats_ids_from_zero_xtcocotools"], abs=1e-9)
    assert found != pytest.approx(tensors["stats_ids_from_zero_pycocotools"], abs=1e-9)
    assert any("annotation id 0" in note for note in report["notes"])


def test_crowdpose(golden: Path):
    folder = golden / "metric_crowdpose"
    expected = json.loads((folder / "stats.json").read_text())["stats_xtcocotools"]
    report = evaluate_results(folder / "dt.json", folder / "gt.json", sigmas=CROWDPOSE.tolist(), use_area=False)
    found = report["metrics"]
    for name in ("ap", "ap50", "ap75", "ar", "ar50", "ar75"):
        assert found[name] == pytest.approx(expected[name.upper()], abs=1e-9)
    for level in ("easy", "medium", "hard"):
        assert round(found[f"ap_crowd_{level}"], 4) == expected[f"AP_{level}"]


def test_mmpose_pipeline_without_suppression(golden: Path, tmp_path: Path):
    """Score = box score times the mean of the points' scores above 0.2; of repeated ids of an image the first stays."""
    folder = golden / "metric_mmpose_coco_pipeline"
    expected = json.loads((folder / "expected.json").read_text())["bbox_keypoint|none"]
    entries, seen = [], set()
    for entry in sorted(json.loads((folder / "preds.json").read_text()), key=lambda e: (e["image_id"], e["id"])):
        if (entry["image_id"], entry["id"]) in seen:
            continue
        seen.add((entry["image_id"], entry["id"]))
        sure = [score for score in entry["keypoint_scores"] if score > 0.2]
        points = [
            number for xy, s in zip(entry["keypoints"], entry["keypoint_scores"], strict=True) for number in (*xy, s)
        ]
        score = entry["bbox_score"] * (float(np.mean(sure)) if sure else 0.0)
        entries.append({"image_id": entry["image_id"], "category_id": 1, "keypoints": points, "score": score})
    results = tmp_path / "results.json"
    results.write_text(json.dumps(entries))
    report = evaluate_results(results, folder / "gt.json")
    assert len(entries) == expected["kept"]
    assert [report["metrics"][name] for name in TEN] == pytest.approx(list(expected["metrics"].values()), abs=1e-9)
