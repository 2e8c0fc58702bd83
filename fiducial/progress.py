"""How far long work has come: a bar on a terminal, elsewhere a line every ten seconds and no long silence."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fiducial.log import logger

Advance = Callable[[int], None]  # takes how many more are done
SILENCE_S = 25.0  # longest time without a line
LINE_S = 20.0  # who knows how far the work is says so before


@contextmanager
def progress(
    what: str,
    total: int | None,
    unit: str,
    *,
    bar: bool,
    every_s: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """Shows how many of `total` things are done, how fast, and how long the rest will take; None = nobody knows how many.

    With `bar` it is drawn on stderr and gone at the end. Without, a line is said when `every_s` seconds have passed
    since the last one, so that short work says nothing.

    >>> with progress("predict", 2, "frames", bar=False) as advance:
    ...     advance(1)
    """
    start, done = clock(), 0

    def speed() -> float:
        return done / max(clock() - start, 1e-9)

    if not bar:
        last = start

        def say(count: int) -> None:
            nonlocal done, last
            done += count
            if clock() - last >= every_s:
                last = clock()
                logger.info(line(what, unit, done, total, speed()))

        yield say
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total, speed="")

        def draw(count: int) -> None:
            nonlocal done
            done += count
            shown.update(task, advance=count, speed=f"{speed():.1f} {unit}/s")

        yield draw


@contextmanager
def heartbeat(every_s: float = SILENCE_S) -> Iterator[None]:
    """Says a line wherever nothing was said for so long: that the work still runs, and what was said last.

    For whoever waits without a terminal, of steps whose length nobody knows: a library that builds, compares or loads."""
    heard, ended = _Heard(), threading.Event()

    def beat() -> None:
        while not ended.wait(every_s / 25):
            quiet_s = time.monotonic() - heard.since
            if quiet_s >= every_s * (heard.beats + 1):
                heard.beats += 1
                said = f" since: {heard.line}" if heard.line else ""
                logger.info(f"still running, {duration(quiet_s)}{said}", extra={_BEAT: True})

    thread = threading.Thread(target=beat, daemon=True)
    logger.addHandler(heard)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        logger.removeHandler(heard)


_BEAT = "is_beat"


class _Heard(logging.Handler):
    """Remembers the last line, when it was said, and how many silences were told since."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.since, self.beats = "", time.monotonic(), 0

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, _BEAT):
            self.line, self.since, self.beats = record.getMessage(), time.monotonic(), 0


def line(what: str, unit: str, done: int, total: int | None, per_second: float) -> str:
    """Writes how far it is: "predict: 340 of 1200 frames, 34.0 a second, 25 s left"."""
    of = "" if total is None else f" of {total}"
    left = "" if total is None or per_second <= 0 else f", {duration(max(total - done, 0) / per_second)} left"
    return f"{what}: {done}{of} {unit}, {per_second:.1f} a second{left}"


def duration(seconds: float) -> str:
    """Writes a time as people say it: "25 s", "3 min 12 s", "48 min", "2 h 5 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 300:
        return "{} min {} s".format(*divmod(round(seconds), 60))
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
