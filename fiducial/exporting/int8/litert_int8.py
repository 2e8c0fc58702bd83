"""int8 in LiteRT, by ai-edge-quantizer, which comes with the converter: operators whose inputs, weights and outputs are 8-bit,
with what lies between them and the others."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.card import Card
from fiducial.data import noise
from fiducial.errors import UserError
from fiducial.exporting import litert_export, litert_names
from fiducial.exporting.int8 import layers
from fiducial.exporting.phone_parts import NETWORK, POINTS
from fiducial.log import others_quiet
from fiducial.models.detector import Detector
from fiducial.runtime.export_card import Decode, Made, Precision, Where
from fiducial.runtime.runtimes import litert_runtime

PACKAGE = "ai-edge-quantizer"
BITS = 8


class LitertQuantizer:
    """A detector on its way into LiteRT. See `quantizer.Quantizer`."""

    runtime = litert_runtime.NAME
    others: tuple[Precision, ...] = ()

    def __init__(
        self, detector: Detector, card: Card, crops: np.ndarray, *, crop: Where = "outside", decode: Decode = "own"
    ) -> None:
        litert_export.refuse_unfit_converter()
        with _quiet():
            pass  # that it is missing is said before minutes of converting
        self._plain, self._card = litert_export.model_of(detector, card, decode=decode)
        operators = litert_names.operators_of(self._plain)
        weighted = [each.name for each in operators if each.kind in litert_names.WEIGHTED]
        # Of both signatures, which share the weights: these are int8 in both, or in neither.
        self._both = layers.grouped([each.name for each in operators], weighted)
        inside = {each.name for each in operators if each.signature == POINTS}
        self.groups = {group: tuple(name for name in names if name in inside) for group, names in self._both.items()}
        self._ranges = _ranges_of(self._plain, crops, [name for names in self._both.values() for name in names])

    def write(self, precision: Precision, folder: Path, quantized: Collection[str] = ()) -> Made:
        names = [name for group in quantized for name in self._both[group]] if precision == "int8" else []
        network = _quantized(self._plain, names, self._ranges) if names else self._plain
        return litert_export.save(network, replace(self._card, precision=precision), folder)

    def write_alone(self, group: str, folder: Path) -> Made:
        return self.write("int8", folder, [group])


def _ranges_of(network: bytes, crops: np.ndarray, names: list[str]) -> dict[str, Any]:
    """The least and the largest value of all crops, of what the operators of these names take and give."""
    with _quiet() as (calibrator, quantizer, qsv_utils), noise.taken("calibration"):
        found = calibrator.Calibrator(network, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
        given = {
            POINTS: [{"crops": crop[None]} for crop in crops],
            NETWORK: [{"crops": crop[None].astype(np.float32)} for crop in crops],
        }
        found.calibrate(given, _recipe(quantizer.Quantizer(bytearray(network)), names)._recipe_manager)
        return found.get_model_qsvs()


def _quantized(network: bytes, names: list[str], ranges: dict[str, Any]) -> bytes:
    """The operators of these names in int8, those of them that the library has so; everything else as it is."""
    with _quiet() as (_, quantizer, _):
        asked = _recipe(quantizer.Quantizer(bytearray(network)), names)
        return bytes(asked.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def _recipe(quantizer: Any, names: list[str]) -> Any:
    """Asks for static int8 of the operators whose first output has one of these names, weights by output channel."""
    from ai_edge_quantizer import qtyping  # type: ignore[import-not-found]

    named = "|".join(map(re.escape, names))
    quantizer.add_static_config(f"^({named})(;|$)", qtyping.TFLOperationName.ALL_SUPPORTED, BITS, BITS)
    return quantizer


@contextlib.contextmanager
def _quiet() -> Iterator[tuple[Any, Any, Any]]:
    """The library's calibrator, quantizer and ways to join ranges, without bars and without a warning for each weight that two
    signatures share; UserError where it is missing."""
    try:
        with others_quiet(), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            from ai_edge_quantizer import calibrator, quantizer  # type: ignore[import-not-found]
            from ai_edge_quantizer.utils import qsv_utils  # type: ignore[import-not-found]

            yield calibrator, quantizer, qsv_utils
    except ImportError as error:
        raise UserError(f"{PACKAGE} is not installed: {litert_export.INSTALL}") from error
