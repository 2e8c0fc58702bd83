"""Lightning Pose: DeepLabCut's tables as CSV files in the folder that holds labeled-data/, or one such file.

A table called CollectedData_new.csv holds labels of other sessions, kept apart to test on. Coordinates are as in
`dlc_table.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fiducial.data import dlc_table
from fiducial.data.formats import Holds, by_split, split_in_name
from fiducial.data.placing import Placing, rows_by_image
from fiducial.types import Findings, Instances

TITLE = "Lightning Pose: CollectedData.csv beside labeled-data/, or one such table of DeepLabCut's"
HOLDS = Holds(several=False)
NEW = "_new"  # ends the name of a table to test on


def find(path: Path) -> dict[str, list[Path]]:
    """The table of each split."""
    files = [path] if path.is_file() else sorted(path.glob("*.csv"))
    tables = [file for file in files if file.suffix.lower() == ".csv" and file.is_file() and dlc_table.is_one(file)]
    new = [file for file in tables if file.stem.endswith(NEW) and not split_in_name(file.stem)]
    found = by_split(path, [file for file in tables if file not in new])
    return {**found, "test": new} if new and "test" not in found else found


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One instance for each animal with a point in an image."""
    [file] = files
    findings.source = str(file)
    above = (file.parent, *list(file.parents)[1:3])  # of a table in labeled-data/VIDEO/
    return dlc_table.instances_of(file, files, images, category, findings, dlc_table.Project(candidates=above))


def write_folder(read: Mapping[str, Instances], placing: Placing) -> list[str]:
    """Writes CollectedData.csv (train), CollectedData_val.csv and CollectedData_new.csv (test), and labeled-data/."""
    names = {"train": "CollectedData", "test": f"CollectedData{NEW}"}
    for split, instances in read.items():
        labelled, table, images = np.asarray(instances.labelled.any(1)), [], []
        for image, rows in enumerate(rows_by_image(instances)):
            images.append(placing.copy(instances.images, image, f"{dlc_table.LABELS}/{split}"))
            table.append((instances, rows[labelled[rows]].tolist()))
        file = placing.folder / f"{names.get(split, f'CollectedData_{split}')}.csv"
        dlc_table.write(file, images, table, animals=1)
    return ["Lightning Pose knows no split val: its table is CollectedData_val.csv"] if "val" in read else []
