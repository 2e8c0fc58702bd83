"""DeepLabCut: a project with config.yaml and labeled-data/VIDEO/CollectedData_SCORER.csv, of one animal or several.

The tables are `dlc_table.py`'s. Points and edges (`skeleton`) come from config.yaml; a mirror's pairs stand nowhere in a
project and are read from the names of points. The same labels lie in .h5 files beside the tables: where a video has such a
file alone, it is read (`dlc_hdf5.py`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files
from fiducial.data import dlc_hdf5, dlc_table, yaml_file
from fiducial.data.dlc_table import LABELS, SCORER, Project
from fiducial.data.formats import Holds
from fiducial.data.placing import Placing, file_of, rows_by_image
from fiducial.errors import UserError
from fiducial.types import Findings, Instances, Skeleton

TITLE = "DeepLabCut: config.yaml beside labeled-data/VIDEO/CollectedData_SCORER.csv"
HOLDS = Holds(edges=True, splits=False)


def find(path: Path) -> dict[str, list[Path]]:
    """The tables of all videos, or one .h5 file. A project knows no splits."""
    if path.is_file() and dlc_hdf5.is_one(path):
        return {"train": [path]}
    home = path.parent if path.name == "config.yaml" else path
    return {"train": tables} if (tables := _tables(home)) else {}


def why_not(path: Path) -> str:
    """Says what a project lacks; "" for what is none."""
    return f"{path / LABELS}: no VIDEO/CollectedData_SCORER.csv or .h5 in it" if (path / LABELS).is_dir() else ""


def read(
    root: Path, tables: Sequence[Path], images: Path | None, category: str | None, findings: Findings
) -> Instances:
    """One instance for each animal with a point in an image."""
    home = _home(root)
    settings = _settings(home)
    project = Project(_points(settings), _edges(settings), (home, home / LABELS))
    return dlc_table.instances_of(home, tables, images, category, findings, project)


def _home(root: Path) -> Path:
    """The folder of the project that config.yaml, or a table in labeled-data/VIDEO/, belongs to."""
    if root.is_dir():
        return root
    return root.parents[2] if len(root.parents) > 2 and root.parents[1].name == LABELS else root.parent


def _tables(home: Path) -> list[Path]:
    """Of each video the table of the project's scorer, or the only one; .h5 where no CSV is beside."""
    folders: dict[Path, list[Path]] = {}
    for file in sorted((home / LABELS).glob("*/CollectedData*.csv")):
        if dlc_table.is_one(file):
            folders.setdefault(file.parent, []).append(file)
    with_csv = set(folders)
    for file in sorted((home / LABELS).glob("*/CollectedData*.h5")):
        if file.parent not in with_csv and dlc_hdf5.is_one(file):
            folders.setdefault(file.parent, []).append(file)
    if all(len(own) == 1 for own in folders.values()):
        return [file for own in folders.values() for file in own]
    scorer = _settings(home).get("scorer")
    chosen = []
    for folder, several in folders.items():
        own = [file for file in several if file.stem == f"CollectedData_{scorer}"] if len(several) > 1 else several
        if len(own) != 1:
            names = ", ".join(file.name for file in several)
            raise UserError(folder, f"several tables of labels: {names}; give one of them")
        chosen += own
    return chosen


def _settings(home: Path) -> dict[str, Any]:
    """What config.yaml says; {} where there is none."""
    candidates = [home / "config.yaml", *sorted(home.glob("*config.yaml"))]
    file = next((file for file in candidates if file.is_file()), None)
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


def write_folder(read: Mapping[str, Instances], placing: Placing) -> list[str]:
    """Writes a project of one animal, or of several where an image has more than one instance. Images go into folders
    named as those they come from, so that frames of one video stay together."""
    tables: dict[str, list[tuple[Instances, str, list[int]]]] = {}
    for split, instances in read.items():
        labelled = np.asarray(instances.labelled.any(1))
        for image, rows in enumerate(rows_by_image(instances)):
            video = _video_of(instances, image, split)
            copy = placing.copy(instances.images, image, f"{LABELS}/{video}")
            tables.setdefault(video, []).append((instances, copy, rows[labelled[rows]].tolist()))
    several = max((len(rows) for table in tables.values() for _, _, rows in table), default=1)
    for video, table in tables.items():
        file = placing.folder / LABELS / video / f"CollectedData_{SCORER}.csv"
        dlc_table.write(file, [name for _, name, _ in table], [(part, rows) for part, _, rows in table], several)
    skeleton = next(iter(read.values())).skeleton
    files.write_text(placing.folder / "config.yaml", yaml_file.text(_config(skeleton, list(tables), several)))
    return [f"DeepLabCut trains from .h5 beside the tables: deeplabcut.convertcsv2h5('config.yaml', scorer='{SCORER}')"]


def _video_of(instances: Instances, image: int, split: str) -> str:
    """The folder of an image, where that says more than that images are in it; for a frame, its video."""
    name = instances.images.name(image)
    if file_of(instances.images, image) is None:
        return Path(name.partition("#")[0]).stem or split
    parent = Path(name).parent.name
    return split if parent in ("", "images", LABELS) else parent


def _config(skeleton: Skeleton, videos: list[str], several: int) -> dict[str, Any]:
    points = list(skeleton.points)
    edges = [[points[a], points[b]] for a, b in skeleton.edges]
    animals = {
        "multianimalproject": True,
        "individuals": [f"individual{i + 1}" for i in range(several)],
        "multianimalbodyparts": points,
        "uniquebodyparts": [],
        "bodyparts": "MULTI!",
        "identity": False,
    }
    return {
        "Task": skeleton.name,
        "scorer": SCORER,
        "date": "",
        **(animals if several > 1 else {"multianimalproject": False, "bodyparts": points}),
        "project_path": ".",
        "video_sets": {json.dumps(f"{video}.mp4"): {"crop": "0, 0, 0, 0"} for video in videos},
        "skeleton": edges,
        "start": 0,
        "stop": 1,
        "numframes2pick": 20,
        "pcutoff": 0.6,
        "dotsize": 8,
        "alphavalue": 0.7,
        "colormap": "rainbow",
        "TrainingFraction": [0.95],
        "iteration": 0,
        "default_net_type": "resnet_50",
        "snapshotindex": -1,
        "batch_size": 8,
        "cropping": False,
    }
