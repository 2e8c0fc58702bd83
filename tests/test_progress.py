"""Lines about long work: when they come, and what they say."""

from __future__ import annotations

import time

import pytest
from heard import heard

from fiducial.log import logger
from fiducial.progress import duration, heartbeat, progress


def lines_of(total: int | None, seconds_each: float, count: int) -> list[str]:
    now = [100.0]
    with heard() as lines, progress("predict", total, "frames", bar=False, clock=lambda: now[0]) as advance:
        for _ in range(count):
            now[0] += seconds_each
            advance(1)
    return lines


def test_a_line_every_ten_seconds() -> None:
    assert lines_of(1200, 0.5, 70) == [
        "predict: 20 of 1200 frames, 2.0 a second, 10 min left",
        "predict: 40 of 1200 frames, 2.0 a second, 10 min left",
        "predict: 60 of 1200 frames, 2.0 a second, 10 min left",
    ]
    assert lines_of(None, 4, 3) == ["predict: 3 frames, 0.2 a second"], "a camera has no end"
    assert lines_of(100, 0.09, 100) == [], "short work says nothing"


def test_more_than_was_declared() -> None:
    """A video's own count may be wrong."""
    assert lines_of(2, 5, 4)[-1] == "predict: 4 of 2 frames, 0.2 a second, 0 s left"


def test_no_long_silence() -> None:
    with heard() as lines, heartbeat(every_s=0.2):
        logger.info("exporting")
        time.sleep(0.7)
        logger.info("comparing")
        for _ in range(6):
            time.sleep(0.05)
            logger.info("compared one")
    since, after = lines[: lines.index("comparing")], lines[lines.index("comparing") + 1 :]
    assert since[0] == "exporting"
    assert 2 <= len(since) - 1 <= 3, "a line each 0.2 s"
    assert all(line.startswith("still running, ") and line.endswith(" s since: exporting") for line in since[1:])
    assert after == ["compared one"] * 6, "nothing is added where something is said"
    with heard() as lines:
        time.sleep(0.3)
    assert lines == [], "it ends with its context"


def test_a_bar_is_drawn_on_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with progress("predict", 3, "frames", bar=True) as advance:
        advance(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "predict" in err
    assert "frames/s" in err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (99, "99 s"),
        (100, "1 min 40 s"),
        (299.7, "5 min 0 s"),
        (301, "5 min"),
        (5900, "98 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
