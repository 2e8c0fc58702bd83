"""SLEAP's files (.slp, .pkg.slp): HDF5 with tables of frames, instances and points, and JSON about the rest.

Since format 1.1 a whole number is the centre of a pixel, as here; older files count from the pixel's corner, half a pixel
more. Described by SLEAP's `io/format/hdf5.py` and sleap-io's `io/slp.py` (Pereira et al., Nature Methods 2022)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import trial
from fiducial.data import hdf5
from fiducial.errors import UserError, shown
from fiducial.types import Pairs

MID_PIXEL = 1.1  # the format from which on whole numbers are centres
NEWEST = 3.0  # formats from here on may have another layout
FORMAT = 1.2  # that is written
USER, PREDICTED = 0, 1
MOST_POINTS = 10_000
BODY, SYMMETRY = 1, 2  # kinds of a link


@dataclass(frozen=True, kw_only=True)
class Sled:
    """A skeleton of a file."""

    name: str
    points: tuple[str, ...]
    edges: Pairs
    symmetries: Pairs


@dataclass(frozen=True, kw_only=True)
class Content:
    """The labels of a file. f frames, n instances, all of one table; points are looked up by `keypoints`."""

    skeletons: list[Sled]
    videos: list[dict[str, Any]]  # what the file says of each
    frame: np.ndarray  # [f, 2] int64: video, number
    instance_frame: np.ndarray  # [n] row of frame
    kind: np.ndarray  # [n] USER or PREDICTED
    skeleton: np.ndarray  # [n]
    track: np.ndarray  # [n] who it is, -1 not known
    first: np.ndarray  # [n] row of the first point in the table of its kind
    last: np.ndarray  # [n] one behind the last
    points: dict[int, np.ndarray]  # by kind: [m, 3] x, y px, visible; NaN where nobody set the point

    def keypoints(self, rows: np.ndarray, kind: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Gives [rows, count, 3] of instances of one kind, NaN where their points are not in the table, and which these are."""
        first, last, table = self.first[rows], self.last[rows], self.points[kind]
        broken = (first < 0) | (last - first != count) | (last > len(table))
        places = np.where(broken[:, None], 0, first[:, None] + np.arange(count))
        found = table[places] if len(table) else np.full((len(rows), count, 3), np.nan)
        found[broken] = np.nan
        return found, broken


def is_one(file: Path) -> bool:
    """Tells by name and first bytes whether a file is one of SLEAP's."""
    return file.suffix.lower() == ".slp" and hdf5.is_one(file)


def opened(file: Path) -> AbstractContextManager[Any]:
    """Opens a file that has passed its trial. What is damaged in it is a UserError."""
    return hdf5.opened(file, "file of SLEAP's")


def read(file: Path) -> Content:
    """Reads a file's labels, in a process of its own first: a damaged HDF5 file may crash or hang its library."""
    hdf5.library()
    trial.passes(f"{__name__}:read_once", str(file), [file])
    return _read(file)


def read_once(file: str) -> Iterator[Any]:
    """Reads a file: the task of its trial."""
    _read(Path(file))
    yield "read"


def _read(file: Path) -> Content:
    with opened(file) as content:
        about = content["metadata"].attrs
        version = float(about.get("format_id", 1.0))
        if not version < NEWEST:
            raise UserError(
                file, f"has format {version:g}, known are those below {NEWEST:g}; save it by an older SLEAP"
            )
        frames, instances = _table(content, "frames"), _table(content, "instances")
        start, end = (_whole(frames[f"instance_id_{name}"]) for name in ("start", "end"))
        if ((end < start) | (start < 0) | (end > len(instances))).any():
            raise UserError(file, "its frames refer to instances that are not there; save it again")
        owned = np.repeat(np.arange(len(frames)), end - start)
        order = np.concatenate([np.arange(a, b) for a, b in zip(start, end, strict=True)] or [np.zeros(0, np.int64)])
        own = instances[order.astype(np.int64)]
        shift = 0.0 if version >= MID_PIXEL else 0.5
        described = json.loads(hdf5.text_of(about["json"]))
        return Content(
            skeletons=_skeletons(described, file),
            videos=_videos(content, described),
            frame=np.stack([_whole(frames["video"]), _whole(frames["frame_idx"])], 1).reshape(-1, 2),
            instance_frame=owned,
            kind=_whole(own["instance_type"]),
            skeleton=_whole(own["skeleton"]),
            track=_whole(own["track"]) if "track" in (own.dtype.names or ()) else np.full(len(own), -1),
            first=_whole(own["point_id_start"]),
            last=_whole(own["point_id_end"]),
            points={USER: _points(content, "points", shift), PREDICTED: _points(content, "pred_points", shift)},
        )


def _table(content: Any, name: str) -> np.ndarray:
    table = content[name][()]
    if table.dtype.names is None and len(table):
        raise ValueError(f"{name} is no table")
    return table


def _whole(column: np.ndarray) -> np.ndarray:
    """Numbers as int64; -1 for what can be none."""
    if column.dtype.kind not in "iufb":
        raise ValueError("a column holds no numbers")
    values = column.astype(np.float64)
    return np.where(np.isfinite(values) & (np.abs(values) < 2**52), values, -1).astype(np.int64)


def _points(content: Any, name: str, shift: float) -> np.ndarray:
    if name not in content or content[name].shape[:1] == (0,):
        return np.zeros((0, 3))
    table = _table(content, name)
    xy = np.stack([table["x"], table["y"]], 1).astype(np.float64) - shift  # to whole numbers at centres
    return np.concatenate([xy, table["visible"].astype(np.float64)[:, None]], 1)


def _videos(content: Any, described: dict[str, Any]) -> list[dict[str, Any]]:
    if "videos_json" in content and len(content["videos_json"]):
        listed = [json.loads(hdf5.text_of(line)) for line in content["videos_json"][()].tolist()]
    else:
        listed = described.get("videos") or []
    return [video if isinstance(video, dict) else {} for video in listed]


def _skeletons(described: dict[str, Any], file: Path) -> list[Sled]:
    nodes = described.get("nodes")
    listed = described.get("skeletons")
    if not isinstance(nodes, list) or not isinstance(listed, list):
        raise UserError(file, "describes no skeletons; save it again")
    names = [node.get("name") if isinstance(node, dict) else node for node in nodes]
    return [_skeleton(skeleton, names, file) for skeleton in listed]


def _skeleton(described: Any, names: list[Any], file: Path) -> Sled:
    """A skeleton as jsonpickle wrote it: kinds of links are written out once, and then referred to by their number."""
    try:
        numbers = [int(node["id"]) for node in described["nodes"]]
        points = tuple(str(names[number]) for number in numbers)
        place = {number: i for i, number in enumerate(numbers)}
        kinds: list[int] = []
        edges: list[tuple[int, int, int]] = []
        symmetries = []
        for link in described.get("links", ()):
            kind = link["type"]
            if "py/id" in kind:
                number = kinds[int(kind["py/id"]) - 1]
            else:
                number = int(kind["py/reduce"][1]["py/tuple"][0])
                kinds.append(number)
            pair = (place[int(link["source"])], place[int(link["target"])])
            if number == BODY:
                edges.append((int(link.get("edge_insert_idx") or 0), *pair))
            else:
                symmetries.append((min(pair), max(pair)))
        name = described.get("graph", {}).get("name") or "Skeleton"
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(file, f"describes a skeleton in a way that is not known: {shown(described)}") from error
    if not 0 < len(points) <= MOST_POINTS or len(set(points)) != len(points):
        raise UserError(file, f"has a skeleton of {len(points)} points, not each of a name of its own")
    return Sled(
        name=str(name),
        points=points,
        edges=tuple((a, b) for _, a, b in sorted(edges)),
        symmetries=tuple(dict.fromkeys(symmetries)),
    )
