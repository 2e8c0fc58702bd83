"""A published kind of file that many tests change."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from models.checkpoints.files import ROUND_TRIPS, State, made, renamed  # noqa: E402


@pytest.fixture(scope="module")
def rtmpose() -> State:
    arguments, *_ = ROUND_TRIPS["RTMPose"]
    return renamed(made(*arguments).state_dict(), ("head.network.", "head."), ("", ""))
