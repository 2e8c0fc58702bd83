"""Teachers of a few thousand weights; frames of moving discs as clips without labels."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from heard import heard

if importlib.util.find_spec("jaxtyping") and importlib.util.find_spec("beartype"):
    # As tests/conftest.py does for others; not the spec, whose own checks are tested with wrong values.
    from jaxtyping import install_import_hook

    CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
    PARTS = ("signals", "objective", "scoring", "teacher", "cache")
    install_import_hook([f"fiducial.distillation.{part}" for part in PARTS], CHECKER)
    install_import_hook("fiducial.models.resizing", CHECKER)

from distill.small import detector_of, recipe_of, saved

from fiducial.data.source import Source
from fiducial.distillation import workflow
from fiducial.distillation.teacher import Teacher


@pytest.fixture(scope="session")
def motion_teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """With Jacobians and heatmaps."""
    return saved(detector_of(), tmp_path_factory.mktemp("teachers") / "motion")


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of twelve frames each, of a disc that moves."""
    root = tmp_path_factory.mktemp("clips")
    for clip in range(3):
        (root / f"clip{clip}").mkdir()
        for frame in range(12):
            picture = np.full((48, 64, 3), 60 + 30 * clip, np.uint8)
            cv2.circle(picture, (12 + 3 * frame, 15 + 6 * clip), 7, (40, 200, 90 + 50 * clip), -1)
            cv2.imwrite(str(root / f"clip{clip}" / f"{frame}.png"), picture)
    return root


Run = Callable[..., tuple[dict[str, Any], list[str]]]


@pytest.fixture
def distill() -> Run:
    """A teacher, pictures, a folder and what is chosen -> the figures, and what was said."""

    def run(
        teacher: Teacher,
        data: Path | Source,
        out: Path,
        *settings: str,
        loss: str = "L1",
        student: str = "hourglass_w8_b2_m8_s2",
        resume: bool = False,
        **options: Any,
    ) -> tuple[dict[str, Any], list[str]]:
        recipe = recipe_of(teacher, *settings, loss=loss, student=student, **options)
        with heard() as lines:
            summary = workflow.distill(teacher, Source.of(data), out, recipe, resume=resume)
        assert summary is not None
        return summary, lines

    return run
