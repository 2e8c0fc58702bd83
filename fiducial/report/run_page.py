"""The page of a run folder: what every run has, whatever it learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fiducial import config, files
from fiducial.card import read as read_card
from fiducial.report import charts
from fiducial.report.page import (
    Charts,
    Fact,
    Gallery,
    Page,
    Section,
    Table,
    data_section,
    gallery_sections,
    recipe_section,
    sentence,
    write_page,
)
from fiducial.report.plot import Chart

# What may lie beside a page, in the order in which it is listed.
BESIDE = {
    "model.safetensors": "the weights of the best epoch, averaged",
    "model.json": "how the network is built, its points, where its weights came from",
    "metrics.json": "the figures of this page",
    "history.csv": "a row an epoch",
    "recipe.json": "the settings",
    "problems.txt": "what was left out of the data",
    "checkpoints": "what --resume goes on from",
    "finder": "the finder of instances, a run of its own, with its page",
    "pictures": "the pictures of this page",
}


@dataclass(frozen=True)
class Run:
    """What a run folder tells of itself; empty where `folder` holds no run, as for an exported file."""

    folder: Path
    recipe: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]  # a row an epoch, as in history.csv
    best_epoch: int | None  # from 1; its weights were kept
    terms: str = ""  # under what licence its weights are
    plan: Sequence[Mapping[str, Any]] = ()  # setting, value and reason of what nobody chose

    def charts(self, *wanted: tuple[str, Sequence[str], str]) -> list[Chart]:
        """Draws losses, then (title, columns of the history, note), then the learning rate, each with the best epoch."""
        drawn = charts.losses(self.history, self.best_epoch)
        for title, columns, note in (*wanted, ("Learning rate", ["lr"], "")):
            drawn += charts.over_epochs(self.history, title, columns, note, best_epoch=self.best_epoch)
        return drawn


def read_run(folder: Path) -> Run:
    """Reads recipe, history and best epoch of a run folder, as far as they are there."""
    recipe, card, history = (folder / name for name in ("recipe.json", "model.json", "history.csv"))
    known = read_card(card) if card.is_file() else None
    best = None if known is None else known.metrics.get("epoch")
    begun: dict[str, Any] = files.read_object(recipe, "recipe") if recipe.is_file() else {"recipe": {}}
    return Run(
        folder,
        files.read_part(recipe, "recipe") if recipe.is_file() else {},
        files.csv_numbers(history),
        best + 1 if isinstance(best, int) else None,
        "" if known is None else known.terms,
        begun.get("plan", ()),
    )


def files_of(folder: Path) -> dict[str, str]:
    """Names what a command has written into a run folder, for its last lines."""
    names = {"history": "history.csv", "figures": "metrics.json", "report": "report.html", "pictures": "pictures"}
    written = {name: folder / file for name, file in names.items() if (folder / file).exists()}
    return {name: str(path) for name, path in {"model": folder, **written}.items()}


def write_run(run: Run, summary: Mapping[str, Any], page: Page) -> dict[str, Any]:
    """Writes RUN/metrics.json and RUN/report.html, and gives the figures with where the files of the run are."""
    config.write_json(run.folder / "metrics.json", summary)
    write_page(run.folder / "report.html", page)
    return {**summary, "files": files_of(run.folder)}


def page_of_run(
    run: Run,
    *,
    title: str,
    metrics: Table,
    drawn: Sequence[Chart],
    shown: Sequence[Gallery],
    data: Mapping[str, Any],
    device: str,
    facts: Sequence[Fact] = (),
    notes: Sequence[str] = (),
    details: Sequence[Section] = (),
    problems: Sequence[str] = (),
) -> Page:
    """Makes the page: metrics, charts, galleries, details, then the data, the recipe and the files."""
    exist = {
        name for name in BESIDE if name == "metrics.json" or (run.folder / name).exists()
    }  # it comes with the page
    beside = [line for line in BESIDE.items() if line[0] in exist] if run.history else []
    return Page(
        title=title,
        facts=[*facts, *_best(run)],
        notes=[sentence(note) for note in notes],
        sections=[
            Section("Metrics", [metrics]),
            Section("Charts", [Charts(drawn)]),
            *gallery_sections(shown),
            *details,
            data_section({**({"licence of the weights": run.terms} if run.terms else {}), **data}, problems),
            _plan_section(run.plan),
            recipe_section(run.recipe),
            Section("Files of the run", [Table(("file", "what it holds"), beside)]),
        ],
        device=device,
    )


def _plan_section(plan: Sequence[Mapping[str, Any]]) -> Section:
    """Lists what was decided by the data and the machine, and why."""
    rows = [(entry["setting"], config.as_setting(entry["value"]), entry["reason"]) for entry in plan]
    return Section("Plan", [Table(("setting", "value", "reason"), rows, note="What nobody chose.")] if rows else [])


def _best(run: Run) -> list[Fact]:
    if run.best_epoch is None or not run.history:
        return []
    return [Fact("best epoch", f"{run.best_epoch} of {len(run.history)}", "its weights were kept")]
