"""COCO AP and AR against pycocotools: stored numbers, and live on random sets of awkward shapes."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fiducial.data.images import ArrayImages
from fiducial.data.skeletons import COCO17
from fiducial.errors import UserError
from fiducial.evaluation import coco
from fiducial.evaluation.coco_files import read_detections, read_truth
from fiducial.types import Instances, Skeleton

TEN = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
SIGMAS = np.array(COCO17.sigmas)


def ours(truth: Path, results: Path, sigmas: np.ndarray, use_area: bool = True) -> list[float]:
    table = read_truth(truth, use_area=use_area)
    return list(coco.average_precision(table.instances, read_detections(results, table), sigmas).values())


def reference(truth: Path, results: Path, sigmas: np.ndarray) -> list[float]:
    """pycocotools' ten numbers."""
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO(str(truth))
        run = evaluation.COCOeval(data, data.loadRes(str(results)), "keypoints")
        run.params.kpt_oks_sigmas = np.asarray(sigmas)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats)


def random_set(folder: Path, seed: int, points: int) -> tuple[Path, Path]:
    """Crowds, instances without points, empty images, ties in score and in OKS, repeats, more than 20 in an image."""
    images, truths, found = 9, 31, 140
    generator = np.random.default_rng(seed)
    ids = generator.permutation(np.arange(1, images + 1) * 13)
    annotations, results = [], []
    for number in range(truths):
        x, y, w, h = generator.uniform(0, 300), generator.uniform(0, 200), *np.exp(generator.uniform(3, 5.3, 2))
        xy = np.round(generator.uniform((x, y), (x + w, y + h), (points, 2)), 1)
        visible = generator.choice([0, 1, 2], points) * (generator.random() > 0.1)
        keypoints = np.concatenate([xy * (visible > 0)[:, None], visible[:, None]], 1)
        image = int(ids[generator.integers(images - 2)])  # the last two images have no truth
        annotations.append(
            {
                "id": 900 - number,
                "image_id": image,
                "category_id": 1,
                "keypoints": keypoints.ravel().tolist(),
                "num_keypoints": int((visible > 0).sum()),
                "bbox": [x, y, w, h],
                "area": w * h * 0.6,
                "iscrowd": int(generator.random() < 0.1),
            }
        )
    for _ in range(found):
        other = annotations[generator.integers(truths)]
        image = other["image_id"] if generator.random() < 0.9 else int(generator.choice(ids))
        xy = np.array(other["keypoints"]).reshape(-1, 3)[:, :2]
        xy = xy + generator.normal(0, generator.choice([0, 2, 6, 15]), xy.shape)
        keypoints = np.concatenate([xy, generator.random((points, 1))], 1)
        score = round(float(generator.random()), 1)
        results.append({"image_id": image, "category_id": 1, "keypoints": keypoints.ravel().tolist(), "score": score})
        if generator.random() < 0.2:
            results.append(dict(results[-1]))
    if seed % 2:
        crowded = [dict(result, image_id=int(ids[0])) for result in results[:40]]
        results += crowded
    names = [f"p{i}" for i in range(points)]
    truth = {
        "images": [{"id": int(i), "width": 511, "height": 397} for i in ids],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing", "keypoints": names}],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "truth.json", folder / "results.json"


@pytest.mark.parametrize("name", ["faster_coco_eval_1", "litehrnet_1000", "xtcoco_4"])
def test_stored_numbers(shared: Path, name: str):
    folder = shared / "metric_parity" / name
    stats = json.loads((folder / "expected.json").read_text())["stats"]
    expected = [stats[key] for key in ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")]
    assert ours(folder / "gt.json", folder / "dt.json", SIGMAS) == pytest.approx(expected, abs=1e-9)


def test_real_sets_without_stored_numbers(shared: Path, tmp_path: Path):
    """COCO-WholeBody's body points, and CrowdPose, whose areas are written into a copy for pycocotools."""
    folder = shared / "metric_parity" / "xt_wholebody"
    files = folder / "gt.json", folder / "dt.json"
    assert ours(*files, SIGMAS) == pytest.approx(reference(*files, SIGMAS), abs=1e-9)
    folder = shared / "metric_parity" / "xt_crowdpose"
    sigmas = np.array([0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79]) / 10
    content = json.loads((folder / "gt.json").read_text())
    for annotation in content["annotations"]:
        annotation["area"] = 0.53 * annotation["bbox"][2] * annotation["bbox"][3]
    with_areas = tmp_path / "truth.json"
    with_areas.write_text(json.dumps(content))
    expected = reference(with_areas, folder / "dt.json", sigmas)
    assert 0.3 < expected[0] < 1
    for use_area in (True, False):
        found = ours(folder / "gt.json", folder / "dt.json", sigmas, use_area)
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("seed", "points"), [(0, 17), (1, 5), (2, 1), (3, 23), (4, 2), (5, 68)])
def test_random_sets(tmp_path: Path, seed: int, points: int):
    files = random_set(tmp_path, seed, points)
    sigmas = np.random.default_rng(seed).uniform(0.02, 0.12, points)
    expected = reference(*files, sigmas)
    assert 0.02 < expected[0] < 0.98
    assert ours(*files, sigmas) == pytest.approx(expected, abs=1e-9)


def test_order_of_files_and_ids_of_annotations_do_not_matter(tmp_path: Path):
    truth, results = random_set(tmp_path, 6, 4)
    sigmas = np.array([0.03, 0.05, 0.08, 0.13])
    content = json.loads(results.read_text())
    for place, entry in enumerate(content):
        entry["score"] += place * 1e-6  # without ties in score the order says nothing
    results.write_text(json.dumps(content))
    before = ours(truth, results, sigmas)
    results.write_text(json.dumps(content[::-1]))
    turned = json.loads(truth.read_text())
    turned["images"].reverse()
    for number, annotation in enumerate(turned["annotations"]):
        annotation["id"] = number
    truth.write_text(json.dumps(turned))
    assert ours(truth, results, sigmas) == pytest.approx(before, abs=1e-12)


def small(count: int = 3) -> tuple[Instances, coco.Detections, np.ndarray]:
    """`count` images with one instance each, found perfectly."""
    xy = np.random.default_rng(3).uniform(10, 70, (count, 2, 2))
    truth = Instances(
        skeleton=Skeleton("pair", ("a", "b")),
        images=ArrayImages([]),
        image_id=np.arange(count) * 5,
        image_size=np.zeros((count, 2), np.int32),
        image_row=np.arange(count),
        annotation_id=np.arange(count),
        xy=xy,
        visibility=np.full((count, 2), 2, np.uint8),
        box_xywh=np.tile([10.0, 10, 60, 61], (count, 1)),
        area=np.full(count, 2000.0),
        crowd=np.zeros(count, dtype=bool),
    )
    return truth, coco.Detections(np.arange(count), xy.copy(), np.linspace(0.9, 0.3, count)), np.array([0.05, 0.07])


def test_perfect_none_and_nothing_to_find():
    truth, detections, sigmas = small()
    found = coco.average_precision(truth, detections, sigmas)
    assert found["ap"] == pytest.approx(1, abs=1e-12)
    assert found["ar"] == 1
    assert found["ap_large"] == -1  # areas of 2000 are medium
    none = coco.Detections(np.zeros(0, dtype=int), np.zeros((0, 2, 2)), np.zeros(0))
    assert coco.average_precision(truth, none, sigmas)["ap"] == 0
    ignored = replace(truth, ignored=np.ones(3, dtype=bool))
    assert set(coco.average_precision(ignored, detections, sigmas).values()) == {-1.0}


def test_oks_by_hand():
    truth, detections, sigmas = small()
    moved = replace(detections, xy=detections.xy + np.array([[[3.0, 4.0], [0.0, 0.0]]]))
    pairs = coco.similarities(truth, moved, sigmas)
    expected = (np.exp(-25 / (2 * 2000 * (2 * 0.05) ** 2)) + 1) / 2
    assert pairs.oks == pytest.approx(np.full(3, expected), rel=1e-12)
    blind = replace(truth, visibility=np.zeros((3, 2), np.uint8))
    inside = coco.similarities(blind, moved, sigmas)
    assert inside.oks == pytest.approx(np.ones(3))  # within three times the box, any place will do


def test_some_images_only():
    truth, detections, sigmas = small(4)
    spoiled = replace(detections, xy=detections.xy + np.array([0, 500, 0, 500])[:, None, None])
    odd, even = np.array([False, True, False, True]), np.array([True, False, True, False])
    assert coco.average_precision(*coco.of_images(truth, spoiled, even), sigmas)["ap"] == pytest.approx(1)
    assert coco.average_precision(*coco.of_images(truth, spoiled, odd), sigmas)["ap"] == 0


def test_pairs_are_one_to_one_and_best_first():
    pairs = coco.Pairs(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), np.array([0.8, 0.7, 0.9, 0.6, 0.4]))
    detections, truths = coco.pair_up(pairs, least_oks=0.5)
    assert sorted(zip(detections.tolist(), truths.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_sigmas_must_fit():
    truth, detections, _ = small()
    with pytest.raises(UserError, match="5 sigmas for 2 points"):
        coco.average_precision(truth, detections, np.ones(5))


def test_no_images_and_images_of_one_kind_only():
    truth, detections, sigmas = small(4)
    nothing = coco.of_images(truth, detections, np.zeros(4, dtype=bool))
    assert set(coco.average_precision(*nothing, sigmas).values()) == {-1.0}
    # One image is missed, another has a detection and nothing to find, as the third of four by score.
    missed = replace(detections, **{name: getattr(detections, name)[1:] for name in ("image_row", "xy", "score")})
    kept = np.array([True, True, False, True])
    fewer = truth.select(kept)
    found = coco.average_precision(fewer, missed, sigmas)
    # Of three truths two are found: at rank 1 with precision 1, at rank 3 with 2 / 3; 101 recalls, 34 up to 1 / 3.
    assert found["ar"] == pytest.approx(2 / 3, abs=1e-12)
    assert found["ap"] == pytest.approx((34 + 33 * 2 / 3) / 101, abs=1e-12)


def test_imports_no_framework():
    """Neither on import nor in an evaluation, and faster-coco-eval itself still imports afterwards."""
    code = """
import sys
import numpy as np
import fiducial.evaluation.predictions
from fiducial.evaluation import coco
from fiducial.data.images import ArrayImages
from fiducial.types import Instances, Skeleton
rows, no = np.zeros(1, dtype=int), np.zeros(1, dtype=bool)
truth = Instances(
    Skeleton("s", ("a", "b", "c")), ArrayImages([]), rows, np.zeros((1, 2)), rows, rows, np.zeros((1, 3, 2)),
    np.zeros((1, 3)), np.zeros((1, 4)), np.zeros(1), no,
)
coco.average_precision(truth, coco.Detections(rows, np.zeros((1, 3, 2)), np.zeros(1)), np.ones(3))
print(sorted({name.split('.')[0] for name in sys.modules}))
from faster_coco_eval import COCOeval_faster
"""
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("torch", "pandas", "matplotlib", "cv2", "scipy"):
        assert f"'{heavy}'" not in names
