"""int8 in ONNX Runtime, by its own quantisation: pairs of QuantizeLinear and DequantizeLinear around operators, which the
runtime makes one with them. nncf puts the pairs where OpenVINO wants them, and ONNX Runtime then computes in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fiducial.card import Card
from fiducial.exporting import onnx_export
from fiducial.exporting.int8 import layers
from fiducial.log import others_quiet
from fiducial.models.detector import Detector
from fiducial.runtime import export_card
from fiducial.runtime.export_card import Decode, Made, Precision, Where
from fiducial.runtime.runtimes import onnx_runtime

# Transposed convolutions are not among them: ONNX Runtime has none for int8, and is slower with them.
WEIGHTED = ("Conv", "Gemm", "MatMul")
ROUNDED = [*WEIGHTED, "Add", "Relu", "MaxPool"]


class OnnxQuantizer:
    """A detector on its way into ONNX Runtime. See `quantizer.Quantizer`."""

    runtime = onnx_runtime.NAME
    others: tuple[Precision, ...] = ()

    def __init__(
        self, detector: Detector, card: Card, crops: np.ndarray, *, crop: Where = "inside", decode: Decode = "own"
    ) -> None:
        self._detector, self._crop = detector, crop
        self._plain = onnx_export.model_of(detector, card, crop="outside", decode=decode)
        block = {entry.key: entry.value for entry in self._plain.metadata_props}
        self._card = replace(export_card.of_metadata(block, Path("model.onnx"), self.runtime), crop=crop)
        self._crops = crops
        nodes = self._plain.graph.node
        self.groups = layers.grouped(
            [node.name for node in nodes], [node.name for node in nodes if node.op_type in WEIGHTED]
        )
        self._uncorrected: onnx.ModelProto | None = None

    def write(self, precision: Precision, folder: Path, quantized: Collection[str] = ()) -> Made:
        return self._save(self._quantized(quantized) if precision == "int8" else self._plain, precision, folder)

    def write_alone(self, group: str, folder: Path) -> Made:
        if self._uncorrected is None:
            self._uncorrected = self._quantized(self.groups)
        return self._save(restored(self._uncorrected, self._plain, set(self.groups[group])), "int8", folder)

    def _save(self, network: onnx.ModelProto, precision: Precision, folder: Path) -> Made:
        """With the crop in front, if it is to be inside."""
        card = replace(self._card, precision=precision)
        inside = self._crop == "inside"
        model = onnx_export.with_crop(network, self._detector, card.outputs) if inside else network
        onnx.helper.set_model_props(model, export_card.to_metadata(card))
        onnx.save(model, folder / "model.onnx")
        return Made(folder / "model.onnx", card)

    def _quantized(self, groups: Collection[str]) -> onnx.ModelProto:
        """The operators of these groups in int8, everything else as it is."""
        from onnxruntime import quantization

        chosen = {name for group in groups for name in self.groups[group]}
        kept = [node.name for node in self._plain.graph.node if node.name not in chosen]
        reader: Any = Reader(self._crops)  # it asks for a subclass of its own, but uses no more of it
        with tempfile.TemporaryDirectory() as folder, others_quiet():
            quantization.quantize_static(
                _copy(self._plain),
                Path(folder, "model.onnx"),
                reader,
                nodes_to_exclude=kept,
                op_types_to_quantize=ROUNDED,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                # It leaves a ReLU to the rounding behind it otherwise, which layers in float32 don't see.
                extra_options={"QDQKeepRemovableActivations": True},
            )
            return restored(onnx.load(Path(folder, "model.onnx")), self._plain, chosen)


class Reader:
    """Crops, one at a time, as ONNX Runtime's quantisation asks for them."""

    def __init__(self, crops: np.ndarray) -> None:
        self._crops = iter(crops)

    def get_next(self) -> dict[str, np.ndarray] | None:
        crop = next(self._crops, None)
        return None if crop is None else {"crops": crop[None]}


def restored(quantized: onnx.ModelProto, plain: onnx.ModelProto, but: Collection[str]) -> onnx.ModelProto:
    """A copy of `quantized` in which all nodes, but those named, see what they see in `plain`: weights and activations
    from before they were rounded. What is rounded behind a layer reaches those named alone, so never the decode."""
    model = _copy(quantized)
    weights = {each.name: each for each in plain.graph.initializer}
    used = set()
    inputs = {node.name: node.input for node in plain.graph.node if node.name not in but}
    for node in model.graph.node:
        if node.name in inputs:
            used |= set(inputs[node.name]) & weights.keys()
            # Rounded biases bear the names of those that were not.
            node.input[:] = [f"{name}/plain" if name in weights else name for name in inputs[node.name]]
    there = {each.name for each in model.graph.initializer}
    for name in sorted(name for name in used if f"{name}/plain" not in there):
        model.graph.initializer.add().CopyFrom(weights[name])
        model.graph.initializer[-1].name += "/plain"
    return model


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
