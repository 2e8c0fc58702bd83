"""The page of `fiducial data sigmas`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fiducial.report import charts
from fiducial.report.page import Charts, Page, Section, Table, write_page
from fiducial.types import Skeleton


def write(path: Path, figures: Mapping[str, Any], skeleton: Skeleton) -> Path:
    """Writes the constants as bars and as a table."""
    rows = figures["per_point"]
    stated = figures["stated"] or [None] * len(rows)
    columns = ("point", "sigma", "low", "high", "stated", "model", "labels")
    cells = [[{**row, "stated": given}[name] for name in columns] for row, given in zip(rows, stated, strict=True)]
    how = "labels that were given twice" if figures["repeated"] else "labels and models that had not seen them"
    answer = [f"How far labels of each point spread, in roots of the instance's area, from {how}."]
    if figures["rank_correlation"] is not None:
        answer.append(f"Rank correlation with the sigmas that the data state: {figures['rank_correlation']:.2f}.")
    bars = charts.point_bars(skeleton, [row["sigma"] or float("nan") for row in rows], name="sigma")
    note = "low and high: an interval of 90 % over images; model: the models' own error, in the same unit."
    return write_page(
        path,
        Page(
            title=f"OKS sigmas of {figures['data']}",
            answer=answer,
            notes=figures["notes"],
            sections=[Section("Points", [Charts([bars]), Table(columns, cells, note=note)])],
        ),
    )
