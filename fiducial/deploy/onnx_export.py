"""A detector as one ONNX graph: uint8 crop [1, h, w, 3] in, points in px of that crop out.

The graph holds normalisation, network and decode, by the very code that runs in torch."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models.detector import Detector, full_precision
from fiducial.types import Keypoints

Part = Literal["whole", "network"]  # network: without decode, the head's raw output comes out
COLUMNS = ("xy", "score", "sigma", "jacobian")  # of Keypoints, in the order of the outputs; None is left out


class NotExportable(UserError):
    """A part has an operator that ONNX, or ONNX Runtime, does not have."""


@dataclass(frozen=True)
class Exported:
    """What lies in the file, and how far it is from torch."""

    path: Path
    part: Part
    outputs: tuple[str, ...]
    # Largest distance of a point in x or y between the file's and torch's answer, px; of a network, after torch's
    # decode of both.
    difference_px: float


class Graph(nn.Module):
    """What is traced: a detector's whole answer, or its network's, as a tuple of tensors."""

    def __init__(self, detector: Detector, part: Part) -> None:
        super().__init__()
        self.detector, self.part = detector, part

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        raw = full_precision(self.detector(image))
        if self.part == "network":
            return parts_of(raw)
        found = self.detector.head.decode(raw)
        return tuple(getattr(found, name) for name in columns_of(found))


def columns_of(found: Keypoints) -> tuple[str, ...]:
    """Those of `COLUMNS` that a head gives."""
    return tuple(name for name in COLUMNS if getattr(found, name) is not None)


def parts_of(raw: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A head's raw output as a tuple."""
    return (raw,) if isinstance(raw, Tensor) else tuple(raw)


def names_of(raw: Any) -> tuple[str, ...]:
    """The fields of a head's raw output; `raw` where it is a tensor."""
    return ("raw",) if isinstance(raw, Tensor) else raw._fields


def example_crops(size: Size, count: int = 1) -> np.ndarray:
    """Noise of all colours, the same at each call: [count, h, w, 3] uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, size.h, size.w, 3), dtype=np.uint8)


def onnx_of(detector: Detector, path: Path) -> Exported:
    """The detector in a file, with its decode; without it where an operator of the decode has no form in ONNX.
    NotExportable where not even the network has one."""
    try:
        return export(detector, path, "whole")
    except NotExportable:
        return export(detector, path, "network")


def export(detector: Detector, path: Path, part: Part) -> Exported:
    """One part in a file, compared with torch on four crops. The detector is on the CPU and in eval mode."""
    crops = torch.from_numpy(example_crops(detector.spec.size, 4))
    with torch.no_grad():
        raw = full_precision(detector(crops[:1]))
        found = detector.head.decode(raw)
    outputs = columns_of(found) if part == "whole" else names_of(raw)
    logging.getLogger("onnx_ir").setLevel(
        logging.ERROR
    )  # its notes on constants that it keeps twice are for its authors
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns of what torch itself does
            torch.onnx.export(
                Graph(detector, part).eval(), (crops[:1],), path, dynamo=True, input_names=["image"],
                output_names=list(outputs), external_data=False, verbose=False,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise _refusal(detector, part, error) from error
    return Exported(path, part, outputs, difference_px(detector, path, part, crops))


def _refusal(detector: Detector, part: Part, error: BaseException) -> NotExportable:
    """One line. The exporter's own message is a page; its first cause names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    reason = reason.partition(". ")[0]
    what = f"the {'decode' if part == 'whole' else 'network'} of {detector.spec.method} on {detector.spec.backbone}"
    return NotExportable(f"{what} has no form in ONNX: {reason}. Use torch, or another method or backbone")


def difference_px(detector: Detector, path: Path, part: Part, crops: Tensor) -> float:
    """Largest distance in x or y between the points of a file under ONNX Runtime and torch's, one crop at a time."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotSupported

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, NotSupported) as error:
        raise _refusal(detector, part, error) from error
    largest = 0.0
    for i in range(len(crops)):
        answers: list[Any] = list(session.run(None, {"image": crops[i : i + 1].numpy()}))
        with torch.no_grad():
            raw = full_precision(detector(crops[i : i + 1]))
            expected = detector.head.decode(raw).xy
            if part == "whole":
                xy = torch.from_numpy(answers[0])
            else:
                tensors = [torch.from_numpy(answer) for answer in answers]
                xy = detector.head.decode(tensors[0] if isinstance(raw, Tensor) else type(raw)(*tensors)).xy
        largest = max(largest, float((xy - expected).abs().max()))
    return largest
