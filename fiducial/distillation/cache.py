"""The teacher's answers to all plain crops, asked for once and kept on disk:

    RUN/teacher/train, RUN/teacher/val      rows.npy, xy_unit.npy, jacobian.npy (float32), maps.npy, feature.npy (float16)
    RUN/teacher/*/index.json                whose answers to what; written last

A folder with an index is complete. It is used again by the run that made it and by any other with the same teacher and
the same crops; answers of another teacher, or to other crops, are refused."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from fiducial import config, files
from fiducial.distillation.signals import Signals
from fiducial.distillation.teacher import Asked
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.models import heatmaps
from fiducial.progress import Advance
from fiducial.progress import progress as show_progress
from fiducial.types import Batch

INDEX = "index.json"
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Index:
    """Describes what lies in a folder of answers."""

    teacher: str  # fingerprint
    data: str  # fingerprint of the crops' source
    size: Size  # of the crops, the teacher's own
    padding: float
    count: int
    held: tuple[str, ...]  # fields of Signals
    level: int | None  # of the backbone, whose map `feature` is


class KeptAnswers:
    """Looks up answers by `batch.row`. Maps are normalised again after their rounding to float16."""

    def __init__(self, folder: Path, wanted: tuple[str, ...]) -> None:
        self.rows = _array(folder / "rows.npy")
        self.columns = {name: _array(folder / f"{name}.npy", mmap_mode="r") for name in wanted}
        for name, column in self.columns.items():
            if self.rows.ndim != 1 or column.shape[:1] != self.rows.shape:
                raise UserError(folder / f"{name}.npy", f"is not whole; remove the folder {folder}, it is made anew")

    def __deepcopy__(self, memo: Any) -> KeptAnswers:
        return self  # read only, and a copy would take the files into memory

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Signals:
        rows = batch.row.cpu().numpy()
        places = np.searchsorted(self.rows, rows)
        assert (self.rows[places.clip(max=len(self.rows) - 1)] == rows).all(), "a crop that the teacher was not asked"

        def column(name: str) -> Tensor:
            values = torch.from_numpy(np.ascontiguousarray(self.columns[name][places])).float()
            return values.to(batch.row.device, non_blocking=True)

        signals = {name: column(name) for name in self.columns}
        if "maps" in signals:
            signals["maps"] = heatmaps.normalised(signals["maps"])
        return Signals(**signals)


def _array(path: Path, **options: Any) -> np.ndarray:
    """Reads an array of numbers, or maps it. UserError where the file is damaged or gone."""
    try:
        with files.ours(path):
            array = np.load(path, **options)
    except (UserError, OSError) as error:
        raise UserError(f"{error}; remove the folder {path.parent}, it is made anew") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise UserError(path, f"holds no numbers; remove the folder {path.parent}, it is made anew")
    return array


def kept_answers(
    folder: Path, asked: Asked, wanted: Index, crops: Callable[[], Iterable[Batch]], *, progress: bool = False
) -> KeptAnswers:
    """Opens the answers in `folder`, which are asked for and written there where it is not there yet.

    `crops` gives all crops once, rows rising. Raises UserError for answers of another teacher or to other crops."""
    if (folder / INDEX).exists():
        _refuse_other(folder, config.from_dict(Index, files.read_json(folder / INDEX), str(folder / INDEX)), wanted)
    else:
        _make(folder, asked, wanted, crops(), progress)
    return KeptAnswers(folder, wanted.held)


def _refuse_other(folder: Path, there: Index, wanted: Index) -> None:
    """More than is wanted may be there."""
    names = {"teacher": "teacher's weights", "data": "data", "size": "teacher's size", "padding": "padding"}
    differing = [
        f"the {word} were {getattr(there, name)} and are now {getattr(wanted, name)}"
        for name, word in names.items()
        if getattr(there, name) != getattr(wanted, name)
    ]
    lacking = [name for name in wanted.held if name not in there.held]
    if "feature" in wanted.held and there.level != wanted.level:
        differing.append(f"the attention's level was {there.level} and is now {wanted.level}")
    if lacking and not differing:
        differing.append(f"it has no {' and '.join(lacking)}, which this loss needs")
    if differing:
        raise UserError(
            f"{folder}: holds answers of a teacher to other crops: {'; '.join(differing)}. Give another --out, or remove "
            "that folder"
        )


def _make(folder: Path, asked: Asked, wanted: Index, crops: Iterable[Batch], progress: bool) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        text = f"asking the teacher about {folder.name}"
        with show_progress(text, wanted.count, "crops", bar=progress) as advance:
            rows = _write(beside, asked, wanted, crops, advance)
        np.save(beside / "rows.npy", np.concatenate(rows))
        config.write_json(beside / INDEX, wanted)
        beside.chmod(0o755)
        if folder.exists():  # without an index: of a run that was ended while it was copied
            shutil.rmtree(folder)
        beside.replace(folder)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write(folder: Path, asked: Asked, wanted: Index, crops: Iterable[Batch], advance: Advance) -> list[np.ndarray]:
    """One file a field, filled batch by batch; the rows in the order in which they came."""
    columns: dict[str, BinaryIO] = {}
    rows: list[np.ndarray] = []
    with ExitStack() as opened:
        for batch in crops:
            answers = {name: signal for name, signal in asked(batch)._asdict().items() if name in wanted.held}
            if not columns:
                _refuse_too_large(folder, answers, wanted.count)
            for name, signal in answers.items():
                values, kind = signal.float().cpu().numpy(), np.dtype(_kind(name))
                if name not in columns:
                    columns[name] = opened.enter_context((folder / f"{name}.npy").open("wb"))
                    about = {"descr": kind.str, "fortran_order": False, "shape": (wanted.count, *values.shape[1:])}
                    np.lib.format.write_array_header_1_0(columns[name], about)
                # Not by way of a memory map: a disk that is full by now would end the process.
                columns[name].write(values.clip(-LARGEST, LARGEST).astype(kind).tobytes())
            rows.append(batch.row.cpu().numpy())
            advance(len(batch.row))
    return rows


def _kind(name: str) -> type[np.floating]:
    """Maps are large and need few digits."""
    return np.float16 if name in ("maps", "feature") else np.float32


def _refuse_too_large(folder: Path, first: dict[str, Tensor], count: int) -> None:
    a_crop = sum(signal[0].numel() * np.dtype(_kind(name)).itemsize for name, signal in first.items())
    needed, free = count * a_crop, shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise UserError(
            f"{folder.parent}: the teacher's answers to {count} crops need {needed / 2**30:.1f} GiB and there are "
            f"{free / 2**30:.1f}: give --out on another disk, or --set distillation.cache=false"
        )
    if needed > 2**28:
        logger.info(f"the teacher's answers to {count} crops take {needed / 2**20:.0f} MiB in {folder.parent}")
