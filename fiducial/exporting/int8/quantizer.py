"""What a runtime's file in this folder offers, and the call of nncf."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from fiducial.errors import UserError
from fiducial.runtime.export_card import Made, Precision


class Quantizer(Protocol):
    """A detector on its way into one runtime, with the crops that it is calibrated on."""

    runtime: str  # its name
    groups: dict[str, tuple[str, ...]]  # operators that become int8 together, by the module that they came from
    others: tuple[Precision, ...]  # precisions between fp32 and int8 that this machine computes in

    def write(self, precision: Precision, folder: Path, quantized: Collection[str] = ()) -> Made:
        """A file in `folder`. Of int8 the groups `quantized` alone; in OpenVINO their biases take up what rounding does to
        the mean of each channel."""
        ...

    def write_alone(self, group: str, folder: Path) -> Made:
        """Writes a file in which one group alone is int8, to measure what rounding does to the points.

        Biases are left as they are, and the ranges of activations are found once for all groups."""
        ...


def post_training(model: Any, crops: Sequence[Any], kept: Collection[str], corrected: bool = True) -> Any:
    """`model` in int8 by nncf's post-training quantisation, but for the operators named in `kept`; `crops` are the inputs
    that it is calibrated on. `corrected`: biases take up what rounding does to the mean of each channel.

    Activations range from the least to the largest value of all crops. nncf's own choice for convolutions is the mean of
    each crop's extremes: that cuts off the largest, which the crops were picked for, and cost MobileNetV3 1.5 to 6 % of NME
    where this cost less than 1 % (docs/int8.md)."""
    with _quiet() as nncf:
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        advanced = nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX, disable_bias_correction=not corrected
        )
        return nncf.quantize(
            model,
            nncf.Dataset(crops),
            subset_size=len(crops),
            advanced_parameters=advanced,
            ignored_scope=nncf.IgnoredScope(names=list(kept), validate=False),
        )


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """nncf, without its bars, its notes and its messages to its makers; UserError where it is missing."""
    os.environ.setdefault("NNCF_CI", "1")  # it reports its use to a server otherwise
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import nncf
    except ModuleNotFoundError as error:
        raise UserError("nncf is not installed: pip install 'fiducial[openvino]'") from error
    level = nncf.nncf_logger.level
    nncf.set_log_level(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield nncf
    finally:
        nncf.set_log_level(level)
