"""What of a run's data can't be used and what was assumed about them: said on stderr, kept in RUN/problems.txt and, the first
of each, in metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fiducial import files
from fiducial.log import logger
from fiducial.types import Problem

FILE = "problems.txt"
SAID = 10  # lines of each
KEPT = 20  # lines of metrics.json; all are in problems.txt


def tell(problems: Sequence[Problem], out: Path) -> None:
    """Says the first ones, of the notes and of what is wrong."""
    notes = [problem for problem in problems if problem.is_note]
    wrong = [problem for problem in problems if not problem.is_note]
    for problem in [*notes[:SAID], *wrong[:SAID]]:
        logger.warning(str(problem))
    rest = max(len(notes) - SAID, 0) + max(len(wrong) - SAID, 0)
    if rest:
        logger.warning(f".. and {rest} more, all in {out / FILE}")


def write(out: Path, problems: Sequence[Problem]) -> None:
    """Writes them all, where there are some."""
    if problems:
        files.write_text(out / FILE, "".join(f"{problem}\n" for problem in problems))


def lists(problems: Sequence[Problem]) -> dict[str, list[str]]:
    """Makes `notes` and `problems` of metrics.json: each said once, the first ones and how many more there are."""
    lines = {problem: str(problem) for problem in problems}
    notes = [line for problem, line in lines.items() if problem.is_note]
    wrong = [line for problem, line in lines.items() if not problem.is_note]
    return {"notes": _first(notes), "problems": _first(wrong)}


def _first(lines: list[str]) -> list[str]:
    return lines if len(lines) <= KEPT else [*lines[:KEPT], f"and {len(lines) - KEPT} more in {FILE}"]
