"""Fixtures for all tests: the optional folder of real data and goldens beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_folder(*parts: str) -> Path | None:
    """A folder of the shared data, where it is there. `FIDUCIAL_SHARED` names another place than ../shared."""
    folder = Path(os.environ.get("FIDUCIAL_SHARED", ROOT.parent / "shared")).joinpath(*parts)
    return folder if folder.exists() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real labelled data."""
    folder = shared_folder("data")
    return folder if folder is not None else pytest.skip("no real data beside the checkout (../shared/data)")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Inputs and outputs of the reference implementations."""
    folder = shared_folder("golden")
    return folder if folder is not None else pytest.skip("no goldens beside the checkout (../shared/golden)")
