"""The face model that comes along and its finder: what they are under, weigh, and are worth on drawn and on real faces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import fiducial
from fiducial import geometry
from fiducial.data import annotations
from fiducial.data.skeletons import IBUG68
from fiducial.data.source import Source
from fiducial.drawnfaces import crowd, procedural_crowds, procedural_faces
from fiducial.evaluation import evaluate
from fiducial.evaluation.found import boxes_of, scored, truth_of
from fiducial.geometry import Size
from fiducial.runtime import finder_file, runtime
from fiducial.types import Instances

DRAWN_NME, REAL_NME = 0.05, 0.09
ASTRONAUT = np.array(
    [168.0, 78.0, 107.0, 116.0]
)  # of scikit-image, the box of her face by eye: brows to chin, ear to ear


def test_card_and_weight() -> None:
    file = runtime.resolved(Path("face"))
    assert file.stat().st_size <= 3e6
    card = runtime.load("face").card
    assert card.spec.skeleton.points == IBUG68.points
    assert card.licence == "Apache-2.0"
    assert set((card.derived_from or {}).values()) == {"Apache-2.0"}
    assert {"nme_of_photographs", "learnt_from", "for"} <= set(card.metrics)


def test_it_finds_the_points_of_drawn_faces() -> None:
    faces = procedural_faces(40, seed=99, size=Size(128, 128))
    assert evaluate.evaluate_network(runtime.load("face").network, faces).metrics.nme < DRAWN_NME


@pytest.mark.parametrize("name", ["faces300w", "faces68_mini"])
def test_it_finds_the_points_of_photographs(shared: Path, name: str) -> None:
    result = evaluate.evaluate_model(Path("face"), Source(shared / name), "val")
    assert result.evaluation.metrics.nme < REAL_NME
    assert result.evaluation.metrics.nme < 0.5 * (result.floor.nme or 0)


def found_in(images: Instances) -> dict[str, float]:
    """What the finder finds in a labelled set, at its own threshold."""
    finder = runtime.load("face").finder
    assert finder is not None
    seen = [(row, finder(images.images.read(row))) for row in range(len(images.image_id))]
    return scored(truth_of(images), boxes_of(seen), finder.threshold)


def test_the_finder_s_card_and_weight() -> None:
    file = finder_file.beside(runtime.resolved(Path("face")))
    assert file.stat().st_size <= 2e6
    finder = runtime.load("face").finder
    assert finder is not None
    assert finder.spec.skeleton.points == ("face",) or len(finder.spec.skeleton.points) == 1


def test_it_finds_drawn_faces_that_it_never_saw() -> None:
    figures = found_in(procedural_crowds(24, seed=990, size=Size(384, 320)))
    assert figures["recall@0.5"] > 0.85
    assert figures["precision@0.5"] > 0.85


@pytest.mark.parametrize(("name", "recall", "precision"), [("faces_mosaic", 0.88, 0.88), ("faces300w", 0.98, 0.88)])
def test_it_finds_the_faces_of_photographs(shared: Path, name: str, recall: float, precision: float) -> None:
    """Small ones beside each other, and one that fills the photograph."""
    figures = found_in(annotations.load(shared / name, "val", ignored=True)[0])
    assert figures["recall@0.5"] > recall
    assert figures["precision@0.5"] > precision


def test_it_answers_on_drawn_portraits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A face of nearly half of the picture's sides to one that is larger."""
    monkeypatch.setattr(crowd, "EMPTY", 0.0)
    monkeypatch.setattr(crowd, "CLOSE", 1.0)
    monkeypatch.setattr(crowd, "BESIDE", 0.0)
    assert found_in(procedural_crowds(24, seed=992, size=Size(320, 352)))["recall@0.5"] > 0.9


def test_predict_finds_two_people(tmp_path: Path) -> None:
    crowds = procedural_crowds(40, seed=991, size=Size(640, 480))
    counts = np.bincount(crowds.image_row, minlength=40)
    clear = [row for row in np.flatnonzero(counts == 2) if crowds.box_xywh[crowds.image_row == row, 2:].min() > 60]
    image = crowds.images.read(int(clear[0]))
    cv2.imwrite(str(tmp_path / "two.png"), image[..., ::-1])
    assert fiducial.predict("face", tmp_path / "two.png", tmp_path / "out").instances == 2
    whole = fiducial.predict("face", tmp_path / "two.png", tmp_path / "whole", finder="no")
    assert whole.instances == 1


def test_it_finds_an_astronaut() -> None:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    found = fiducial.load("face")(data.astronaut())
    assert len(found) == 1
    assert found.box_xywh is not None
    assert geometry.box_iou(found.box_xywh[0].astype(np.float64), ASTRONAUT) > 0.5
