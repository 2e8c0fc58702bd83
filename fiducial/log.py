"""What is said while something runs, by one logger: `logging.getLogger("fiducial")`.

INFO says how far it is and what was chosen, WARNING what was guessed, left out or repaired. A Python program hears the
warnings alone, on stderr as Python does it, unless it configures logging; the command line shows every line as it is."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger("fiducial")

_is_muted: ContextVar[bool] = ContextVar("is_muted", default=False)
logger.addFilter(lambda record: not _is_muted.get())


class _BareLines(logging.Handler):
    """Prints on what stderr is at that moment, which a progress bar takes the place of; each warning once."""

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if line not in self._warned:
            print(line, file=sys.stderr, flush=True)
        if record.levelno >= logging.WARNING:
            self._warned.add(line)


@contextmanager
def shown() -> Iterator[None]:
    """Shows every line on stderr, and nothing twice; afterwards the logger is as it was."""
    handler, level, propagate = _BareLines(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def muted(when: bool = True) -> Iterator[None]:
    """Says nothing of what happens inside, in this thread: of trials, and in a run's helper processes."""
    before = _is_muted.set(when or _is_muted.get())
    try:
        yield
    finally:
        _is_muted.reset(before)


@contextmanager
def others_quiet() -> Iterator[None]:
    """Says nothing below an error, of any logger: around libraries that warn their own authors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
