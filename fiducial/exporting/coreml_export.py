"""A detector as a Core ML package: model.mlpackage, by coremltools, from the code that runs in torch.

Two functions share the weights: `points`, which is the default, and `network`, which gives the head's raw output. Converting
works everywhere, running on Apple's systems alone."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fiducial.card import Card
from fiducial.errors import UserError, first_line
from fiducial.exporting import onnx_export
from fiducial.exporting.onnx_export import NotExportable
from fiducial.exporting.phone_parts import NETWORK, POINTS, InOrder, Points, Raw
from fiducial.log import logger
from fiducial.models.detector import Detector
from fiducial.runtime import export_card
from fiducial.runtime.export_card import Decode, ExportCard, Made, Where
from fiducial.runtime.runtimes import coreml_runtime

VERSION = "9"
NOTE = (
    "the crop is the runtime package's; functions `points` and `network` take crops of float32 (0 to 255); iOS 18 or macOS 15 is "
    "the oldest that has functions; weights are float32, which the CPU and the GPU compute and the Neural Engine does not"
)
# Operators of a decode that only the CPU has.
NOT_DELEGATED = {
    "topk",
    "reduce_argmax",
    "gather",
    "gather_along_axis",
    "gather_nd",
    "scatter_nd",
    "non_zero",
    "cumsum",
}


def write(detector: Detector, card: Card, folder: Path, *, crop: Where = "outside", decode: Decode = "own") -> Made:
    """Writes FOLDER/model.mlpackage; the crop is outside whatever `crop` says (`NOTE`). NotExportable where the converter
    can't, or where `decode` is to be for delegates and has operators that they don't run."""
    coremltools = fit_converter()
    what = f"{detector.spec.method} on {detector.spec.backbone}"
    crops = torch.from_numpy(onnx_export.example_crops(detector.spec.size)).float()
    file = folder / "model.mlpackage"
    logger.info(f"converting {what} by {coreml_runtime.PACKAGE}, which takes some seconds")
    outputs: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as work, coreml_runtime.quiet(), onnx_export.nothing_in_place(detector):
        both = coremltools.utils.MultiFunctionDescriptor()
        for name, part in ((POINTS, Points(detector)), (NETWORK, Raw(detector))):
            alone = str(Path(work, f"{name}.mlpackage"))
            found = _converted(coremltools, part, crops, what)
            outputs = outputs or tuple(each.name for each in found.get_spec().description.output)
            found.save(alone)
            both.add_function(alone, "main", name)
        both.default_function_name = POINTS
        joined = str(Path(work, "joined.mlpackage"))
        coremltools.utils.save_multifunction(both, joined)
        model = coremltools.models.MLModel(joined, skip_model_load=True)
        left = sorted(operators_of(model.get_spec(), POINTS) & NOT_DELEGATED)
        if left and decode == "matmul":
            raise NotExportable(
                f"--decode matmul: the file of {detector.spec.method} needs {', '.join(left)}; train with a loss whose "
                "decoder is a mean over the whole map (cross_entropy, integral, simcc), or leave --decode out"
            )
        exported = ExportCard(replace(card, spec=detector.spec), coreml_runtime.NAME, outputs, "outside", decode)
        for key, text in export_card.to_metadata(exported).items():
            model.user_defined_metadata[key] = text
        model.short_description, model.license, model.version = card.title, card.terms, card.fiducial_version
        model.save(str(file))
    return Made(file, exported, (NOTE,))


def fit_converter() -> Any:
    """Gives coremltools. UserError with the command that installs it where it is missing or of another version."""
    try:
        version = metadata.version(coreml_runtime.PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise UserError(f"{coreml_runtime.PACKAGE} is not installed: {coreml_runtime.INSTALL}") from error
    if version.partition(".")[0] != VERSION:
        raise UserError(f"{coreml_runtime.PACKAGE} {version}: expected {VERSION}.x. {coreml_runtime.INSTALL}")
    return coreml_runtime.library()


def operators_of(spec: Any, function: str) -> set[str]:
    """Lists the operators of a function of a package, by their names in MIL."""
    blocks = spec.mlProgram.functions[function].block_specializations.values()
    return {operator.type for block in blocks for operator in block.operations}


def _converted(coremltools: Any, part: Points | Raw, crops: torch.Tensor, what: str) -> Any:
    """One part as a program of one function, computed in float32."""
    with torch.no_grad():
        names = list(part(crops))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of its own packages
            # Decomposed, since the converter takes no products with vectors, nor numbers of mixed kinds.
            traced = torch.export.export(InOrder(part).eval(), (crops,)).run_decompositions()
            return coremltools.convert(
                traced,
                inputs=[coremltools.TensorType("crops", shape=tuple(crops.shape), dtype=np.float32)],
                outputs=[coremltools.TensorType(name) for name in names],
                compute_precision=coremltools.precision.FLOAT32,
                minimum_deployment_target=coremltools.target.iOS18,
                skip_model_load=True,
            )
    except Exception as error:  # of any of its packages
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise NotExportable(f"{what}: coremltools can't convert it: {reason}. Use onnx or litert") from error
