"""All splits of a labelled set."""

from __future__ import annotations

from fiducial.checks.finding import Labelled
from fiducial.data import annotations
from fiducial.data.source import Source


def read(source: Source) -> tuple[Labelled, list[str]]:
    """Reads the labelled instances of each split that a set has of its own, and what was said of them. Where it has one,
    all there is is in it."""
    splits, said = {}, []
    names = list(annotations.find(source.path)[1])
    for name in names:
        splits[name], problems = annotations.load(source, name if len(names) > 1 else "all")
        said += [str(problem) for problem in problems]
    return Labelled(splits), list(dict.fromkeys(said))
