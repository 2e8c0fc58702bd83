"""A detector's contract for whole images: full image + boxes in, Keypoints in px of that image out, in any runtime.

One file in `runtimes/` = one runtime; it is found there. Nothing here imports torch: only the file of the runtime that a
model needs is imported, and only it knows its library."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np

from fiducial import files, trial
from fiducial.card import Card
from fiducial.data import crops
from fiducial.errors import BadAnswer, UserError, did_you_mean, nothing_at
from fiducial.runtime import batch, bundled, finder_file, point_map, runtimes
from fiducial.runtime.batch import Crops
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.finder import Finder, finder_of, kinds_of
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


@runtime_checkable
class ReadsFiles(Protocol):
    """A network of a runtime that decodes pictures itself, as a page in a browser does."""

    def look(self, picture: bytes, boxes_xywh: np.ndarray | None = None) -> Keypoints:
        """Finds the points of a picture's file, in px of the upright picture; boxes as of `Runtime`."""
        ...

    def close(self) -> None:
        """Ends the program that it runs in."""
        ...


class Family(Protocol):
    """What a file in `runtimes/` offers; nothing else must be edited for a new one.

    What needs torch, or rooms above this one, is named by text, `module:function`, as packages name their commands, and
    imported when it is asked for (`offered`). One file may hold all of it: `EXPORT = f"{__name__}:write"`."""

    NAME: str  # for `--runtime`; also that of its package, whose version is told
    TITLE: str  # as people know it
    TARGET: str | None  # for `--to`; None: Fiducial exports no files for it
    FILES: tuple[str, ...]  # endings of a model's files; the first is the one that is loaded; none: it runs run folders
    EXPORT: str | None  # write(detector, card, folder, *, crop, decode) -> Made
    # PACK, which may be missing: pack(made, folder) -> Made, what is made of a written file once its finder is in it. Such a
    # target takes exported ONNX files, too.
    # LACKS, which may be missing: lacks() -> what is to be done before this machine can run such files, None where it can.
    # FINISH, which may be missing: finish(file, exporting.recorded.Recorded) -> what is to be done on a machine that can; it
    # writes beside the file what that takes.
    # START_SECONDS, which may be missing: of CPU that its library takes to start, which a trial allows on top.
    # SANDBOXED, which may be missing: True = strangers' files do no harm there, so that they need no trial.
    LAYERS: str | None  # measure(network, threads, seconds) -> profiling.parts.Measured; None: can't be profiled
    INT8: str | None  # exporting.int8.quantizer.Quantizer of (detector, card, crops, *, crop, decode); None: no int8
    # HALF, which may be missing: the same where there is half precision alone.

    def matches(self, path: Path) -> bool:
        """Whether this is a model of this runtime, by its name, its neighbours and, where others' files end so, too, a mark
        in it; the file may be broken."""
        ...

    def load(self, path: Path, threads: int | None = None, flip_test: bool = False) -> Network:
        """`threads`: None = the library's own choice. UserError for what can't be loaded."""
        ...


class Runtime:
    """A loaded model that answers in px of the image it is given. Where it has a finder, or is given one, it finds the
    instances itself; `min_score`: of those that count [the finder's own choice]. `threads` cut several crops out of an
    image side by side; None = as many as there are cores."""

    def __init__(
        self, network: Network, finder: Finder | None = None, min_score: float | None = None, threads: int | None = 1
    ) -> None:
        self.network, self.card, self.threads = network, network.card, threads or files.cores()
        self.skeleton = network.card.spec.skeleton
        self.finder, self.min_score = finder, min_score
        # The number among the skeleton's kinds of each kind that the finder finds; None where it tells none apart.
        self.kinds = None if finder is None else kinds_of(finder, self.skeleton)

    def __call__(self, image: np.ndarray, boxes: np.ndarray | None = None) -> Keypoints:
        """Finds the points in an image: uint8 RGB [h, w, 3] and boxes [n, 4] xywh px -> xy [n, k, 2] px of the image.
        Without boxes in those that the finder finds, perhaps none; without a finder in the whole image.

        Crops are cut outside of the network, by OpenCV: the formula is the same that exported files have inside, and
        here it is quicker. All boxes go through the network together. Several threads may ask at a time."""
        cut = self._cut(image, boxes)
        return replace(cut.on_image(self._answer(cut.image)), skeleton=self.skeleton)

    def batch(self, images: Sequence[Any], boxes: Sequence[Any] | None = None) -> list[Keypoints]:
        """Finds the points in many images, as a loop over them would, but quicker: images are read and cut out beside the
        network, and several crops go through it together.

        images: arrays as for one image, of any sizes, or paths; boxes: for each image [n, 4], or None = as for one image.
        Raises UserError that names the image by its place."""
        found = batch.keypoints_of(self._answer, self._cut, images, boxes)
        return [replace(points, skeleton=self.skeleton) for points in found]

    def _answer(self, crop: np.ndarray) -> Keypoints:
        points = self.network.predict(crop)
        if not (np.isfinite(points.xy).all() and np.isfinite(points.score).all()):
            raise BadAnswer(self.network.path, "gives numbers that are not finite: its weights are damaged")
        return replace(points, spread=self.card.spec.spread)

    def _cut(self, image: np.ndarray, boxes: Any) -> Crops:
        spec, score, kind, where = self.card.spec, None, None, boxes
        if boxes is None and self.finder is not None:
            found = self.finder(image, self.min_score)
            where, score = found.box_xywh, found.score
            kind = None if self.kinds is None else self.kinds[found.kind]
        several = where is not None and np.size(where) > 4
        each = self._pool.map if several and self.threads > 1 else map
        cut, image_to_crop = crops.cut(image, where, spec.size, spec.padding, each)
        box_xywh = None if where is None else crops.checked_boxes(image, where, 1.0)[0]
        return Crops(cut, image_to_crop, box_xywh, score, kind)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="fiducial-cuts")


def families() -> list[Family]:
    """Imports the files in `runtimes/`, which imports no runtime's library: the base install's first, torch last."""
    names = [each.name for each in pkgutil.iter_modules(runtimes.__path__) if not each.name.startswith("_")]
    found: list[Any] = [importlib.import_module(f"{runtimes.__name__}.{name}") for name in names]
    return sorted(found, key=lambda family: (family.TARGET is None, family.NAME != "onnxruntime", family.NAME))


def resolved(model: Path) -> Path:
    """Finds the model that a path means: a run folder or a file as it is; of a folder that holds one exported model and
    no run, that model's file; where nothing is there, the file of a model that comes with Fiducial and has that name.
    Raises UserError where there is none, or several are."""
    if (of_package := bundled.file_of(model)) is not None:
        return of_package
    if not model.exists():
        known = ", ".join(f"`{name}`" for name in bundled.names())
        raise nothing_at(model, f"a run folder, an exported model or one that comes along ({known})")
    if not model.is_dir() or (model / "model.safetensors").exists():
        return model
    # Of ncnn's files the decode is an ONNX file, too, but no model.
    parts = {part for file in model.glob("*") if _exported_as(file) for part in files_of(file)[1:]}
    own = [file for file in sorted(model.iterdir()) if not file.name.endswith(finder_file.ENDING)]
    inside = [file for file in own if _exported_as(file) and file not in parts]
    if len(inside) > 1:
        raise UserError(f"{model}: holds {len(inside)} models: {', '.join(file.name for file in inside)}. Name one")
    return inside[0] if inside else model


def family_of(path: Path) -> Family:
    """Whose model a path is: an exported model, by its file or folder, or a run folder (torch). UserError where it is
    none."""
    path = resolved(path)
    found = next((family for family in families() if family.matches(path)), None)
    if found is None and path.is_dir():
        if path.suffix and any(path.name.lower().endswith(family.FILES[:1]) for family in families()):
            raise UserError(path, "is a folder, expected a file of a model; there is none of its kind in it either")
        return named("torch")  # it says what is missing
    if found is None:
        raise UserError(
            f"{path}: not a model that Fiducial can run. Give a run folder, or a file that `fiducial export` made "
            f"({', '.join(f'model{family.FILES[0]} of {family.TITLE}' for family in families() if family.TARGET)}), or another "
            "project's .onnx or .tflite (docs/teachers.md)"
        )
    return found


def is_exported(path: Path) -> bool:
    """Tells whether a model is a file that runs without torch: an exported one, or another project's network."""
    there = path.exists() or bundled.file_of(path) is not None
    return there and bool(family_of(path).FILES)


def files_of(path: Path) -> list[Path]:
    """Lists an exported model's files: the one that is loaded and, where weights, card, decode or a map lie apart, those
    beside it."""
    path = resolved(path)
    stem = path.name.partition(".")[0]
    endings = next((family.FILES[1:] for family in families() if family.matches(path)), ())
    beside = [*(path.with_name(stem + ending) for ending in endings), point_map.beside(path)]
    return [file for part in (path, *(file for file in beside if file.exists())) for file in _files_in(part)]


def _files_in(part: Path) -> list[Path]:
    """The files of a part that is a folder; a part as it is otherwise."""
    return sorted(each for each in part.rglob("*") if each.is_file()) if part.is_dir() else [part]


def offered(family: Family, what: Literal["EXPORT", "PACK", "LACKS", "FINISH", "LAYERS", "INT8", "HALF"]) -> Any:
    """Imports what a runtime's file names under `what`; None where it offers none."""
    reference = getattr(family, what, None)
    if reference is None:
        return None
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def targets(what: Literal["EXPORT", "INT8", "HALF"] = "EXPORT") -> dict[str, Family]:
    """Maps the names for `--to` to the runtimes that can make files, or int8 ones; the base install's first."""
    able = [family for family in families() if family.TARGET and getattr(family, what, None)]
    return {str(family.TARGET): family for family in able}


def titles() -> dict[str, str]:
    """Maps the runtimes' names to what people know them as."""
    return {family.NAME: family.TITLE for family in families()}


def export_of(path: Path) -> ExportCard | None:
    """Reads the card of an exported file; None of what torch runs. UserError where `path` is neither."""
    return cast(Exported, load(path).network).export if is_exported(path) else None


def load(
    path: Path | str,
    flip_test: bool = False,
    threads: int | None = None,
    *,
    finder: Path | str | None = None,
    min_score: float | None = None,
) -> Runtime:
    """Loads the runtime of a run folder or an exported model, by its file or folder.

    finder: a model whose finder is used, or a `.finder.onnx` file [the model's own, where it has one]; "no": none, whole images are looked at.
    min_score: of the instances that count [by the finder].

    An exported file that is not known yet answers once in a process of its own first (`trial.py`): UserError where it
    crashes there, hangs, or gives no points."""
    path = Path(path)
    if is_exported(path) and not flip_test and not _is_safe(path):
        seconds = getattr(family_of(path), "START_SECONDS", 0)
        trial.passes(f"{__name__}:answer_once", str(resolved(path)), files_of(path), seconds)
    if finder is None or str(finder) == "no":
        return opened(path, threads, flip_test, finds=finder is None, min_score=min_score)
    return Runtime(opened(path, threads, flip_test).network, _finder_at(Path(finder), threads), min_score, threads)


def _is_safe(path: Path) -> bool:
    """Tells whether a model needs no trial: it came with the package, or runs where it can do no harm."""
    return bundled.is_ours(resolved(path)) or getattr(family_of(path), "SANDBOXED", False)


def version_of(network: Network) -> str:
    """Names the version of what runs a network: its own word, else that of the runtime's package."""
    return getattr(network, "version", None) or metadata.version(network.runtime)


def _finder_at(path: Path, threads: int | None) -> Finder:
    """The finder of another model, or in a file of its own."""
    if path.name.endswith(finder_file.ENDING) and path.is_file():
        return finder_file.load(path, threads)
    found = load(path, threads=threads).finder
    if found is None:
        raise UserError(path, "has no finder; give a run that was made with one (fiducial fit --finder auto)")
    return found


def opened(
    path: Path,
    threads: int | None = None,
    flip_test: bool = False,
    *,
    finds: bool = True,
    min_score: float | None = None,
) -> Runtime:
    """Loads without a trial what this package has made itself, or what a process of its own reads; `finds`: with its
    finder, where it has one."""
    family = family_of(path)
    network = family.load(resolved(path), threads, flip_test)
    if family.FILES and (mapped := point_map.beside(network.path)).is_file():
        network = point_map.MappedNetwork(network, point_map.read(mapped))
    finder = finder_of(network) if finds else None
    if finds and finder is None and family.FILES:
        finder = finder_file.finder_beside(network.path, threads)
    return Runtime(network, finder, min_score, threads)


def answer_once(path: str) -> Iterator[bool]:
    """Loads an exported file and asks it about one crop of noise: the task of its trial."""
    run = opened(Path(path), threads=1)
    size = run.card.spec.size
    noise = np.random.default_rng(0).integers(0, 256, (1, size.h, size.w, 3), dtype=np.uint8)
    run.network.predict(noise)
    if run.finder is not None:
        run.finder(noise[0])
    yield True


def _exported_as(file: Path) -> Family | None:
    """The runtime whose file this is, by its ending too; None of other files."""
    return next(
        (
            family
            for family in families()
            if family.FILES and file.name.endswith(family.FILES[0]) and family.matches(file)
        ),
        None,
    )


def named(name: str) -> Family:
    """The runtime of a name, for `--to` and `--runtime`."""
    known = {family.NAME: family for family in families()}
    if name not in known:
        raise UserError(f"runtime {name!r}: no such name.{did_you_mean(name, list(known))}")
    return known[name]
