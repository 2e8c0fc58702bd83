"""int8 in ExecuTorch, by XNNPACK's own quantizer: convolutions, linear layers, sums and products whose inputs, weights and
outputs are 8-bit. The layer that gives coordinates or maps stays float32: linear ones, which heads compute outside of autocast,
are hidden from it, and of convolutions see `_groups_of`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fiducial.card import Card
from fiducial.data import noise
from fiducial.exporting import executorch_export, onnx_export
from fiducial.exporting.int8 import layers
from fiducial.exporting.phone_parts import NETWORK
from fiducial.log import others_quiet
from fiducial.models.detector import Detector
from fiducial.runtime.export_card import Decode, Made, Precision, Where
from fiducial.runtime.runtimes import executorch_runtime

WEIGHTED = ("conv", "linear")
GROUPS = 10  # at most: to tell what one costs takes a conversion
ALONE = 32  # crops that the ranges of a group alone are found on
LEAST_STEP = 2**-12  # between two of the 256 values, as XNNPACK wants it


class ExecutorchQuantizer:
    """A detector on its way into ExecuTorch. See `quantizer.Quantizer`."""

    runtime = executorch_runtime.NAME
    others: tuple[Precision, ...] = ()

    def __init__(
        self, detector: Detector, card: Card, crops: np.ndarray, *, crop: Where = "outside", decode: Decode = "own"
    ) -> None:
        self._card = executorch_export.card_of(detector, card, decode=decode)
        self._what, self._crops = executorch_export.name_of(detector), torch.from_numpy(crops)
        with noise.taken(self._what), torch.no_grad(), onnx_export.nothing_in_place(detector):
            self._plain = {
                name: torch.export.export(part, given)
                for name, (part, given) in executorch_export.methods_of(detector).items()
            }
        # Of both methods, which share the weights: these are int8 in both, or in neither.
        self._of_method = {name: _groups_of(program.module()) for name, program in self._plain.items()}
        self.groups = self._of_method[executorch_runtime.METHOD]

    def write(self, precision: Precision, folder: Path, quantized: Collection[str] = ()) -> Made:
        programs: dict[str, Any] = dict(self._plain)
        if precision == "int8" and quantized:
            programs = {name: self._rounded(name, quantized, len(self._crops)) for name in programs}
        return self._save(programs, precision, folder)

    def write_alone(self, group: str, folder: Path) -> Made:
        method = executorch_runtime.METHOD
        return self._save({method: self._rounded(method, [group], ALONE)}, "int8", folder)

    def _save(self, programs: dict[str, Any], precision: Precision, folder: Path) -> Made:
        program = executorch_export.lowered(programs, self._what)
        return executorch_export.save(program, replace(self._card, precision=precision), folder)

    def _rounded(self, method: str, groups: Collection[str], count: int) -> Any:
        """A method whose operators of these groups are int8; ranges go from the least to the largest value of `count` crops."""
        chosen = {name for group in groups for name in self._of_method[method].get(group, ())}
        crops = self._crops.float() if method == NETWORK else self._crops
        with noise.taken(self._what), _quiet(), torch.no_grad():
            from torchao.quantization.pt2e import quantize_pt2e  # type: ignore[import-not-found]

            module = self._plain[method].module()
            prepared = quantize_pt2e.prepare_pt2e(module, _quantizer(chosen))
            for i in range(min(count, len(crops))):
                prepared(crops[i : i + 1])
            rounded = quantize_pt2e.convert_pt2e(prepared)
            return torch.export.export(rounded, (crops[:1],))


def _quantizer(chosen: Collection[str]) -> Any:
    """XNNPACK's quantizer for the operators of these names: weights by output channel, the rest by tensor."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack  # type: ignore[import-not-found]
    from torchao.quantization.pt2e import MinMaxObserver  # type: ignore[import-not-found]

    usual = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    # Its own choice cuts off the largest values, which the crops were picked for.
    ranges = MinMaxObserver.with_args(eps=LEAST_STEP)
    activation = replace(usual.input_activation, observer_or_fake_quant_ctr=ranges)
    config = xnnpack.QuantizationConfig(activation, activation, usual.weight, usual.bias, is_qat=False)
    # It asks for the weights of an operator, too.
    return (
        xnnpack.XNNPACKQuantizer()
        .set_global(config)
        .set_filter_function(lambda node: node.op == "get_attr" or _name_of(node) in chosen)
    )


def _groups_of(module: Any) -> dict[str, tuple[str, ...]]:
    """The operators of a traced method by the modules that they came from; without a last convolution, which gives maps to the
    decode: ExecuTorch 1.5 can't convert one whose maps are rounded."""
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    weighted = [node for node in nodes if node.name.startswith(WEIGHTED)]
    if weighted and weighted[-1].meta["val"].ndim == 4:
        nodes, weighted = nodes[: nodes.index(weighted[-1])], weighted[:-1]
    return layers.grouped([_name_of(node) for node in nodes], [_name_of(node) for node in weighted], GROUPS)


def _name_of(node: Any) -> str:
    """An operator's name with its module in front, as seen from the detector: `backbone.conv1/conv2d`."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    return f"{path.partition('named.detector.')[2]}/{node.name}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what its packages say of their own future."""
    with others_quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
