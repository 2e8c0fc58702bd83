"""Which image and which instance a detection of a results file belongs to: never a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiducial.errors import UserError
from fiducial.evaluation.predictions import evaluate_results

NAMES = ["day/a.jpg", "day/b.jpg", "night/a.jpg", "night/c.jpg"]
IDS = [31, 12, 47, 5]
POINTS = np.array([[12.0, 14], [33, 21], [27, 39]])


def instance(place: int, **other: Any) -> dict[str, Any]:
    points = [value for x, y in (POINTS + 3 * place).tolist() for value in (x, y, 2)]
    box = [8 + 3 * place, 9 + 3 * place, 30, 36]
    return {"id": 70 + place, "image_id": IDS[place], "category_id": 6, "keypoints": points, "bbox": box, **other}


def truth(**other: Any) -> dict[str, Any]:
    category = {"id": 6, "name": "newt", "keypoints": ["a", "b", "c"], "sigmas": [0.05, 0.06, 0.08]}
    return {
        "images": [
            {"id": number, "file_name": name, "width": 90, "height": 80}
            for number, name in zip(IDS, NAMES, strict=True)
        ],
        "annotations": [instance(place) for place in range(4)],
        "categories": [category],
        **other,
    }


def perfect(place: int, **other: Any) -> dict[str, Any]:
    """The truth of NAMES[place], as its own detection."""
    return {"image_id": IDS[place], "category_id": 6, "keypoints": instance(place)["keypoints"], "score": 0.8, **other}


def run(folder: Path, results: list[dict[str, Any]], labels: dict[str, Any] | None = None, **options: Any) -> Any:
    (folder / "truth.json").write_text(json.dumps(truth() if labels is None else labels))
    (folder / "results.json").write_text(json.dumps(results))
    return evaluate_results(folder / "results.json", folder / "truth.json", **options)


@pytest.mark.parametrize("prefix", ["", "set/", "./", "C:\\set\\"])
def test_ids_of_predict_are_nobody_s(tmp_path: Path, prefix: str) -> None:
    """Image ids 1, 2, .. by the order of names, category 1: pairs are found by file_name, and that is said."""
    order = [1, 0, 3, 2]
    results = [
        perfect(place, image_id=number, category_id=1, file_name=prefix + NAMES[place].replace("/", "/"))
        for number, place in enumerate(order, 1)
    ]
    report = run(tmp_path, results)
    assert (report["paired"], report["metrics"]["epe"], report["problems"]) == (4, 0, [])
    assert report["metrics"]["ap"] == pytest.approx(1)
    said = "\n".join(report["notes"])
    assert "image ids of 4 detections are not the truth's: they were matched by file_name" in said
    assert "category_id 1 is predict's own: taken for 6 ('newt')" in said


def test_ids_of_predict_that_are_the_truth_s_by_chance(tmp_path: Path) -> None:
    """Id 31 is day/a.jpg in the truth; the file that predict saw is night/a.jpg."""
    report = run(tmp_path, [perfect(2, image_id=31, category_id=1, file_name="night/a.jpg")])
    assert (report["paired"], report["metrics"]["epe"]) == (1, 0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"file_name": "a.jpg"}, r"'a.jpg' doesn't say which image of the truth it is: 'day/a.jpg', 'night/a.jpg'"),
        ({"file_name": "x.jpg"}, r"the truth has no image of its file_name 'x.jpg', its image 31 is 'day/a.jpg'"),
        ({"file_name": "dusk/a.jpg"}, r"the truth has no image of its file_name 'dusk/a.jpg'"),
        ({"image_id": 99}, "the truth has no such image"),
        ({"image_id": 99, "file_name": "x.jpg"}, "the truth has no image of its file_name 'x.jpg'"),
    ],
)
def test_what_could_be_a_wrong_pair_is_left_out(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    results = [perfect(1), perfect(0, **entry)]
    report = run(tmp_path, results)
    assert report["paired"] == 1
    assert said in report["problems"][0]
    with pytest.raises(UserError, match=r"all 1 detections are broken; the first: .*results.json: detection \[0\]"):
        run(tmp_path, results[1:])
    with pytest.raises(UserError, match="1 broken in the results"):
        run(tmp_path, results, strict=True)


def test_two_files_are_not_one_image(tmp_path: Path) -> None:
    """Both end as the truth's only b.jpg, and neither is named as it is."""
    results = [perfect(1, image_id=8, file_name=f"{folder}/b.jpg") for folder in ("x", "y")]
    with pytest.raises(UserError, match=r"'x/b\.jpg' doesn't say which image"):
        run(tmp_path, results)
    assert run(tmp_path, results[:1])["paired"] == 1


def test_ids_hold_where_names_agree(tmp_path: Path) -> None:
    """Results of boxes know the truth's ids; a short name is enough."""
    entries = [perfect(place, file_name="a.jpg", bbox=[1, 2, 3, 4], annotation_id=70 + place) for place in (0, 2)]
    report = run(tmp_path, entries)
    assert (report["paired"], report["metrics"]["epe"], report["problems"], report["notes"]) == (
        2,
        0,
        [],
        [f"{tmp_path / 'truth.json'}: note: 4 of 4 annotations have no area above 0: w h of the box is used there"],
    )


@pytest.mark.parametrize(
    "spell", [str, float, lambda number: f"{number:012}", lambda number: f"id {number}", lambda number: number + 2**64]
)
def test_ids_of_any_kind(tmp_path: Path, spell: Any) -> None:
    labels = truth()
    for item in labels["images"]:
        item["id"] = spell(item["id"])
    for item in labels["annotations"]:
        item["image_id"] = spell(item["image_id"])
    report = run(tmp_path, [perfect(place, image_id=spell(IDS[place])) for place in range(4)], labels)
    assert (report["paired"], report["metrics"]["epe"], report["problems"]) == (4, 0, [])
    assert report["metrics"]["ap"] == pytest.approx(1)


def test_pairs_by_annotation(tmp_path: Path) -> None:
    """Two instances of one image, found in each other's place: by OKS they would be exchanged; an id of another image
    says nothing."""
    labels = truth()
    labels["annotations"][1]["image_id"] = IDS[0]
    swapped = [
        perfect(0, keypoints=instance(1)["keypoints"], annotation_id=70),
        perfect(0, keypoints=instance(0)["keypoints"], annotation_id=71),
    ]
    report = run(tmp_path, swapped, labels)
    assert report["paired"] == 2
    assert report["metrics"]["epe"] == pytest.approx(3 * 2**0.5)
    for entry in swapped:
        entry["annotation_id"] = 73  # in another image
    assert run(tmp_path, swapped, labels)["metrics"]["epe"] == 0


@pytest.mark.parametrize("kind", ["x, y", "nested", "nested x, y", "text"])
def test_spellings_of_points(tmp_path: Path, kind: str) -> None:
    def spelled(values: list[float]) -> list[Any]:
        triples = [values[start : start + 3] for start in (0, 3, 6)]
        return {
            "x, y": [value for point in triples for value in point[:2]],
            "nested": triples,
            "nested x, y": [point[:2] for point in triples],
            "text": [str(value) for value in values],
        }[kind]

    report = run(tmp_path, [perfect(place, keypoints=spelled(instance(place)["keypoints"])) for place in range(4)])
    assert (report["paired"], report["metrics"]["epe"], report["problems"]) == (4, 0, [])


def test_other_categories_are_told(tmp_path: Path) -> None:
    results = [perfect(0), perfect(1, category_id=9), perfect(2, category_id="six")]
    report = run(tmp_path, results)
    assert report["detections"] == 1
    assert "2 detections of other categories left out (ids [9, 'six'], wanted 6)" in "\n".join(report["notes"])
    with pytest.raises(UserError, match=r"none of its 2 detections is of category 'newt' \(id 6\)"):
        run(tmp_path, results[1:])
