"""The face model that comes along: what it is under, what it weighs, and what it is worth on drawn and on real faces."""

from __future__ import annotations

from pathlib import Path

import pytest

from fiducial.data.skeletons import IBUG68
from fiducial.data.source import Source
from fiducial.drawnfaces import procedural_faces
from fiducial.evaluation import evaluate
from fiducial.geometry import Size
from fiducial.runtime import runtime

DRAWN_NME, REAL_NME = 0.05, 0.09


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
