"""DeepLabCut's tables of labels, which Lightning Pose took over: a CSV whose first rows name the columns.

    scorer,      , ,      LM,   LM,   ..
    individuals, , ,      ant1, ant1, ..    only where several animals were labelled
    bodyparts,   , ,      nose, nose, ..
    coords,      , ,      x,    y,    ..
    labeled-data,day,img1.png, 21.5, 265.4, ..

The path of an image stands in one column (old) or three. An empty cell, or NaN, is a point that nobody set. Coordinates are
those of napari, where a whole number is the centre of a pixel, as here. Points that belong to no animal (uniquebodyparts)
are those of an individual called "single"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fiducial.data import checking, csv_rows, dlc_hdf5, skeletons
from fiducial.data.formats import located, numbers
from fiducial.errors import UserError, did_you_mean
from fiducial.types import Findings, Instances

HEADERS = ("scorer", "individuals", "bodyparts", "coords")
LABELS = "labeled-data"  # the folder of images
SCORER = "fiducial"  # of tables that are written
SINGLE = "single"  # what DeepLabCut calls the owner of unique points
ANIMALS = "animals"  # the category of those that have a name
LONGEST_HEADER = 10  # rows, among which the four must be


@dataclass(frozen=True)
class Table:
    """The labels of one file: n images, each with a row of points for each individual."""

    names: list[str]  # [n] of the images, as they stand in the file
    individuals: tuple[str, ...]  # one, "", where only one animal is labelled
    points: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]  # the individual and the point of each two columns
    xy: np.ndarray  # [n, individuals, points, 2] float64 px, NaN where nobody set the point


def is_one(file: Path) -> bool:
    """Tells by its first cell whether a CSV is such a table."""
    return "".join(next(csv_rows.rows(file), [])[:1]).strip().lower() == HEADERS[0]


def read(file: Path, findings: Findings) -> Table:
    """Reads a table, CSV or pandas' .h5. Rows that can't be used are listed. Raises UserError where it is no table of labels."""
    if dlc_hdf5.is_one(file):
        cells = dlc_hdf5.read(file)
        places = _placed(file, cells.header, 0, findings)
        values = np.where(np.abs(cells.values) <= checking.FARTHEST_PX, cells.values, np.nan)
        if lost := int((np.isfinite(cells.values) & np.isnan(values)).sum() + np.isinf(cells.values).sum()):
            findings.add("values", f"{lost} numbers are no image's coordinates; missing", str(file))
        return _table(file, cells.names, values, 0, places)
    header, body = {}, []
    for number, row in enumerate(csv_rows.rows(file), 1):
        word = row[0].strip().lower() if row else ""
        if not body and word in HEADERS and number <= LONGEST_HEADER:
            header[word] = [cell.strip() for cell in row]
        elif any(cell.strip() for cell in row):
            body.append((number, row))
    if "bodyparts" not in header or "coords" not in header:
        raise UserError(file, "expected DeepLabCut's first rows: scorer, bodyparts and coords")
    axes = [axis.lower() for axis in header["coords"]]
    first = next((place for place, axis in enumerate(axes) if axis == "x"), len(axes))
    return _filled(file, body, len(axes), first, _placed(file, header, first, findings), findings)


def _placed(
    file: Path, header: Mapping[str, list[str]], first: int, findings: Findings
) -> dict[tuple[str, str], dict[str, int]]:
    """The columns x and y of each individual's points, by the rows of names; `first` is the first of them."""
    width = len(header["coords"])
    axes = [axis.lower() for axis in header["coords"]]
    if "likelihood" in axes:
        raise UserError(file, "has columns `likelihood`: these are a network's predictions, expected labels of people")
    if first == width or len(header["bodyparts"]) != width:
        raise UserError(file, "its rows bodyparts and coords don't fit each other; expected x and y for each point")
    owners = header.get("individuals", [""] * width)
    if len(owners) != width:
        raise UserError(file, f"its row individuals has {len(owners)} cells, expected {width} as in coords")
    places: dict[tuple[str, str], dict[str, int]] = {}
    for place in range(first, width):
        places.setdefault((owners[place], header["bodyparts"][place]), {}).setdefault(axes[place], place)
    whole = {key: place for key, place in places.items() if "x" in place and "y" in place and key[1]}
    if not whole:
        raise UserError(file, "none of its points has columns x and y")
    for owner, point in places.keys() - whole.keys():
        findings.add("columns", f"{owner or 'point'} {point!r} lacks x or y; left out", str(file))
    return whole


def _filled(
    file: Path,
    body: Sequence[tuple[int, list[str]]],
    width: int,
    first: int,
    places: dict[tuple[str, str], dict[str, int]],
    findings: Findings,
) -> Table:
    # As pandas reads them: a row may end after its name.
    ended = [len(row) < width and not any(row[first:]) and bool(Path("/".join(row)).suffix) for _, row in body]
    if any(ended):
        findings.note(f"{sum(ended)} rows end before their last column: no point is labelled in their images")
    body = [
        (number, row + [""] * (width - len(row)) if short else row)
        for (number, row), short in zip(body, ended, strict=True)
    ]
    sound = [(number, row) for number, row in body if len(row) == width and any(row[:first])]
    for number, row in body:
        if len(row) != width:
            findings.add(f"line {number}", f"{len(row)} cells, expected {width}; left out", str(file))
        elif not any(row[:first]):
            findings.add(f"line {number}", "names no image; left out", str(file))
    values, usable = _numbers(sound, first, width, file, findings)
    sound = [sound[row] for row in usable]
    names = ["/".join(cell.strip() for cell in row[:first] if cell.strip()) for _, row in sound]
    return _table(file, names, values, first, places)


def _table(
    file: Path,
    names: list[str],
    values: np.ndarray,
    first: int,
    places: Mapping[tuple[str, str], Mapping[str, int]],
) -> Table:
    """Makes a table of rows' names and values [n, cells], whose first is column `first`."""
    if names and all(re.fullmatch(r"\d{1,9}", name) for name in names):
        raise UserError(
            file, "its rows are numbered, not named; expected labels, with the path of an image in each row"
        )
    individuals = tuple(dict.fromkeys(owner for owner, _ in places))
    points = tuple(dict.fromkeys(point for _, point in places))
    xy = np.full((len(names), len(individuals), len(points), 2), np.nan)
    for (owner, point), place in places.items():
        columns = values[:, [place["x"] - first, place["y"] - first]]
        xy[:, individuals.index(owner), points.index(point)] = columns
    xy[np.isnan(xy).any(-1)] = np.nan
    return Table(names, individuals, points, tuple(places), xy)


def _numbers(
    body: Sequence[tuple[int, list[str]]], first: int, width: int, file: Path, findings: Findings
) -> tuple[np.ndarray, list[int]]:
    """[n, cells] of the rows whose cells are numbers, NaN where empty, and which rows these are."""
    try:  # all at once, which a hundred thousand rows need
        flat = numbers([cell or "nan" for _, row in body for cell in row[first:]])
        return flat.reshape(-1, width - first), list(range(len(body)))
    except ValueError:
        pass
    cells = [["nan" if cell.strip().lower() in csv_rows.MISSING else cell for cell in row[first:]] for _, row in body]
    sound, usable = [], []
    for place, row in enumerate(cells):
        try:
            sound.append(numbers(row))
            usable.append(place)
        except ValueError as error:
            findings.add(f"line {body[place][0]}", f"{error}; left out", str(file))
    return np.array(sound).reshape(-1, width - first), usable


@dataclass(frozen=True)
class Project:
    """What a project's settings say of its points; empty where a table comes without."""

    points: tuple[str, ...] = ()  # in the order that is wanted
    edges: tuple[tuple[str, str], ...] = ()
    candidates: tuple[Path, ...] = ()  # folders below which the images may be


def instances_of(
    root: Path,
    files: Sequence[Path],
    images: Path | None,
    category: str | None,
    findings: Findings,
    project: Project | None = None,
) -> Instances:
    """Reads tables as instances: one for each individual that has a point in an image.

    Where animals and unique points are labelled, `category` is "single" for these, else the animals are meant."""
    project = project or Project()
    tables = [read(file, findings) for file in files]
    owners = _owners(tables, category, root, findings)
    there = dict.fromkeys(point for table in tables for owner, point in table.columns if owner in owners)
    points = [name for name in project.points if name in there]
    points += [name for name in there if name not in points]
    named = [name for name in dict.fromkeys(name for table in tables for name in table.individuals) if name in owners]
    xy, rows, tracks, names = [], [], [], []
    for table in tables:
        own = [i for i, name in enumerate(table.individuals) if name in owners]
        places = {name: i for i, name in enumerate(table.points)}
        column = np.full((len(table.names), len(own), len(points), 2), np.nan)
        known = [i for i, name in enumerate(points) if name in places]
        column[:, :, known] = table.xy[:, own][:, :, [places[points[i]] for i in known]]
        row, animal = np.nonzero(~np.isnan(column).all((2, 3)))
        xy.append(column[row, animal])
        rows.append(row + len(names))
        tracks.append(np.array([named.index(table.individuals[i]) for i in own])[animal])
        names += table.names
    joined = np.concatenate(xy)
    keypoints = np.concatenate([joined, np.where(np.isnan(joined[..., :1]), 0.0, 2.0)], -1)
    pairs = [(points.index(a), points.index(b)) for a, b in project.edges if a in points and b in points]
    skeleton, notes = skeletons.complete(category or "animal", points, where=str(root), edges=tuple(pairs))
    findings.note(*notes)
    folders = (
        [images] if images else [*project.candidates, *(folder for folder in dict.fromkeys(f.parent for f in files))]
    )
    pictures = located(names, folders, files[0], findings)
    track = np.concatenate(tracks) if len(named) > 1 else None
    return checking.in_columns(keypoints, np.concatenate(rows), skeleton, pictures, str(root), track=track)


def _owners(tables: Sequence[Table], category: str | None, root: Path, findings: Findings) -> set[str]:
    """The individuals whose points are read."""
    every = dict.fromkeys(name for table in tables for name in table.individuals)
    animals = {name for name in every if name != SINGLE}
    if SINGLE not in every or not animals:
        return set(every)
    known = {SINGLE: {SINGLE}, ANIMALS: animals}
    if category is not None and category not in known:
        raise UserError(root, f"no category {category!r}.{did_you_mean(category, known)}")
    if category is None:
        own = sum(
            int((~np.isnan(t.xy[:, t.individuals.index(SINGLE)])).any((1, 2)).sum())
            for t in tables
            if SINGLE in t.individuals
        )
        findings.note(
            f"its unique points, which belong to no animal, are left out in {own} images: read them with --category "
            f"{SINGLE}, both with --category {ANIMALS},{SINGLE}"
        )
    return known[category or ANIMALS]


def write(file: Path, images: Sequence[str], labels: Sequence[tuple[Instances, Sequence[int]]], animals: int) -> None:
    """Writes a table: of each image its path, in three columns as napari has it, and some rows of instances.

    `animals`: above 1, for individual1 and so on, in the order of the rows; 1: of the first row alone."""
    points = labels[0][0].skeleton.points
    individuals = [f"individual{i + 1}" for i in range(animals)]
    heads = {
        "scorer": [SCORER] * animals * len(points) * 2,
        "individuals": [animal for animal in individuals for _ in points for _ in "xy"],
        "bodyparts": [point for _ in individuals for point in points for _ in "xy"],
        "coords": ["x", "y"] * animals * len(points),
    }
    if animals == 1:
        del heads["individuals"]
    lines = []
    for name, (instances, rows) in zip(images, labels, strict=True):
        folder, _, last = name.rpartition("/")
        cells = [LABELS, folder.removeprefix(LABELS).strip("/"), last]
        for row in rows[:animals]:
            labelled = instances.visibility[row] > 0
            for (x, y), there in zip(instances.xy[row].tolist(), labelled.tolist(), strict=True):
                cells += [f"{x:.4f}", f"{y:.4f}"] if there else ["", ""]
        lines.append(cells + [""] * (3 + 2 * animals * len(points) - len(cells)))
    csv_rows.write(file, [*([head, "", "", *cells] for head, cells in heads.items()), *lines])
