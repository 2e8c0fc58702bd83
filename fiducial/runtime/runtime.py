"""A detector's contract for whole images: full image + boxes in, Keypoints in px of that image out, in any runtime.

One file in `runtimes/` = one runtime; it is found there. Nothing here imports torch: only the file of the runtime that a
model needs is imported, and only it knows its library."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from fiducial import geometry
from fiducial.card import Card
from fiducial.data import crops
from fiducial.errors import UserError, did_you_mean
from fiducial.runtime.export_card import ExportCard
from fiducial.types import Keypoints


class Network(Protocol):
    """What a runtime's file offers for a loaded model: crops in, points on the crops out."""

    card: Card
    runtime: str  # the runtime's name: torch, onnxruntime, openvino, ncnn
    path: Path  # what was loaded

    def predict(self, crops: np.ndarray) -> Keypoints:
        """uint8 RGB crops [n, h, w, 3] of the card's size, n >= 0 -> numpy Keypoints [n, k] in px of the crops."""
        ...


class Exported(Network, Protocol):
    """A network that was loaded from an exported file."""

    export: ExportCard

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """The same through the crop in the file, image and boxes as of `Runtime`, in px of the image; None where the
        file has no crop. For certificates: `Runtime` cuts outside, which is quicker."""
        ...


class Family(Protocol):
    """A file in `runtimes/`."""

    NAME: str

    def matches(self, path: Path) -> bool:
        """Whether this is a model of this runtime, by its name and neighbours alone; the file may be broken."""
        ...

    def load(self, path: Path, threads: int | None = None, flip_test: bool = False) -> Network:
        """`threads`: None = the library's own choice. UserError for what can't be loaded."""
        ...


class Runtime:
    """A loaded model that answers in px of the image it is given."""

    def __init__(self, network: Network) -> None:
        self.network, self.card = network, network.card
        self.skeleton = network.card.spec.skeleton

    def __call__(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        """uint8 RGB [h, w, 3] and boxes [n, 4] (edge frame; None = the whole image) -> xy [n, k, 2] px of image.

        Crops are cut outside of the network, by OpenCV: the formula is the same that exported files have inside, and
        here it is quicker. All boxes go through the network together."""
        spec = self.card.spec
        cut, image_to_crop = crops.cut(image, boxes_xywh, spec.size, spec.padding)
        return self.network.predict(cut).mapped(geometry.invert(image_to_crop))


def families() -> Iterator[Family]:
    """The files in `runtimes/`; importing them imports no runtime's library."""
    for path in sorted((Path(__file__).parent / "runtimes").glob("*.py")):
        if not path.name.startswith("_"):
            yield importlib.import_module(f"fiducial.runtime.runtimes.{path.stem}")  # type: ignore[misc]


def family_of(path: Path) -> Family:
    """Whose model a path is: a file of an exported model, or a run folder (torch). UserError where it is none."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected a run folder or an exported model")
    found = next((family for family in families() if family.matches(path)), None)
    if found is None and path.is_dir():
        return named("torch")  # it says what is missing
    if found is None:
        raise UserError(
            f"{path}: not a model that Fiducial can run. Give a run folder, or a file that `fiducial export` made "
            "(model.onnx, model.xml of OpenVINO, model.ncnn.param)"
        )
    return found


def is_exported(path: Path) -> bool:
    """Whether a model runs without torch."""
    return path.exists() and family_of(path).NAME != "torch"


def export_of(path: Path) -> ExportCard | None:
    """Reads the card of an exported file; None of what torch runs. UserError where `path` is neither."""
    return None if family_of(path).NAME == "torch" else cast(Exported, load(path).network).export


def load(path: Path, flip_test: bool = False, threads: int | None = None) -> Runtime:
    """The runtime of a run folder or an exported model."""
    return Runtime(family_of(path).load(path, threads, flip_test))


def named(name: str) -> Family:
    """The runtime of a name, for `--to` and `--runtime`."""
    known = {family.NAME: family for family in families()}
    if name not in known:
        raise UserError(f"runtime {name!r}: no such name.{did_you_mean(name, list(known))}")
    return known[name]
