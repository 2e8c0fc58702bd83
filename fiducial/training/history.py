"""What is known of a run's epochs: the rows of history.csv, which of them is the best, and what that is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fiducial import files

Row = Mapping[str, float]  # `epoch` counts from 0


class ToBeat(NamedTuple):
    """What a run must get below to be worth something."""

    value: float  # of the val metric
    words: str  # whose error that is


def read(path: Path) -> list[dict[str, float]]:
    """Reads the rows of a history.csv; none where there is no file."""
    return files.csv_numbers(path)


def best_of(rows: Sequence[Row], metric: str) -> Row:
    """Picks the row with the lowest `metric`, the first of equal ones; one that is no number is worse than any."""
    return min(rows, key=lambda row: math.inf if math.isnan(row[metric]) else row[metric])


def warning_of(rows: Sequence[Row], metric: str, floor: ToBeat | None) -> str:
    """Says in one line why the best epoch is worth little, "" where it is worth something."""
    best = best_of(rows, metric)
    name, value, reasons = metric.partition("/")[2] or metric, best[metric], []
    if floor is not None and not value < floor.value:
        reasons.append(f"it is no better than {floor.words} ({name} {value:.4g} against {floor.value:.4g})")
    if len(rows) > 1 and best is rows[0]:
        reasons.append(f"its best epoch is the first of {len(rows)} ({name} {value:.4g}, then {rows[-1][metric]:.4g})")
    if not reasons:
        return ""
    return f"this run has learnt little: {', and '.join(reasons)}; try another --lr, more epochs, or more data"
