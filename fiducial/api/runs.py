"""`fiducial.runs`: what `fiducial runs` does."""

from __future__ import annotations

from typing import Any

from fiducial import records
from fiducial.api.arguments import path_of
from fiducial.api.results import Result


def runs(folder: Any, *, data: str | None = None, kind: str | None = None, sort: str = "figure") -> Result:
    """Lists every measured run below a folder: fits, students, comparisons, studies, searches.

    data: only those of data with this in its name; kind: only fit, finder, distill, adapt, compare, study or search; sort: figure, minutes,
    ms or path. `result.figures["runs"]` has all that is known, `["unreadable"]` what could not be read, and why."""
    found = records.chosen(records.read(path_of(folder, "folder")), data=data, kind=kind, sort=sort)
    return Result(figures=records.as_json(found), table=records.rows(found), lines=records.lines(found))
