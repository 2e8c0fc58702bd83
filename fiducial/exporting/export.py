"""`fiducial export`: a run folder becomes one file of another runtime, with its certificate; or nothing is written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fiducial import config, files, folders
from fiducial.card import Card
from fiducial.data import annotations
from fiducial.errors import UserError, did_you_mean
from fiducial.exporting import certificate, finder_export
from fiducial.exporting.certificate import Certificate
from fiducial.log import logger
from fiducial.models.detector import Detector
from fiducial.runtime import runtime
from fiducial.runtime.export_card import Decode, Made, Where
from fiducial.runtime.finder import finder_of
from fiducial.runtime.runtime import Runtime
from fiducial.runtime.runtimes import onnx_runtime
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork
from fiducial.types import Skeleton


def export_model(
    model: Path,
    to: str,
    out: Path,
    *,
    data: Path | None = None,
    crop: Where = "inside",
    decode: Decode = "own",
    int8: Path | None = None,
    max_drop: float = 0.01,
) -> tuple[Path, Certificate]:
    """Writes OUT/model.* and OUT/model.certificate.json; the file's path and the certificate.

    `data`: labelled pictures for the certificate; None = those that the run was last scored on, where they are still
    there, else drawn faces. All is made in a folder beside and moved when the certificate holds; a file of an earlier
    export is replaced then.

    `int8`: data to try 8-bit whole numbers with; they are taken where they are faster and NME rises by at most the share
    `max_drop` of itself (OUT/model.int8.json says why or why not)."""
    _check_target(to)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file, expected a folder")
    if runtime.is_exported(model) and runtime.offered(runtime.targets()[to], "PACK") is not None:
        return _pack_exported(model, to, out, data, whole=(crop, decode, int8) == ("inside", "own", None))
    detector, card = load_detector(model)
    if decode == "matmul":
        detector = delegated(detector)
    finder = finder_export.of_run(model)
    network = TorchNetwork(detector, card, model, finder=None if finder is None else finder[0])
    torch_side = Runtime(network, finder_of(network))
    data = data or int8 or scored_on(model, detector.spec.skeleton)
    with folders.alone(out), staging(out) as folder:
        logger.info(f"exporting {model} to {to}; licence of the weights: {card.terms}")
        if int8 is None:
            made = write(detector, card, to, folder, crop=crop, decode=decode, finder=finder)
        else:
            from fiducial.exporting.int8 import decide

            made, _ = decide.export(detector, card, to, folder, data=int8, max_drop=max_drop, crop=crop, decode=decode)
            made = _finished(made, to, folder, finder)
        return _certified(torch_side, made, folder, out, data)


def _pack_exported(model: Path, to: str, out: Path, data: Path | None, *, whole: bool) -> tuple[Path, Certificate]:
    """Packs an exported ONNX file for a target that is made of one; it is compared with that file as ONNX Runtime runs it.
    `whole`: nothing else is asked for than what such a file is."""
    source = runtime.load(model)
    path, made = source.network.path, getattr(source.network, "export", None)
    if made is None or made.runtime != onnx_runtime.NAME or made.crop != "inside":
        raise UserError(
            path, f"--to {to} takes run folders, and files of `fiducial export --to onnx` that take whole pictures"
        )
    if not whole:
        raise UserError(path, "is exported already: --crop, --decode and --int8 are for run folders")
    with folders.alone(out), staging(out) as folder:
        logger.info(f"exporting {model} to {to}; licence of the weights: {source.card.terms}")
        whole_file = finder_export.joined_with_beside(Made(path, made), folder)
        return _certified(source, _finished(whole_file, to, folder, None), folder, out, data)


def _certified(reference: Runtime, made: Made, folder: Path, out: Path, data: Path | None) -> tuple[Path, Certificate]:
    """Compares what was written into `folder`, and moves it to `out` where the certificate holds."""
    for note in made.notes:
        logger.warning(note)
    logger.info(f"comparing the file with {reference.network.runtime}, in a process of its own")
    proof = certificate.certify(reference, made.file, made.card, data, made.notes)
    if proof.not_run is not None:
        logger.warning(f"the file is not certified: {proof.not_run}")
    config.write_json(folder / "model.certificate.json", proof)
    move(folder, out)
    return out / made.file.name, proof


def write(
    detector: Detector,
    card: Card,
    to: str,
    folder: Path,
    *,
    crop: Where,
    decode: Decode,
    finder: tuple[Detector, Card] | None = None,
) -> Made:
    """Writes the files of one target into `folder`; they are not compared with torch yet."""
    _check_target(to)
    made = runtime.offered(runtime.targets()[to], "EXPORT")(detector, card, folder, crop=crop, decode=decode)
    return _finished(made, to, folder, finder)


def _finished(made: Made, to: str, folder: Path, finder: tuple[Detector, Card] | None) -> Made:
    """Adds the finder, and packs the file where its target wants it packed."""
    if finder is not None:
        made = finder_export.added(made, *finder)
    pack = runtime.offered(runtime.targets()[to], "PACK")
    return made if pack is None else pack(made, folder)


def _check_target(to: str) -> None:
    targets = runtime.targets()
    if to not in targets:
        raise UserError(f"--to {to!r}: no such target.{did_you_mean(to, targets)}")


def load_detector(model: Path) -> tuple[Detector, Card]:
    """The detector of a run folder, on the CPU, its arithmetic in the plain order: what is exported."""
    import torch

    from fiducial.models import detector as detectors

    if runtime.is_exported(model):
        raise UserError(f"{model}: is exported already, or another project's; give the run folder of a detector")
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are filled
        return detectors.load(model)


def delegated(detector: Detector) -> Detector:
    """The same weights, read by softmax and products: the method's decoder `square` or `soft` where it has several."""
    from fiducial.models import detector as detectors

    head = detector.spec.head
    if head.get("decoder", "square") in ("square", "soft"):
        return detector
    try:
        spec = replace(detector.spec, head={**head, "decoder": "square"})
        other = detectors.build(spec)
    except UserError as error:
        raise UserError(f"--decode matmul: method {detector.spec.method} has no such decoder: {error}") from error
    other.load_state_dict(detector.state_dict())
    return other.eval()


def scored_on(model: Path, skeleton: Skeleton) -> Path | None:
    """Finds the data on which RUN/metrics.json was measured, to compare the exported file there.

    None where the data have moved, have no boxes (videos), or lack labels of these points (a student's may be its
    teacher's). Points that were learnt without labels need boxes alone."""
    path = model / "metrics.json"
    if not path.exists():
        return None
    named = files.read_object(path).get("data")
    named = (
        named.split(" + ")[0] if isinstance(named, str) and not os.path.exists(named) else named
    )  # of several, the first
    if not isinstance(named, str) or not os.path.exists(named):
        return None
    fits = "nme" in files.read_part(path, "metrics") or not skeleton.named
    return Path(named) if fits and annotations.is_labelled(Path(named)) else None


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder beside OUT that is gone afterwards, whatever happens; UserError where none can be made."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"--out {out}: can't be written: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move(folder: Path, out: Path) -> None:
    """All files of `folder` into `out`; those of equal names are replaced."""
    out.mkdir(exist_ok=True)
    for file in sorted(folder.iterdir()):
        if file.is_dir():  # of a target whose files are folders
            shutil.rmtree(out / file.name, ignore_errors=True)
        file.replace(out / file.name)
