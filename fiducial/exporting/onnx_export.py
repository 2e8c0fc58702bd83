"""A detector as an ONNX graph: uint8 crops in, points in px of the crops out; with the crop in front, full image and
boxes in, points on the image out.

Normalisation, network and decode are traced from the very code that runs in torch; the crop is `crop_graph.py`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import compose
from torch import Tensor, nn

from fiducial.card import Card
from fiducial.errors import UserError, first_line
from fiducial.exporting import accelerators, crop_graph, folding, node_names
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector, full_precision
from fiducial.runtime import export_card
from fiducial.runtime.export_card import Decode, ExportCard, Made, Where
from fiducial.types import COLUMNS, Keypoints

Part = Literal["whole", "network"]  # network: without decode, the head's raw output comes out
# Operators that compilers of accelerators run on the CPU, if at all. Gather is not among them: heads have it with a
# constant index alone, which is a slice.
NOT_DELEGATED = {"TopK", "ArgMax", "GatherElements", "GatherND", "ScatterND", "NonZero", "Loop", "If"}


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
        found = self.detector.decode(raw)
        return tuple(getattr(found, name) for name in columns_of(found))


def columns_of(found: Keypoints) -> tuple[str, ...]:
    """Those of `COLUMNS` that a head gives, in the order of the outputs."""
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


def of_run_folder(model: Path, path: Path, part: Literal["whole", "network", "decode"]) -> Exported:
    """Makes a run folder's file to be timed: a `runtime.cost.Maker`."""
    detector, _ = detectors.load(model)
    return onnx_of(detector, path) if part == "whole" else export(detector, path, "network")


def export(detector: Detector, path: Path, part: Part) -> Exported:
    """One part in a file that takes one crop, compared with torch on four. The detector is on the CPU and in eval mode."""
    crops = torch.from_numpy(example_crops(detector.spec.size, 4))
    model, outputs = traced(detector, part)
    onnx.save(model, path)
    return Exported(path, part, outputs, difference_px(detector, path, part, crops))


def traced(detector: Detector, part: Part = "whole", batched: bool = False) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph, its operators named by their modules, and the names of its outputs: `crops` [1, h, w, 3] uint8 in, or
    [n, h, w, 3] where `batched`."""
    crops = torch.from_numpy(example_crops(detector.spec.size, 2 if batched else 1))
    with torch.no_grad():
        raw = full_precision(detector(crops))
        found = detector.decode(raw)
    outputs = columns_of(found) if part == "whole" else names_of(raw)
    names = {0: torch.export.Dim("n", min=1)}
    with torch.no_grad(), nothing_in_place(detector):
        model = traced_module(
            Graph(detector, part).eval(),
            (crops,),
            ["crops"],
            list(outputs),
            (names,) if batched else None,
            what=f"the {'decode' if part == 'whole' else 'network'} of {detector.spec.method} on {detector.spec.backbone}",
        )
    node_names.by_module(model)
    folding.scale_into_weights(model)
    return model, outputs


@contextmanager
def nothing_in_place(module: nn.Module) -> Iterator[None]:
    """Lets activations write to tensors of their own for a while: the graph is the same, and traced in two thirds of the time."""
    changed = [each for each in module.modules() if getattr(each, "inplace", False) is True]
    for each in changed:
        vars(each)["inplace"] = False
    try:
        yield
    finally:
        for each in changed:
            vars(each)["inplace"] = True


def traced_module(
    module: nn.Module, arguments: tuple[Any, ...], inputs: list[str], outputs: list[str], dynamic: Any, what: str
) -> onnx.ModelProto:
    """torch's exporter without its notes; NotExportable says of `what` which operator has no form in ONNX."""
    # Its notes on constants that it keeps twice are for its authors.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporter warns of what torch itself does
            program = torch.onnx.export(
                module,
                arguments,
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                verbose=False,
                opset_version=crop_graph.OPSET,
                dynamic_shapes=dynamic,
            )
    except torch.onnx.OnnxExporterError as error:
        raise _refusal(what, error) from error
    assert program is not None
    return program.model_proto


def with_crop(network: onnx.ModelProto, detector: Detector, outputs: tuple[str, ...]) -> onnx.ModelProto:
    """A batched graph with the crop in front and the way back behind: inputs as of `crop_graph.crop_model`."""
    spec = detector.spec
    network = compose.add_prefix(network, "network/", rename_inputs=False, rename_outputs=False)
    network.ir_version = crop_graph.IR_VERSION
    crop = crop_graph.crop_model(spec.size, spec.padding)
    # `crops` is the network's input and the crop's, and points on the crops are not yet those on the image.
    renamed = {"crops": "network_crops"} | {name: f"{name}_crop" for name in outputs}
    for node in network.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    network.graph.input[0].name = "network_crops"
    for output in network.graph.output:
        output.name += "_crop"
    joined = compose.merge_models(
        crop,
        network,
        io_map=[("cut", "network_crops")],
        outputs=["corner", "step", *(f"{name}_crop" for name in outputs)],
    )
    links = [(name, name) for name in ("corner", "step", *(f"{name}_crop" for name in outputs))]
    return compose.merge_models(joined, crop_graph.place_model(outputs), io_map=links)


def write(detector: Detector, card: Card, folder: Path, *, crop: Where, decode: Decode) -> Made:
    """FOLDER/model.onnx."""
    made = model_of(detector, card, crop=crop, decode=decode)
    card_of_file = export_card.of_metadata(
        {entry.key: entry.value for entry in made.metadata_props}, folder / "model.onnx", "onnxruntime"
    )
    onnx.save(made, folder / "model.onnx")
    unlisted = accelerators.note(node.op_type for node in made.graph.node) if crop == "outside" else None
    return Made(folder / "model.onnx", card_of_file, () if unlisted is None else (unlisted,))


def model_of(
    detector: Detector, card: Card, *, crop: Where = "inside", decode: Decode = "own", runtime: str = "onnxruntime"
) -> onnx.ModelProto:
    """The whole file in memory, its metadata included. NotExportable where an operator has no form in ONNX, or where
    `decode` is to be for delegates and has operators that they don't run."""
    network, outputs = traced(detector, batched=True)
    if decode == "matmul" and (found := sorted({node.op_type for node in network.graph.node} & NOT_DELEGATED)):
        raise NotExportable(
            f"--decode matmul: the decode of {detector.spec.method} needs {', '.join(found)}; train with a loss whose "
            "decoder is a mean over the whole map (cross_entropy, integral, simcc), or leave --decode out"
        )
    model = with_crop(network, detector, outputs) if crop == "inside" else network
    model.producer_name, model.producer_version = "fiducial", card.fiducial_version
    made = ExportCard(replace(card, spec=detector.spec), runtime, outputs, crop, decode)
    onnx.helper.set_model_props(model, export_card.to_metadata(made))
    return model


def _refusal(what: str, error: BaseException) -> NotExportable:
    """One line. The exporter's own message is a page; its first cause names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = first_line(error).partition(". ")[0]
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
        what = f"the {'decode' if part == 'whole' else 'network'} of {detector.spec.method} on {detector.spec.backbone}"
        raise _refusal(what, error) from error
    largest = 0.0
    for i in range(len(crops)):
        answers: list[Any] = list(session.run(None, {"crops": crops[i : i + 1].numpy()}))
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
