"""What a run's words say of the finder beside it; read before torch is there."""

from __future__ import annotations

from collections.abc import Sequence

SHARE = 0.3  # of the minutes of a run that makes a finder
PREFIX = "finder."  # of settings that are the finder's


def split_settings(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Gives the detector's settings and, without their prefix, the finder's."""
    own = [setting.removeprefix(PREFIX) for setting in settings if setting.startswith(PREFIX)]
    return [setting for setting in settings if not setting.startswith(PREFIX)], own
