"""A network that can learn, made again of an exported ONNX file: `--init shipped/model.onnx`, `--init face`.

In the file each convolution has the batch normalisation behind it folded in. Taken apart again the network answers as the
file does, whatever the statistics of its normalisations are said to be; so that it also learns, they are those of crops:
`renormalise`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fiducial.card import NOT_STATED, DetectorSpec
from fiducial.drawnfaces import procedural_faces
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.checkpoints import Plan
from fiducial.models.detector import Detector
from fiducial.runtime import bundled, point_map, runtime
from fiducial.runtime.export_card import ExportCard
from fiducial.runtime.foreign.network import METHOD as FOREIGN
from fiducial.runtime.runtime import Exported
from fiducial.types import Skeleton

PREFIX = "network/detector."  # of the names of parameters in the file
LAYERS = ("Conv", "ConvTranspose", "Gemm")  # operators with weights and a bias
LIMIT_PX = 0.05  # of a crop, that the network's points may be from the file's
CROPS = 32  # that statistics are measured on


def is_exported(source: Path) -> bool:
    """Tells whether weights to start from are in a file of `fiducial export`, or a model that comes along."""
    if source.is_dir() and not source.suffix:
        return _holds_export(source)
    try:
        return runtime.is_exported(source)
    except UserError as error:
        if not source.is_file():
            raise
        raise UserError(
            f"--init {source}",
            "is no kind of file that a run can start from; expected a run folder, weights (.pth, .pt, .safetensors), an ONNX file "
            f"in fp32 that `fiducial export` made, or a model that comes along ({', '.join(bundled.names())})",
        ) from error


def _holds_export(folder: Path) -> bool:
    is_run = (folder / "model.safetensors").exists() or (folder / "config.json").exists()
    return not is_run and runtime.resolved(folder) != folder


def origins_of(source: Path) -> dict[str, str]:
    """Lists what went into an exported file; name -> licence."""
    export, name = runtime.export_of(source), runtime.resolved(source).name
    return {name: NOT_STATED} if export is None else {**(export.card.derived_from or {}), name: export.card.licence}


def network_of(source: Path) -> DetectorSpec | None:
    """Describes the network in an exported file; None of another project's."""
    export = runtime.export_of(source)
    return None if export is None else export.card.spec


def along(skeleton: Skeleton) -> str | None:
    """Names a model that comes along and finds the very points of a skeleton."""
    specs = {name: network_of(Path(name)) for name in bundled.names() if bundled.file_of(Path(name)) is not None}
    return next((name for name, spec in specs.items() if spec and spec.skeleton.points == skeleton.points), None)


def plan_of(source: Path) -> Plan:
    """Takes the weights out of an exported file, under our names. Raises UserError where it is none of ONNX in fp32, and
    where a network of them does not answer as the file does."""
    network = point_map.unmapped(runtime.load(source).network)
    export = getattr(network, "export", None)
    _refuse_others(source, network.runtime, export)
    spec = cast(ExportCard, export).card.spec
    detector = detectors.build(spec, "no").eval()
    names = _fill(detector, runtime.resolved(source))
    crops = _drawn(spec.size)
    with torch.no_grad():
        found = detector.predict(torch.from_numpy(crops[:4])).numpy()
    away_px = float(np.abs(found.xy - cast(Exported, network).predict(crops[:4]).xy).max())
    if not away_px <= LIMIT_PX:
        raise UserError(
            f"--init {source}",
            f"its weights can't be taken out: the points are {away_px:.3g} px away. Give the run folder",
        )
    renormalise(detector, torch.from_numpy(crops))
    weights = detector.state_dict()
    return Plan(
        "",
        spec.backbone,
        {name: weights[name] for name in names},
        names,
        {},
        method=spec.method,
        head=dict(spec.head),
        skeleton=spec.skeleton,
        size=spec.size,
        size_from="by its card",
    )


def renormalise(detector: Detector, crops: Tensor) -> None:
    """Makes what normalisations believe of their inputs true of uint8 `crops` [n, h, w, 3], without changing any answer: a
    network whose statistics are others is another one when it learns, since it then takes those of its batches."""
    was_training = detector.training

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        own = {name: cast(Tensor, getattr(norm, name)) for name in ("running_mean", "running_var", "weight", "bias")}
        scale = own["weight"] / (own["running_var"] + norm.eps).sqrt()
        values = inputs[0].transpose(0, 1).flatten(1).double()
        mean, variance = values.mean(1), values.var(1, correction=0)
        own["bias"].copy_(own["bias"] + scale * (mean - own["running_mean"]))
        own["weight"].copy_(scale * (variance + norm.eps).sqrt())
        own["running_mean"].copy_(mean)
        own["running_var"].copy_(variance)

    norms = [module for module in detector.modules() if isinstance(module, _BatchNorm) and module.affine]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms if norm.running_mean is not None]
    try:
        with torch.no_grad():
            detector.eval()(crops)
    finally:
        for hook in hooks:
            hook.remove()
        detector.train(was_training)


def _refuse_others(source: Path, name: str, export: ExportCard | None) -> None:
    if export is None or export.card.spec.method == FOREIGN:
        raise UserError(
            f"--init {source}", "is another project's network, made to be run; `--from` learns from its points"
        )
    if name != "onnxruntime" or export.precision != "fp32":
        what = name if export.precision == "fp32" else f"{name} in {export.precision}"
        raise UserError(
            f"--init {source}",
            f"is a file of {what}; weights are taken out of ONNX files in fp32 alone. Give such a file, or the run folder",
        )


def _fill(detector: Detector, file: Path) -> dict[str, str]:
    """Fills a detector with what the file holds; our name of each tensor that has its value now -> the file's."""
    held, biases, products, is_scaled = _tensors(file)
    own, names = detector.state_dict(), dict[str, str]()

    def put(name: str, value: Any, theirs: str) -> None:
        own[name].copy_(torch.as_tensor(value).expand_as(own[name]))
        names[name] = PREFIX + theirs

    for name, value in held.items():
        if name in own and value.shape == own[name].shape:
            put(name, value, name)
    for place, (layer, norm) in enumerate(_layers(detector).items()):
        weight = f"{layer}.weight"
        if (
            weight not in names
        ):  # of several inputs at once a layer is a product with its weights turned, under another name
            turned = next((each for each in products if each.T.shape == own[weight].shape), None)
            if turned is not None:
                put(weight, turned.T, weight)
                products = [each for each in products if each is not turned]
                continue
        if weight not in names:
            continue
        if is_scaled and place == 0 and detector.spec.normalization is not None:
            own[weight].mul_(torch.tensor(detector.spec.normalization.std)[:, None, None])
        bias = biases.get(weight, 0.0)
        if norm is not None:
            eps = cast(float, detector.get_submodule(norm).eps)
            for part, value in (("weight", 1.0), ("bias", bias), ("running_mean", 0.0), ("running_var", 1 - eps)):
                put(f"{norm}.{part}", value, weight)
        elif f"{layer}.bias" in own:
            put(f"{layer}.bias", bias, weight)
    return names


def _tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Tensor], bool]:
    """The file's tensors without their prefix, the bias of each layer by the name of its weights (its own may be another's,
    where two are equal), factors of matrix products in their order, and whether the deviations of colours are within the
    first weights."""
    import onnx
    from onnx import helper, numpy_helper

    graph = onnx.load(str(file)).graph
    inner = [helper.get_attribute_value(each) for node in graph.node for each in node.attribute if each.HasField("g")]
    nodes = [node for part in (graph, *inner) for node in part.node]
    values = {
        each.name: torch.from_numpy(numpy_helper.to_array(each).copy())
        for part in (graph, *inner)
        for each in part.initializer
    }
    for node in nodes:  # weights that are stored in halves
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].float()
    biases = {
        node.input[1].partition(PREFIX)[2]: values[node.input[2]]
        for node in nodes
        if node.op_type in LAYERS and len(node.input) > 2 and node.input[2] in values
    }
    products = [values[node.input[1]] for node in nodes if node.op_type == "MatMul" and node.input[1] in values]
    divides = any(node.op_type == "Div" and "normalisation" in node.name for node in nodes)
    return (
        {name.partition(PREFIX)[2]: value for name, value in values.items() if PREFIX in name},
        biases,
        products,
        not divides,
    )


def _layers(detector: Detector) -> dict[str, str | None]:
    """Each layer of weights, in the order in which they work, -> the normalisation that takes its answer, if any."""
    names = {module: name for name, module in detector.named_modules()}
    made: dict[int, str] = {}
    pairs: dict[str, str | None] = {}
    kept: list[Any] = []  # so that no two tensors have one identity

    def answered(module: nn.Module, _: Any, answer: Tensor) -> None:
        made[id(answer)] = names[module]
        pairs[names[module]] = None
        kept.append(answer)

    def taken(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made:
            pairs[made[id(inputs[0])]] = names[module]

    with _hooks(detector, answered, taken), torch.no_grad():
        detector(torch.zeros((1, detector.spec.size.h, detector.spec.size.w, 3), dtype=torch.uint8))
    return pairs


@contextmanager
def _hooks(detector: Detector, answered: Any, taken: Any) -> Iterator[None]:
    hooks = [
        module.register_forward_hook(answered)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
        else module.register_forward_pre_hook(taken)
        for module in detector.modules()
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, _BatchNorm))
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _drawn(size: Size) -> np.ndarray:
    """Pictures to measure on where there are no data: drawn faces, uint8 [n, h, w, 3]."""
    faces = procedural_faces(CROPS, 0, size)
    return np.stack([faces.images.read(row) for row in range(CROPS)])
