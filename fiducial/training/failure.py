"""Why a run ends before its end."""

from __future__ import annotations

from fiducial.errors import Failure


class TrainingFailure(Failure, RuntimeError):
    """The run can't go on, or would be worth nothing; the message says why and what to change."""
