"""Hears what `fiducial` says, for tests that call its functions."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from fiducial.log import logger


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def heard(level: int = logging.INFO) -> Iterator[list[str]]:
    """Gives the lines of this level and above that are said inside, as they come."""
    handler, before = _Lines(), logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def warned(pattern: str) -> Iterator[None]:
    """Fails where no warning that is said inside has the pattern."""
    with heard(logging.WARNING) as lines:
        yield
    assert any(re.search(pattern, line) for line in lines), f"{pattern!r} is not in {lines}"
