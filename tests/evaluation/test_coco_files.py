"""Broken truth and results: one clear line each, naming file and entry; skipped, or errors where strict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fiducial.errors import UserError
from fiducial.evaluation.predictions import evaluate_results

NAMES = ["a", "b", "c"]
SIGMAS = [0.05, 0.06, 0.08]


def annotation(number: int, image: int, **other: Any) -> dict:
    points = [20.0 + number, 30, 2, 61, 44.5, 1, 0, 0, 0]
    box = {"bbox": [15, 25, 70, 40], "area": 1900, "iscrowd": 0, "num_keypoints": 2}
    return {"id": number, "image_id": image, "category_id": 1, "keypoints": points, **box, **other}


def detection(number: int, image: int, **other: Any) -> dict:
    points = [21.0 + number, 30, 0.9, 61, 44.5, 0.8, 3, 3, 0.1]
    return {"image_id": image, "category_id": 1, "keypoints": points, "score": 0.75, **other}


def truth(*more: dict, **other: Any) -> dict:
    images = [{"id": i, "width": 120, "height": 90} for i in (4, 7, 9)]
    category = {"id": 1, "name": "mouse", "keypoints": NAMES, "sigmas": SIGMAS}
    return {
        "images": images,
        "annotations": [annotation(1, 4), annotation(2, 7), *more],
        "categories": [category],
        **other,
    }


def run(folder: Path, results: Any, labels: Any = None, **options: Any) -> dict[str, Any]:
    (folder / "truth.json").write_text(json.dumps(truth() if labels is None else labels))
    (folder / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    return evaluate_results(folder / "results.json", folder / "truth.json", **options)


GOOD = [detection(1, 4), detection(2, 7)]


def test_sound_files(tmp_path: Path):
    report = run(tmp_path, GOOD)
    assert report["problems"] == []
    assert report["notes"] == []
    assert (report["count"], report["detections"], report["paired"]) == (2, 2, 2)
    assert report["split"] == "truth"
    found = report["metrics"]
    assert found["epe"] == pytest.approx(0.5)  # one px in x at one of two points
    assert found["nme"] == pytest.approx(0.5 / (70 * 40) ** 0.5)
    assert found["nmae"] == pytest.approx(1 / 120 / 4)
    assert found["ap"] == pytest.approx(1)
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (detection(3, 9, score=float("nan")), r"detection \[2\]: \(image 9\): score is NaN, expected a finite number"),
        (detection(3, 9, keypoints=[float("inf")] + [1.0] * 8), r"detection \[2\] \(image 9\): a coordinate"),
        (detection(3, 9, keypoints=[1.0] * 7), r"detection \[2\] \(image 9\): 7 numbers in its keypoints, expected 9"),
        (detection(3, 5), r"detection \[2\] \(image 5\): the truth has no such image"),
        (detection(3, 9, score="high"), r"detection \[2\]: \(image 9\): score is high, expected a finite number"),
        ({"image_id": 9, "keypoints": [1.0] * 9}, r"detection \[2\]: .*score is null, expected a finite number"),
    ],
)
def test_broken_detections(tmp_path: Path, entry: dict, said: str):
    sound = run(tmp_path, GOOD)
    report = run(tmp_path, [*GOOD, entry])
    assert report["skipped"] == 1
    (problem,) = report["problems"]
    with pytest.raises(UserError, match="results.json: " + said):
        run(tmp_path, [*GOOD, entry], strict=True)
    assert problem.startswith(f"{tmp_path / 'results.json'}: detection [2]")
    assert report["metrics"] == sound["metrics"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            annotation(3, 9, keypoints=[float("nan"), 1, 2] + [0] * 6),
            "annotation 3: point 'a' is labelled .v 2. without finite",
        ),
        (annotation(3, 9, keypoints=[1, 1, 2] * 4), "annotation 3: 12 numbers in its keypoints, expected 9"),
        (annotation(3, 5), "annotation 3: image id 5 is not among the 3 images"),
        (annotation(1, 4), "annotation 1: the id is used twice in image 4"),
        (annotation(3, 9, bbox=[1, 2, 3]), r"annotation 3: bbox is \[1, 2, 3\]; expected 4 numbers"),
        (annotation(3, 9, area="n/a"), "annotation 3: area is .*n/a.*; expected 1 number"),
        (annotation(3, 9, keypoints="none"), "annotation 3: 1 numbers in its keypoints"),
    ],
)
def test_broken_annotations(tmp_path: Path, entry: dict, said: str):
    sound = run(tmp_path, GOOD)
    report = run(tmp_path, GOOD, truth(entry))
    assert report["skipped"] == 1
    assert report["count"] == 2
    with pytest.raises(UserError, match="truth.json: " + said):
        run(tmp_path, GOOD, truth(entry), strict=True)
    assert report["metrics"] == sound["metrics"]


def test_nan_where_nothing_is_labelled_is_fine(tmp_path: Path):
    reports = []
    for blank in ([0, 0, 0], [float("nan"), float("nan"), 0]):
        labels = truth(annotation(3, 9, keypoints=[23.0, 30, 2, 61, 44.5, 1, *blank]))
        reports.append(run(tmp_path, [*GOOD, detection(3, 9)], labels))
    assert reports[1]["paired"] == 3
    assert reports[1] == reports[0]


def test_ids(tmp_path: Path):
    """Zero can be found; one id in two images is two instances."""
    report = run(tmp_path, [*GOOD, detection(2, 9)], truth(annotation(2, 9)))
    assert report["problems"] == []
    assert report["paired"] == 3
    assert (
        "of 3 annotations not all have an id of their own (2 different): they are numbered from 1" in report["notes"][0]
    )
    zero = run(tmp_path, [*GOOD, detection(0, 9)], truth(annotation(0, 9)))
    assert zero["metrics"]["ar"] == 1
    assert "annotation id 0" in zero["notes"][0]


def test_areas_from_boxes(tmp_path: Path):
    labels = truth()
    labels["annotations"][0].pop("area")
    report = run(tmp_path, GOOD, labels)
    assert "1 of 2 annotations have no area above 0: w h of the box" in report["notes"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "results.json: the file is empty"),
        (" \n", "results.json: the file is empty"),
        ("[{", "results.json: not JSON"),
        ("{}", "results.json: expected COCO results, a list"),
        (json.dumps([detection(1, 4, keypoints=[1.0] * 51)]), "its detections have 17 points .* 'mouse' .* has 3"),
        (json.dumps([detection(1, 88)]), "all 1 detections are broken; the first: .*no such image"),
        (json.dumps([detection(1, 4, category_id=0)]), r"none of its 1 detections is of category 'mouse' .id 1.*\[0\]"),
        (json.dumps([1, 2]), "all 2 detections are broken"),
    ],
)
def test_results_that_can_not_be_used(tmp_path: Path, text: str, said: str):
    with pytest.raises(UserError, match=said):
        run(tmp_path, text)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "truth.json: expected COCO.s annotations, an object"),
        ({"images": []}, "truth.json: expected COCO.s annotations, an object"),
        (
            truth(categories=[{"id": 3, "name": "rat", "keypoints": NAMES}]),
            r"all its 2 annotations have category_id 1; the file's categories are 3 \('rat'\)",
        ),
        (
            truth(
                annotation(3, 9, category_id=2),
                categories=[{"id": i, "name": n, "keypoints": NAMES} for i, n in ((1, "mouse"), (2, "rat"))],
            ),
            "several categories have keypoints: 'mouse', 'rat'; choose one",
        ),
    ],
)
def test_truth_that_can_not_be_used(tmp_path: Path, labels: Any, said: str):
    with pytest.raises(UserError, match=said):
        run(tmp_path, GOOD, labels)


def test_missing_file(tmp_path: Path):
    with pytest.raises(UserError, match=r"truth\.json: can't be read: No such file"):
        evaluate_results(tmp_path / "nowhere.json", tmp_path / "truth.json")


def test_one_of_several_categories(tmp_path: Path):
    categories = [{"id": i, "name": n, "keypoints": NAMES, "sigmas": SIGMAS} for i, n in ((1, "mouse"), (2, "rat"))]
    labels = truth(annotation(3, 9, category_id=2), categories=categories)
    report = run(tmp_path, [*GOOD, detection(3, 9, category_id=2)], labels, category="rat")
    assert (report["count"], report["detections"]) == (1, 1)
    assert "2 detections of other categories left out" in report["notes"][0]
    with pytest.raises(UserError, match=r"no category 'ratt'\. Did you mean 'rat'"):
        run(tmp_path, GOOD, labels, category="ratt")


def test_no_detections_is_a_result(tmp_path: Path):
    report = run(tmp_path, [])
    assert report["metrics"]["ap"] == 0
    assert report["metrics"]["nme"] is None
    assert "no detections" in report["notes"][0]


def test_sigmas(tmp_path: Path):
    labels = truth()
    del labels["categories"][0]["sigmas"]
    report = run(tmp_path, GOOD, labels)
    assert "ap" not in report["metrics"]
    assert report["metrics"]["nme"] > 0  # one instance an image needs no OKS to be paired
    assert "no sigmas for its 3 points. Give one for all or one a point by --sigmas" in report["notes"][0]
    assert run(tmp_path, GOOD, labels, sigmas=SIGMAS)["metrics"]["ap"] == pytest.approx(1)
    for wrong in ([0.1, 0.2], [0.1, 0.2, -1]):
        with pytest.raises(UserError, match=f"--sigmas: got {len(wrong)}, expected 3 positive"):
            run(tmp_path, GOOD, labels, sigmas=wrong)


def test_two_in_an_image_are_paired_by_oks(tmp_path: Path):
    """Swapped in order and in score; a third detection is far from all."""
    far = [number + 200 if place % 3 < 2 else number for place, number in enumerate(annotation(3, 4)["keypoints"])]
    labels = truth(annotation(3, 4, keypoints=[*far[:6], 0, 0, 0]))
    stray = detection(1, 4, keypoints=[999.0] * 9, score=0.99)
    report = run(tmp_path, [detection(1, 4, keypoints=far, score=0.2), stray, *GOOD], labels)
    assert report["paired"] == 3
    assert report["metrics"]["epe"] == pytest.approx((0 * 2 + 1 + 0 + 1 + 0) / 6)
