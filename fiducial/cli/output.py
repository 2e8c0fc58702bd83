"""What commands print and write."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fiducial.errors import UserError

if TYPE_CHECKING:
    from fiducial.api.results import Result


def floats(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(item) for item in text.split(","))
    except ValueError:
        raise UserError(f"--sigmas {text!r}: expected numbers separated by commas") from None


def write_figures(path: Path | None, summary: Mapping[str, Any]) -> None:
    if path is None:
        return
    from fiducial import config

    if is_printed(path):
        typer.echo(json.dumps(summary, allow_nan=False))
    else:
        config.write_json(path, summary)


def is_printed(json_file: Path | None) -> bool:
    """Tells whether the JSON goes to stdout (`--json -`), so that nothing else does."""
    return str(json_file) == "-"


def has_bar(json_file: Path | None = None) -> bool:
    """Tells whether to draw a progress bar: on a terminal, beside no JSON."""
    return sys.stderr.isatty() and not is_printed(json_file)


def finish(result: Result, json_file: Path | None) -> None:
    """Writes the figures of runs, and prints them, the answer in sentences and the files."""
    if not result.figures:  # the helper processes of several devices have none
        return
    write_figures(json_file, result.figures)
    if is_printed(json_file):
        return
    if result.table:
        print_table(result.table)
    else:
        print_run(result.figures)
    for line in [*result.lines, *(f"{name}: {path}" for name, path in result.files.items())]:
        typer.echo(line)


def print_run(summary: Mapping[str, Any]) -> None:
    """Prints what a run has come to: first why it is worth little, where it is, then the epoch kept, where there are some, and its figures."""
    if summary.get("warning"):
        typer.echo(f"warning: {summary['warning']}")
    from fiducial.evaluation import intervals

    if "best_epoch" in summary:
        typer.echo(f"{'best epoch':>12}  {summary['best_epoch']} of {summary['epochs']}")
    print_figures(summary["metrics"], intervals.beside(summary))


def print_figures(metrics: Mapping[str, Any], beside: Mapping[str, str] | None = None) -> None:
    """Prints a line for each figure, with the words that belong `beside` it."""
    for name, value in metrics.items():
        words = (beside or {}).get(name, "")
        if value == -1 and name.startswith(("ap", "ar")):  # COCO's way to write it
            typer.echo(f"{name:>12}  –   nothing to find: no labelled instance of that size")
            continue
        figure = "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        typer.echo(f"{name:>12}  {figure}   {words}".rstrip())


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(rows[0])
    cells = [[f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    for line in [columns, *cells]:
        typer.echo("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
