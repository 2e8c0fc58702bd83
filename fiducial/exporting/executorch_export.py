"""A detector as an ExecuTorch program: model.pte, by XNNPACK where that has the operators.

Two methods share the weights: `forward` (uint8 crops in, points out) and `network` (float crops in, the head's raw output
out)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fiducial.card import Card
from fiducial.data import noise
from fiducial.errors import first_line
from fiducial.exporting import onnx_export
from fiducial.exporting.onnx_export import NotExportable
from fiducial.exporting.phone_parts import NETWORK, InOrder, Points, Raw
from fiducial.log import logger
from fiducial.models.detector import Detector, full_precision
from fiducial.runtime import card_behind
from fiducial.runtime.export_card import Decode, ExportCard, Made, Where
from fiducial.runtime.runtimes import executorch_runtime

NOTE = "the crop is the runtime package's, and running the file from Python needs torch; on a phone it does not"


def write(detector: Detector, card: Card, folder: Path, *, crop: Where = "outside", decode: Decode = "own") -> Made:
    """Writes FOLDER/model.pte; the crop is outside whatever `crop` says (`NOTE`). NotExportable where ExecuTorch can't
    convert the detector."""
    about = card_of(detector, card, decode=decode)
    with noise.taken(name_of(detector)), torch.no_grad(), onnx_export.nothing_in_place(detector):
        traced = {name: torch.export.export(part, given) for name, (part, given) in methods_of(detector).items()}
    return save(lowered(traced, name_of(detector)), about, folder)


def card_of(detector: Detector, card: Card, *, decode: Decode = "own") -> ExportCard:
    """Makes what travels with a program. Raises UserError where ExecuTorch is missing, NotExportable where `decode` is to be
    for delegates and has operators that they don't run, as ONNX's is."""
    with noise.taken(name_of(detector)):
        executorch_runtime.library()  # refused first where it is missing
    if decode == "matmul":
        onnx_export.model_of(detector, card, crop="outside", decode=decode)
    crops = torch.from_numpy(onnx_export.example_crops(detector.spec.size))
    with torch.no_grad():
        outputs = onnx_export.columns_of(detector.decode(full_precision(detector(crops))))
    logger.info(f"converting {name_of(detector)} by ExecuTorch, which takes up to a minute")
    return ExportCard(replace(card, spec=detector.spec), executorch_runtime.NAME, outputs, "outside", decode)


def methods_of(detector: Detector) -> dict[str, tuple[InOrder, tuple[Tensor, ...]]]:
    """What is traced for each method of a program, and what it is given."""
    crops = torch.from_numpy(onnx_export.example_crops(detector.spec.size))
    return {
        executorch_runtime.METHOD: (InOrder(Points(detector)).eval(), (crops,)),
        NETWORK: (InOrder(Raw(detector)).eval(), (crops.float(),)),
    }


def lowered(traced: Mapping[str, Any], what: str) -> bytes:
    """Turns traced methods into a program in which XNNPACK computes what it can; they share the weights that are equal."""
    try:
        with noise.taken(what), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of its own packages
            from executorch.backends.xnnpack.partition import (  # type: ignore[import-not-found]
                xnnpack_partitioner as xnnpack,
            )
            from executorch.exir import to_edge_transform_and_lower  # type: ignore[import-not-found]

            partitioner = {name: [xnnpack.XnnpackPartitioner()] for name in traced}
            return to_edge_transform_and_lower(dict(traced), partitioner=partitioner).to_executorch().buffer
    except Exception as error:  # of any of its packages
        told = f"{type(error).__name__}: {first_line(error)}"
        raise NotExportable(f"{what}: ExecuTorch can't convert it: {told}. Use onnx or openvino") from error


def save(program: bytes, card: ExportCard, folder: Path) -> Made:
    """Program and card as FOLDER/model.pte."""
    file = folder / "model.pte"
    file.write_bytes(program)
    card_behind.append(file, card)
    return Made(file, card, (NOTE,))


def name_of(detector: Detector) -> str:
    """What messages call it."""
    return f"{detector.spec.method} on {detector.spec.backbone}"
