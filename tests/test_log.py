"""Who hears what: a Python program warnings alone, the command line every line."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import pytest
from heard import heard

from fiducial import log
from fiducial.log import logger

PROGRAM = "from fiducial.log import logger\nlogger.info('epoch 1')\nlogger.warning('one box is left out')\n"


@pytest.mark.parametrize(
    ("first", "err"),
    [
        ("", "one box is left out\n"),
        ("import logging\nlogging.basicConfig(level='INFO', format='%(message)s')\n", None),
    ],
)
def test_a_program_hears_warnings_and_what_it_asks_for(first: str, err: str | None) -> None:
    done = subprocess.run([sys.executable, "-c", first + PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == (err or "epoch 1\none box is left out\n")


def test_the_command_line_shows_bare_lines_and_each_warning_once(capsys: pytest.CaptureFixture[str]) -> None:
    before = (logger.level, logger.propagate, list(logger.handlers))
    with log.shown():
        for line in ("50 % done", "50 % done"):
            logger.info(line)
        for _ in range(2):
            logger.warning("a.png: is left out")
    assert capsys.readouterr().err == "50 % done\n50 % done\na.png: is left out\n"
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_muted_is_about_this_thread_and_ends_with_an_error() -> None:
    with heard() as lines:
        with contextlib.suppress(ZeroDivisionError), log.muted():
            logger.warning("of a trial")
            other = threading.Thread(target=logger.warning, args=("of another thread",))
            other.start()
            other.join()
            raise ZeroDivisionError
        with log.muted(False):
            logger.info("after")
        with log.muted(), log.muted(False):
            logger.info("of a trial in a trial")
    assert lines == ["of another thread", "after"]
