"""int8 in OpenVINO, by nncf."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.card import Card
from fiducial.exporting import openvino_export
from fiducial.exporting.int8 import layers
from fiducial.exporting.int8.quantizer import post_training
from fiducial.models.detector import Detector
from fiducial.runtime.export_card import Decode, Made, Precision, Where
from fiducial.runtime.runtimes import openvino_runtime

WEIGHTED = {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}


class OpenvinoQuantizer:
    """A detector on its way into OpenVINO. See `quantizer.Quantizer`."""

    runtime = openvino_runtime.NAME

    def __init__(
        self, detector: Detector, card: Card, crops: np.ndarray, *, crop: Where = "outside", decode: Decode = "own"
    ) -> None:
        openvino = openvino_runtime.library()
        from openvino.passes import ConstantFolding, Manager

        self._plain, self._card = openvino_export.model_of(detector, card, decode=decode)
        # With the sizes known what is left of them folds into constants, so that nncf sees biases as such.
        self._plain.reshape([1, *crops.shape[1:]])
        passes = Manager()
        passes.register_pass(ConstantFolding())
        passes.run_passes(self._plain)
        self._crops = [crops[i : i + 1] for i in range(len(crops))]
        operators = self._plain.get_ordered_ops()
        names = [each.friendly_name for each in operators]
        weighted = [each.friendly_name for each in operators if each.get_type_name() in WEIGHTED]
        self.groups = layers.grouped(names, weighted)
        self._uncorrected: Any = None
        capable = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.others: tuple[Precision, ...] = ("bf16",) if "BF16" in capable else ()

    def write(self, precision: Precision, folder: Path, quantized: Collection[str] = ()) -> Made:
        model = self._quantized(quantized) if precision == "int8" else self._plain.clone()
        return openvino_export.save(model, replace(self._card, precision=precision), folder)

    def write_alone(self, group: str, folder: Path) -> Made:
        if self._uncorrected is None:
            self._uncorrected = self._quantized(self.groups, corrected=False)
        model = restored(self._uncorrected, self._plain, set(self.groups[group]))
        return openvino_export.save(model, replace(self._card, precision="int8"), folder)

    def _quantized(self, groups: Collection[str], corrected: bool = True) -> Any:
        """The operators of these groups in int8, everything else as it is."""
        chosen = {name for group in groups for name in self.groups[group]}
        kept = [each.friendly_name for each in self._plain.get_ops() if each.friendly_name not in chosen]
        return post_training(self._plain.clone(), self._crops, kept, corrected)


def restored(quantized: Any, plain: Any, but: Collection[str]) -> Any:
    """A copy of `quantized` in which all operators, but those named, see what they see in `plain`: weights that were not
    rounded, and activations from before they were."""
    from openvino import opset13 as operators

    model = quantized.clone()
    own = {each.friendly_name: each for each in plain.get_ops()}
    for operator in model.get_ops():
        if operator.friendly_name not in own or operator.friendly_name in but:
            continue
        for given, original in zip(operator.inputs(), own[operator.friendly_name].inputs(), strict=True):
            source, was = given.get_source_output().get_node(), original.get_source_output().get_node()
            if source.get_type_name() == "FakeQuantize":
                given.replace_source_output(source.input_value(0))
            elif was.get_type_name() == "Constant" and source.get_type_name() != "Constant":
                given.replace_source_output(operators.constant(was.data).output(0))
    return model
