"""DeepLabCut: a project with config.yaml and labeled-data/VIDEO/CollectedData_SCORER.csv, of one animal or several.

The tables are `dlc_table.py`'s. Points and edges (`skeleton`) come from config.yaml; a mirror's pairs stand nowhere in a
project and are read from the names of points. The same labels lie in .h5 files beside the tables, which are not needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fiducial.data import dlc_table, yaml_file
from fiducial.data.dlc_table import Project
from fiducial.errors import UserError
from fiducial.types import Findings, Instances

TITLE = "DeepLabCut: config.yaml beside labeled-data/VIDEO/CollectedData_SCORER.csv"
LABELS = "labeled-data"


def find(path: Path) -> dict[str, list[Path]]:
    """The tables of all videos. A project knows no splits."""
    home = path.parent if path.name == "config.yaml" else path
    return {"train": tables} if (tables := _tables(home)) else {}


def why_not(path: Path) -> str:
    """Says what a project lacks; "" for what is none."""
    if not (path / LABELS).is_dir():
        return ""
    binary = next((path / LABELS).glob("*/CollectedData*.h5"), None)
    if binary is not None:
        return f"{binary}: its labels are there without the table {binary.stem}.csv; save that beside it"
    return f"{path / LABELS}: no VIDEO/CollectedData_SCORER.csv in it"


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each animal with a point in an image."""
    home = root.parent if root.is_file() else root
    settings = _settings(home)
    project = Project(_points(settings), _edges(settings), (home, home / LABELS))
    return dlc_table.instances_of(home, files, images, category, findings, project)


def _tables(home: Path) -> list[Path]:
    """Of each video the table of the project's scorer, or the only one."""
    folders: dict[Path, list[Path]] = {}
    for file in sorted((home / LABELS).glob("*/CollectedData*.csv")):
        if dlc_table.is_one(file):
            folders.setdefault(file.parent, []).append(file)
    if all(len(files) == 1 for files in folders.values()):
        return [file for files in folders.values() for file in files]
    scorer = _settings(home).get("scorer")
    chosen = []
    for folder, files in folders.items():
        own = [file for file in files if file.stem == f"CollectedData_{scorer}"] if len(files) > 1 else files
        if len(own) != 1:
            names = ", ".join(file.name for file in files)
            raise UserError(folder, f"several tables of labels: {names}; give one of them")
        chosen += own
    return chosen


def _settings(home: Path) -> dict[str, Any]:
    """What config.yaml says; {} where there is none."""
    files = [home / "config.yaml", *sorted(home.glob("*config.yaml"))]
    file = next((file for file in files if file.is_file()), None)
    settings = {} if file is None else yaml_file.read(file)
    return settings if isinstance(settings, dict) else {}


def _points(settings: dict[str, Any]) -> tuple[str, ...]:
    fields = ("multianimalbodyparts", "uniquebodyparts", "bodyparts")
    lists = [value for field in fields if isinstance(value := settings.get(field), list)]
    return tuple(dict.fromkeys(name for names in lists for name in names if isinstance(name, str)))


def _edges(settings: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    drawn = settings.get("skeleton")
    pairs = [edge for edge in (drawn if isinstance(drawn, list) else ()) if isinstance(edge, list) and len(edge) == 2]
    return tuple((a, b) for a, b in pairs if isinstance(a, str) and isinstance(b, str))
