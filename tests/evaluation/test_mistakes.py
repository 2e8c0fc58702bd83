"""Kinds of errors against predictions into which each kind was planted, and what they cost against a repair by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fiducial
from fiducial.data.skeletons import COCO17
from fiducial.errors import UserError
from fiducial.evaluation import metrics, mistakes
from fiducial.evaluation.mistakes import KINDS, NUMBER
from fiducial.geometry import Size
from fiducial.types import Instances, Keypoints, Skeleton

IMAGES, POINTS = 8, 17
AREA = 10_000.0


def people(skeleton: Skeleton = COCO17) -> Instances:
    """Two in each image, points 60 px and more from each other, 500 px between the two; a few are not labelled."""
    draw = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(5), np.arange(4)), -1).reshape(-1, 2)[:POINTS] * 80.0
    xy = np.stack([draw.permutation(places) + draw.uniform(40, 55, (POINTS, 2)) for _ in range(2 * IMAGES)])
    xy[1::2, :, 0] += 500
    labelled = draw.random((2 * IMAGES, POINTS)) > 0.1
    boxes = np.tile([[0, 0, 450, 400], [500, 0, 450, 400]], (IMAGES, 1)).astype(float)
    made = Instances.of(
        np.zeros((IMAGES, 400, 1000, 3), np.uint8),
        np.where(labelled[..., None], xy, np.nan),
        boxes=boxes,
        skeleton=skeleton,
        image_row=np.repeat(np.arange(IMAGES), 2),
    )
    return replace(made, area=np.full(len(made), AREA, np.float32))


def planted(truth: Instances) -> tuple[np.ndarray, np.ndarray]:
    """Points with one kind of error each, drawn by lot, and these kinds; -1 where the truth is not labelled."""
    draw = np.random.default_rng(1)
    names = ("good", "jitter", "miss", "inversion", "swap")
    kind = draw.choice([NUMBER[name] for name in names], truth.xy.shape[:2], p=[0.5, 0.2, 0.1, 0.1, 0.1])
    order, reach = COCO17.flip_order, mistakes.reaches(truth)
    other = np.arange(len(truth)) ^ 1  # the image's other one
    xy = truth.xy.astype(np.float64)
    for row, point in np.ndindex(*kind.shape):
        partner, neighbour = order[point], draw.choice([point, order[point]])
        if kind[row, point] == NUMBER["inversion"] and (partner == point or not truth.labelled[row, partner]):
            kind[row, point] = NUMBER["good"]
        if kind[row, point] == NUMBER["swap"] and not truth.labelled[other[row], neighbour]:
            kind[row, point] = NUMBER["good"]
        angle = draw.uniform(0, 2 * np.pi)
        offset = np.array([np.cos(angle), np.sin(angle)]) * reach[row, point]
        xy[row, point] = {
            "good": truth.xy[row, point] + 0.3 * offset,  # similarity 0.94
            "jitter": truth.xy[row, point] + 0.8 * offset,  # 0.64
            "miss": np.array([-300.0, -300]),
            "inversion": truth.xy[row, partner] + 0.3 * offset,
            "swap": truth.xy[other[row], neighbour] + 0.3 * offset * AREA**0.5 / 100,
        }[list(KINDS)[kind[row, point]]]
    return xy, np.where(truth.labelled, kind, -1)


@pytest.mark.parametrize("sigmas", [COCO17.sigmas, None], ids=["sigmas", "normaliser"])
def test_what_was_planted_comes_back(sigmas: tuple[float, ...] | None) -> None:
    truth = people(replace(COCO17, sigmas=sigmas))
    xy, kind = planted(truth)
    found = mistakes.classified(xy, np.arange(len(truth)), truth)
    np.testing.assert_array_equal(found.kind, kind)
    assert ((kind >= 0).sum(), (kind == NUMBER["swap"]).sum() > 5) == (truth.labelled.sum(), True)
    assert found.judged_by == ("OKS sigmas" if sigmas else "a half at 0.1 of the box")


def test_what_the_crop_does_not_hold_and_what_the_label_has_wrong() -> None:
    truth = people()
    xy, kind = planted(truth)
    left = np.broadcast_to(np.eye(3), (len(truth), 3, 3))  # the left person alone is seen
    radius = np.where(np.arange(POINTS) < 3, 50.0, 1e6) * np.ones(truth.xy.shape[:2])
    found = mistakes.classified(
        xy, np.arange(len(truth)), truth, image_to_crop=left, crop_size=Size(450, 400), radius=radius
    )
    right = np.arange(len(truth)) % 2 == 1
    expected = np.where((kind == NUMBER["miss"]) & right[:, None], NUMBER["box"], kind)
    far = np.linalg.norm(xy - truth.xy, axis=-1) > 150
    wrong = np.isin(expected, [NUMBER[name] for name in ("miss", "inversion", "swap")])
    expected = np.where(far & wrong & (radius < 100), NUMBER["label"], expected)
    np.testing.assert_array_equal(found.kind, expected)
    assert {"label", "box", "miss"} <= {list(KINDS)[number] for number in np.unique(expected) if number >= 0}


def test_what_a_kind_costs_is_what_a_repair_by_hand_gains() -> None:
    truth = people()
    xy, kind = planted(truth)
    keypoints = Keypoints(xy, np.ones(xy.shape[:2]))

    def measured(points: np.ndarray) -> dict[str, Any]:
        return metrics.score(truth, replace(keypoints, xy=points)).numbers()

    found = mistakes.classified(xy, np.arange(len(truth)), truth)
    rows = {row["kind"]: row for row in mistakes.as_json(found, truth, xy, measured)["kinds"]}
    assert {name: row["points"] for name, row in rows.items()} == {
        name: int((kind == number).sum()) for name, number in NUMBER.items()
    }
    before = measured(xy)
    for name in ("jitter", "miss", "inversion", "swap"):
        by_hand = xy.copy()
        for row, point in np.argwhere(kind == NUMBER[name]):
            by_hand[row, point] = truth.xy[row, point]
        after = measured(by_hand)
        assert rows[name]["ap_worth"] == pytest.approx(after["ap"] - before["ap"])
        assert rows[name]["ap_worth"] > 0 or name == "jitter"
        assert rows[name]["nme_worth"] == pytest.approx(before["nme"] - after["nme"])
    assert rows["box"]["ap_worth"] == 0


def written(folder: Path, truth: Instances, xy: np.ndarray) -> tuple[Path, Path]:
    """Truth and results as COCO's files: the results lack the last instance and have one that nothing is at."""
    categories = [
        {
            "id": 1,
            "name": "person",
            "keypoints": list(COCO17.points),
            "flip_indices": COCO17.flip_order.tolist(),
            "sigmas": COCO17.sigmas,
        }
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": 1000, "height": 400} for i in range(IMAGES)]
    annotations = [
        {
            "id": row + 1,
            "image_id": int(truth.image_row[row]),
            "category_id": 1,
            "keypoints": np.column_stack([truth.xy[row], truth.visibility[row]]).ravel().tolist(),
            "num_keypoints": int(truth.labelled[row].sum()),
            "bbox": truth.box_xywh[row].tolist(),
            "area": AREA,
            "iscrowd": 0,
        }
        for row in range(len(truth))
    ]
    results = [
        {
            "image_id": int(truth.image_row[row]),
            "category_id": 1,
            "keypoints": np.column_stack([xy[row], np.ones(POINTS)]).ravel().tolist(),
            "score": 0.9,
            "annotation_id": row + 1,
        }
        for row in range(len(truth) - 1)
    ]
    nowhere = {**results[0], "keypoints": [-999.0, -999, 1] * POINTS, "score": 0.1}
    del nowhere["annotation_id"]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (folder / "results.json").write_text(json.dumps([*results, nowhere]))
    return folder / "results.json", folder / "truth.json"


def test_results_of_any_tool(tmp_path: Path, run) -> None:
    truth = people()
    xy, kind = planted(truth)
    results, labels = written(tmp_path, truth, xy)
    told = fiducial.evaluate(results, labels, explain=True).figures
    assert {row["kind"]: row["points"] for row in told["errors"]["kinds"]} == {
        name: int((kind[:-1] == number).sum()) for name, number in NUMBER.items()
    }
    whole = told["errors"]["instances"]
    assert (whole["paired"], whole["extra_detections"], whole["not_found"]) == (len(truth) - 1, 1, 1)
    assert whole["not_found_ap_worth"] > 0
    worst = next(each for each in told["errors"]["worst"] if each["kind"] == "miss")
    assert worst["image"].endswith(".png")
    assert worst["distance_px"] > 300
    assert sum("are told" in note or "doubted" in note for note in told["notes"]) == 2
    code, out, _ = run("evaluate", "--predictions", results, labels, "--explain")
    assert code == 0
    assert "judged by OKS sigmas" in out
    assert "worst miss:" in out


def test_a_model_on_data_and_its_page(blob_model: Path, blobs: Path, tmp_path: Path, run) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    code, out, err = run("evaluate", blob_model, blobs, "--explain", "--report", page, "--json", figures)
    assert code == 0
    assert "judged by a half at 0.1 of the box" in out
    assert "no labels are doubted" in err
    errors = json.loads(figures.read_text())["errors"]
    assert sum(row["points"] for row in errors["kinds"]) == 48
    assert "ap_worth" not in errors["kinds"][0], "there are no sigmas"
    assert sum(row["share"] for row in errors["kinds"]) == pytest.approx(1)
    missed = next(row for row in errors["kinds"] if row["kind"] == "miss")
    assert missed["points"] > 0
    assert [sum(row[name] for row in errors["by_point"]) for name in KINDS] == [
        row["points"] for row in errors["kinds"]
    ]
    text = page.read_text(encoding="utf-8")
    assert "Kinds of errors" in text
    assert "Worst miss" in text
    assert (tmp_path / "pictures" / "worst_miss.jpg").exists()


def test_visible_and_hidden_points_are_measured_apart() -> None:
    truth = people()
    hidden = np.arange(POINTS) % 3 == 0
    xy = truth.xy + np.where(hidden, 9.0, 3.0)[:, None] * [1, 0]
    assert metrics.by_visibility(xy, truth) == [], "all are visible"
    told = replace(truth, visibility=np.where(hidden & truth.labelled, 1, truth.visibility).astype(np.uint8))
    visible, covered = metrics.by_visibility(xy, told)
    assert (visible["visibility"], covered["visibility"]) == ("visible", "hidden")
    assert (visible["points"], covered["points"]) == (truth.labelled[:, ~hidden].sum(), truth.labelled[:, hidden].sum())
    assert (visible["epe"], covered["epe"]) == (pytest.approx(3, abs=1e-4), pytest.approx(9, abs=1e-4))
    assert covered["nme"] == pytest.approx(9 / np.sqrt(450 * 400), rel=1e-4)


def test_points_in_arrays_are_not_explained() -> None:
    truth = people()
    with pytest.raises(UserError, match="explain"):
        fiducial.evaluate(truth.xy, truth, explain=True)
