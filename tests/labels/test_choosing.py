"""What is chosen to be labelled next is what a model is unsure of, and not the same image twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from quick import WORDS as QUICK

pytest.importorskip("torch")

import fiducial
from fiducial.data.images import read_image
from fiducial.errors import UserError
from fiducial.labels.choosing import Seen, choose
from fiducial.runtime import runtime


def seen(error: float, look: float) -> Seen:
    return Seen(np.zeros((1, 3, 2)), error, np.full((1, 192), look), np.zeros((1, 6)))


def test_errors_and_distances_are_multiplied() -> None:
    """By hand: first the largest error; then of two that look alike neither, but the one that is far away."""
    pool = [seen(0.1, 0.0), seen(0.3, 0.0), seen(0.29, 0.01), seen(0.1, 1.0), seen(0.05, 0.5)]
    assert choose(pool, 2) == [1, 3]
    assert sorted(choose(pool, 99)) == [0, 1, 2, 3, 4]


def test_what_is_labelled_already_is_not_chosen_again() -> None:
    pool = [seen(0.3, 0.0), seen(0.1, 1.0)]
    assert choose(pool, 1) == [0]
    assert choose(pool, 1, [seen(0.0, 0.0)]) == [1]
    assert choose([], 3) == []


def test_images_to_label_come_with_prelabels(blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    pool, out = blobs / "images", tmp_path / "next"
    result = fiducial.labels.next_images(blob_model, pool, out, count=5, labelled=blobs)
    rows = list(csv.DictReader((out / "next.csv").read_text().splitlines()))
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5]
    assert len({row["image"] for row in rows}) == 5
    labels = fiducial.Instances.read(out / "prelabels_coco.json", "all")
    run = runtime.load(blob_model)
    for row, line in enumerate(rows):
        assert (out / line["file"]).read_bytes() == (pool / line["image"]).read_bytes()
        np.testing.assert_allclose(labels.xy[row], run(read_image(out / line["file"])).xy[0], atol=0.02)
    assert {path.name for path in out.iterdir()} >= {"prelabels_cvat.xml", "prelabels_label_studio.json", "report.html"}
    assert json.loads((out / "prelabels_label_studio.json").read_text())
    assert result.figures["pool"] == 80


def test_mistakes_are_said(blobs: Path, blob_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="count"):
        fiducial.labels.next_images(blob_model, blobs / "images", tmp_path / "next", count=0)
    with pytest.raises(UserError, match=r"\[20, 90\]: expected two or more numbers of images from 2 to the 48"):
        fiducial.labels.next_curve(blobs, tmp_path / "curve", counts=[20, 90])


def test_the_curve_is_of_both_ways_from_the_same_start(blobs: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve"
    result = fiducial.labels.next_curve(blobs, out, counts=[8, 12], seeds=1, **QUICK)
    first, last = result.figures["counts"]
    assert first["chosen"] == first["chance"]
    assert (first["difference"], first["low"], first["high"]) == (0, 0, 0)
    assert {path.name for path in out.iterdir()} == {
        "start_8_seed_0",
        "chosen_12_seed_0",
        "chance_12_seed_0",
        "report.html",
    }
    assert last["low"] <= last["difference"] <= last["high"]
    assert "12 images" in result.lines[0]
