"""`fiducial evaluate`: what a mode can't honour is refused by name, what was assumed is said, what is no better than its
floor says so first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Two images with a person and a thing each, of two points, in two categories."""
    categories = [
        {"id": 1, "name": "thing", "keypoints": ["top", "end"]},
        {"id": 2, "name": "other", "keypoints": ["top", "end"], "sigmas": [0.1, 0.1]},
    ]
    labels = [
        {
            "id": 10 * image + category,
            "image_id": image,
            "category_id": category,
            "bbox": [0, 0, 40, 40],
            "area": 900,
            "keypoints": [10 * category, 10, 2, 30, 20 + 5 * image, 2],
            "num_keypoints": 2,
            "iscrowd": 0,
        }
        for image in (1, 2)
        for category in (1, 2)
    ]
    images = [{"id": image, "file_name": f"{image}.png", "width": 60, "height": 50} for image in (1, 2)]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": labels, "categories": categories}))
    return path


def results(truth: Path, category: int, moved: float = 0.0) -> Path:
    """The labels of a category, moved to the right."""
    found: list[dict[str, Any]] = []
    for label in json.loads(truth.read_text())["annotations"]:
        if label["category_id"] == category:
            x, y, _, u, v, _ = label["keypoints"]
            found.append(
                {
                    "image_id": label["image_id"],
                    "category_id": category,
                    "score": 0.9,
                    "keypoints": [x + moved, y, 0.9, u + moved, v, 0.9],
                }
            )
    path = truth.with_name("results.json")
    path.write_text(json.dumps(found))
    return path


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--split", "val"], "--split"),
        (["--flip-test"], "--flip-test"),
        (["--box-jitter", "0.2"], "--box-jitter"),
        (["--report", "page.html"], "--report"),
        (["--images", "nowhere"], "--images"),
        (["--linear-map"], "--predictions"),
        (["--category", "others"], "others"),
    ],
)
def test_options_that_results_can_not_honour(run: Run, truth: Path, options: list[str], name: str) -> None:
    code, out, err = run("evaluate", "--predictions", results(truth, 2), truth, *options)
    assert (code, out) == (2, "")
    assert name in err
    assert err.count("\n") == 1
    assert not Path("page.html").exists()


def test_results_of_one_of_several_categories(run: Run, truth: Path, tmp_path: Path) -> None:
    code, _, err = run("evaluate", "--predictions", results(truth, 2), truth)
    assert code == 2
    assert "--category" in err
    code, out, _ = run("evaluate", "--predictions", results(truth, 2, 2), truth, "--category", "other", "--json", "-")
    summary = json.loads(out)
    assert code == 0
    assert summary["metrics"]["nme"] == pytest.approx(2 / 40)
    assert summary["floor"]["of"] == "truth"
    assert summary["floor"]["nme"] == pytest.approx((0 + 2.5) / 2 / 40)
    assert [row["name"] for row in summary["per_point"]] == ["top", "end"]


def test_what_was_assumed_is_said_and_kept(run: Run, truth: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    code, out, err = run("evaluate", "--predictions", results(truth, 1), truth, "--category", "thing", "--json", file)
    assert code == 0
    assert "no AP: no sigmas for its 2 points" in err
    assert any("no AP" in note for note in json.loads(file.read_text())["notes"])
    assert out.split()[0] == "nme"


def test_what_is_no_better_than_its_floor_says_so_first(run: Run, truth: Path) -> None:
    for moved, first in ((1.0, "ap"), (2.0, "no")):
        code, out, _ = run("evaluate", "--predictions", results(truth, 2, moved), truth, "--category", "other")
        assert code == 0
        assert out.split()[0] == first
        assert "mean shape of truth: 0.0312" in next(line for line in out.splitlines() if line.split()[0] == "nme")


def test_a_table_of_points_of_results(run: Run, truth: Path) -> None:
    _, out, _ = run("evaluate", "--predictions", results(truth, 2), truth, "--category", "other", "--per-point")
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["name", "top", "end"]


def test_a_model_says_what_data_lack_and_how_far_it_is_from_its_floor(
    run: Run, blobs: Path, blob_model: Path, tmp_path: Path
) -> None:
    code, out, err = run("evaluate", blob_model, blobs, "--json", tmp_path / "f.json")
    summary = json.loads((tmp_path / "f.json").read_text())
    assert code == 0
    assert "no AP: no sigmas for its 3 points" in err
    assert summary["notes"] == [err.strip()]
    assert summary["floor"]["of"] == "train"
    assert f"mean shape of train: {summary['floor']['nme']:.4f}" in out
    code, _, err = run("evaluate", blob_model, blobs, "--oks-nms", "0.5")
    assert code == 2
    assert "--oks-nms: only with --predictions" in err
    code, _, err = run("evaluate", blob_model, blobs, "--sigmas", "0.1,0.2")
    assert code == 2
    assert "--sigmas: got 2, expected 3 positive numbers, or one for all points" in err
    each, one = (run("evaluate", blob_model, blobs, "--sigmas", text)[1] for text in ("0.1,0.1,0.1", "0.1"))
    assert each == one
    assert " ap  " in one
    assert "nothing to find: no labelled instance of that size" in one, "COCO writes -1"
    assert "-1.0" not in one
