"""All splits of a labelled set."""

from __future__ import annotations

from pathlib import Path

from fiducial.checks.finding import Labelled
from fiducial.data import annotations
from fiducial.data.source import Source


def read(source: Source) -> tuple[Labelled, list[str]]:
    """Reads the labelled instances of each split that a set has of its own, and what was said of them; of a set that has
    one, nothing is set apart."""
    splits, said = {}, []
    for name in annotations.own_splits(source):
        splits[name], problems = annotations.load(source, name, carve=False)
        said += [str(problem) for problem in problems]
    return Labelled(splits), list(dict.fromkeys(said))


def files_of(source: Source) -> list[Path]:
    """Lists the files that all splits are read from."""
    return [file for split in annotations.own_splits(source) for file in annotations.files_of(source, split)]
