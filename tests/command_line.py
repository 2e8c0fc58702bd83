"""The command line as tests call it: the fixture `run` of conftest.py."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]  # words after `fiducial` -> exit code, stdout, stderr
