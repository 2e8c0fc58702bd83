"""A detector as a LiteRT file: model.tflite, by litert-torch, from the code that runs in torch.

Two signatures share the weights: `points` (uint8 crops in, points out) and `network` (float crops in, the head's raw output
out), which a delegate can take whole."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fiducial.card import Card
from fiducial.data import noise
from fiducial.errors import UserError, first_line
from fiducial.exporting import litert_names, onnx_export
from fiducial.exporting.onnx_export import NotExportable
from fiducial.exporting.phone_parts import NETWORK, POINTS, Points, Raw
from fiducial.log import logger
from fiducial.models.detector import Detector, full_precision
from fiducial.runtime import card_behind
from fiducial.runtime.export_card import Decode, ExportCard, Made, Where
from fiducial.runtime.runtimes import litert_runtime

CONVERTER, VERSION = "litert-torch", "0.10"
# What the converter asks for of typing_extensions is older than what pydantic does; it runs with the newer one.
INSTALL = "pip install 'litert-torch==0.10.0' && pip install 'typing_extensions>=4.16'"
NOTE = (
    "the crop is the runtime package's; signature `points` takes crops of uint8, `network` crops of float32 (0 to 255) and "
    "gives the head's raw output"
)
# Operators that delegates leave to the CPU.
NOT_DELEGATED = {"TOPK_V2", "ARG_MAX", "ARG_MIN", "GATHER", "GATHER_ND", "SCATTER_ND", "WHERE", "WHILE", "IF", "CUMSUM"}


def write(detector: Detector, card: Card, folder: Path, *, crop: Where = "outside", decode: Decode = "own") -> Made:
    """Writes FOLDER/model.tflite; the crop is outside whatever `crop` says (`NOTE`). NotExportable where the converter
    can't, or where `decode` is to be for delegates and has operators that they don't run."""
    return save(*model_of(detector, card, decode=decode), folder)


def model_of(detector: Detector, card: Card, *, decode: Decode = "own") -> tuple[bytes, ExportCard]:
    """The network in memory, its operators named by the modules that they came from, and what is to travel with it."""
    refuse_unfit_converter()
    what = f"{detector.spec.method} on {detector.spec.backbone}"
    crops = torch.from_numpy(onnx_export.example_crops(detector.spec.size))
    with torch.no_grad():
        outputs = onnx_export.columns_of(detector.decode(full_precision(detector(crops))))
    logger.info(f"converting {what} by {CONVERTER}, which takes up to a minute or two")
    with (
        noise.taken(what),
        warnings.catch_warnings(),
        torch.no_grad(),
        onnx_export.nothing_in_place(detector),
        tempfile.TemporaryDirectory() as work,
    ):
        warnings.simplefilter("ignore")  # of its own packages
        litert = converter()
        file = Path(work, "model.tflite")
        try:
            made = (
                litert.signature(POINTS, Points(detector).eval(), sample_kwargs={"crops": crops})
                .signature(NETWORK, Raw(detector).eval(), sample_kwargs={"crops": crops.float()})
                .convert(strict_export=False)
            )
            made.export(str(file))
        except Exception as error:  # of any of its packages
            while error.__cause__ is not None and isinstance(error.__cause__, Exception):
                error = error.__cause__
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise NotExportable(f"{what}: {CONVERTER} can't convert it: {reason}. Use onnx or openvino") from error
        network = litert_names.by_module(file.read_bytes(), detector)
    left = not_delegated(network)
    if left and decode == "matmul":
        raise NotExportable(
            f"--decode matmul: the file of {detector.spec.method} needs {', '.join(left)}; train with a loss whose decoder "
            "is a mean over the whole map (cross_entropy, integral, simcc), or leave --decode out"
        )
    return network, ExportCard(replace(card, spec=detector.spec), litert_runtime.NAME, outputs, "outside", decode)


def save(network: bytes, card: ExportCard, folder: Path) -> Made:
    """Network and card as FOLDER/model.tflite."""
    file = folder / "model.tflite"
    file.write_bytes(network)
    card_behind.append(file, card)
    left = not_delegated(network)
    told = f"delegates leave {', '.join(left)} of the decode to the CPU: --decode matmul, or signature `network`"
    return Made(file, card, (NOTE, told) if left else (NOTE,))


def not_delegated(network: bytes) -> list[str]:
    """Lists the operators of a network that delegates leave to the CPU."""
    return sorted({operator.kind for operator in litert_names.operators_of(network)} & NOT_DELEGATED)


def refuse_unfit_converter() -> None:
    """Raises UserError with the command that installs litert-torch where it is missing or of another version."""
    try:
        version = metadata.version(CONVERTER)
    except metadata.PackageNotFoundError as error:
        raise UserError(f"{CONVERTER} is not installed: {INSTALL}") from error
    if version.rpartition(".")[0] != VERSION:
        raise UserError(f"{CONVERTER} {version}: expected {VERSION}. {INSTALL}")
    litert_runtime.library()


def converter() -> Any:
    """Imports litert-torch, without its progress. UserError where one of its packages is missing."""
    try:
        import litert_torch  # type: ignore[import-not-found]
    except ImportError as error:
        raise UserError(f"{CONVERTER} can't be imported: {first_line(error)}. {INSTALL}") from error
    litert_torch.config.show_progress = False
    return litert_torch
