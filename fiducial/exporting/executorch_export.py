"""A detector as an ExecuTorch program: model.pte, crops in, points out, by XNNPACK where that has the operators."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch

from fiducial.card import Card
from fiducial.data import noise
from fiducial.exporting import onnx_export
from fiducial.exporting.onnx_export import NotExportable
from fiducial.log import logger
from fiducial.models.detector import Detector, full_precision
from fiducial.runtime import card_behind
from fiducial.runtime.export_card import Decode, ExportCard, Made, Where
from fiducial.runtime.runtimes import executorch_runtime

NOTE = "the crop is the runtime package's, and running the file from Python needs torch; on a phone it does not"


def write(detector: Detector, card: Card, folder: Path, *, crop: Where = "outside", decode: Decode = "own") -> Made:
    """Writes FOLDER/model.pte; the crop is outside whatever `crop` says (`NOTE`). NotExportable where ExecuTorch can't
    convert the detector."""
    what = f"{detector.spec.method} on {detector.spec.backbone}"
    with noise.taken(what):
        executorch_runtime.library()  # refused first where it is missing
    file = folder / "model.pte"
    crops = torch.from_numpy(onnx_export.example_crops(detector.spec.size))
    if decode == "matmul":  # it is refused where it has operators of its own, as ONNX's is
        onnx_export.model_of(detector, card, crop="outside", decode=decode)
    with torch.no_grad():
        outputs = onnx_export.columns_of(detector.decode(full_precision(detector(crops))))
    logger.info(f"converting {what} by ExecuTorch, which takes up to a minute")
    with noise.taken(what), warnings.catch_warnings(), torch.no_grad(), onnx_export.nothing_in_place(detector):
        warnings.simplefilter("ignore")  # of its own packages
        try:
            from executorch.backends.xnnpack.partition import (  # type: ignore[import-not-found]
                xnnpack_partitioner as xnnpack,
            )
            from executorch.exir import to_edge_transform_and_lower  # type: ignore[import-not-found]

            traced = torch.export.export(onnx_export.Graph(detector, "whole").eval(), (crops,))
            lowered = to_edge_transform_and_lower(traced, partitioner=[xnnpack.XnnpackPartitioner()])
            file.write_bytes(lowered.to_executorch().buffer)
        except Exception as error:  # of any of its packages
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            told = f"{type(error).__name__}: {reason}"
            raise NotExportable(f"{what}: ExecuTorch can't convert it: {told}. Use onnx or openvino") from error
    exported = ExportCard(replace(card, spec=detector.spec), executorch_runtime.NAME, outputs, "outside", decode)
    card_behind.append(file, exported)
    return Made(file, exported, (NOTE,))
