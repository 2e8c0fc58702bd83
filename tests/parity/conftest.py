"""The table at the end of a run: how far ours are from the references."""

from __future__ import annotations

import pytest
from parity.golden import Outcome

OUTCOMES = pytest.StashKey[list[Outcome]]()
NOT_OURS = pytest.StashKey[list[str]]()
HEADINGS = ("golden", "case", "compared", "left out", "largest error", "of tolerance", "worst", "verdict")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = []
    config.stash[NOT_OURS] = []


@pytest.fixture
def outcomes(pytestconfig: pytest.Config) -> list[Outcome]:
    """Where a case leaves what came of it."""
    return pytestconfig.stash[OUTCOMES]


@pytest.fixture
def not_ours(pytestconfig: pytest.Config) -> list[str]:
    """Where the folders go for which there is no system."""
    return pytestconfig.stash[NOT_OURS]


def row(outcome: Outcome) -> tuple[str, ...]:
    verdict = "passes" if outcome.passes else f"FAILS: {outcome.problems[0]}"
    more = len(outcome.problems) - 1
    figures = (f"{outcome.largest_error:.2g}", f"{outcome.largest_share:.2g}") if outcome.compared else ("-", "-")
    counts = (str(outcome.compared), str(len(outcome.left_out)))
    ending = f" (and {more} more)" if more > 0 else ""
    return (outcome.folder, outcome.case, *counts, *figures, outcome.worst or "-", verdict + ending)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes, not_ours = config.stash[OUTCOMES], config.stash[NOT_OURS]
    if outcomes:
        table = [HEADINGS, *map(row, outcomes)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        terminalreporter.section("parity with the references")
        for cells in table:
            line = "  ".join(cell.ljust(width) for cell, width in zip(cells[:-1], widths, strict=False))
            terminalreporter.write_line(f"{line}  {cells[-1]}")
        for outcome in outcomes:
            for name, reason in outcome.left_out.items():
                terminalreporter.write_line(f"left out: {outcome.folder} {outcome.case} {name}: {reason}")
            for name, value in outcome.unread.items():
                line = f"stated, but read by nobody: {outcome.folder} {outcome.case} {name} = {value!r}"
                terminalreporter.write_line(line)
        passing = sum(outcome.passes for outcome in outcomes)
        terminalreporter.write_line(f"{passing} of {len(outcomes)} cases pass")
    if not_ours:
        terminalreporter.write_line(
            f"skipped, of a name that no file of tests/parity/systems has: {', '.join(not_ours)}"
        )
