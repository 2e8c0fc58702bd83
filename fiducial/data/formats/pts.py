"""300-W's .pts files beside the pictures of the same name, with and without header, in any depth of folders.

Coordinates are Matlab's, so that the centre of the first pixel is (1, 1). Folders named trainset and testset are
splits; all else is train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fiducial import files as whole_files
from fiducial import geometry, text_files
from fiducial.data.formats import Holds, one_instance_a_picture, parse_points, split_in_name
from fiducial.data.images import beside
from fiducial.data.placing import Placing, rows_by_image
from fiducial.errors import shown
from fiducial.types import Findings, Instances

TITLE = "300-W: NAME.pts beside NAME.jpg, in any folders"
HOLDS = Holds(several=False, names=False, unlabelled=False)
FROM_ONE_BASED = geometry.translation(-1, -1)


def find(path: Path) -> dict[str, list[Path]]:
    """The point files of each split."""
    found: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*.pts")) if path.is_dir() else ():
        folders = file.relative_to(path).parts[:-1]
        split = next((split for folder in reversed(folders) if (split := split_in_name(folder))), "train")
        found.setdefault(split, []).append(file)
    return found


def read(root: Path, files: Sequence[Path], images: Path | None, category: str | None, findings: Findings) -> Instances:
    """One face a picture."""

    def picture_of(file: Path) -> Path | None:
        return beside(images or file.parent, file.stem)

    return one_instance_a_picture(files, picture_of, _points_of, root, "face", findings)


def _points_of(file: Path) -> np.ndarray:
    lines = text_files.read_text(file).strip().splitlines()
    start, stop = 0, len(lines)
    if any(line.strip() == "{" for line in lines):
        start = next(i for i, line in enumerate(lines) if line.strip() == "{") + 1
        stop = next((i for i, line in enumerate(lines) if line.strip() == "}"), len(lines))
        header = dict("".join(line.split()).split(":", 1) for line in lines[:start] if ":" in line)
        stated = header.get("n_points")
        if stated is not None and stated != str(stop - start):
            raise ValueError(f"{stop - start} points, but its header says {shown(stated)}")
    points = parse_points(lines[start:stop], start + 1)
    points[:, :2] = geometry.transform(FROM_ONE_BASED, points[:, :2])
    return points


def write_folder(read: Mapping[str, Instances], placing: Placing) -> list[str]:
    """Writes SPLIT/NAME.pts beside a copy of each image; a missing point is "nan nan"."""
    for split, instances in read.items():
        labelled = instances.labelled
        for image, rows in enumerate(rows_by_image(instances)):
            row = next((row for row in rows.tolist() if labelled[row].any()), None)
            if row is None:
                continue
            copy = placing.folder / placing.copy(instances.images, image, split, by_stem=True)
            one_based = geometry.transform(geometry.invert(FROM_ONE_BASED), instances.xy[row].astype(np.float64))
            one_based[~labelled[row]] = np.nan
            points = "".join(f"{x:.4f} {y:.4f}\n" for x, y in one_based.tolist())
            text = f"version: 1\nn_points: {len(one_based)}\n{{\n{points}}}\n"
            whole_files.write_text(copy.with_suffix(".pts"), text)
    return []
