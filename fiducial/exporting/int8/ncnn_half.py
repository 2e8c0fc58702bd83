"""Half precision in ncnn: bf16, and on ARM fp16. Weights stay float32 in the file; ncnn rounds them, and what lies between
layers, as it loads. Its int8 needs tools that its package for Python does not have."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from fiducial.card import Card
from fiducial.exporting import ncnn_export
from fiducial.models.detector import Detector
from fiducial.runtime.export_card import Decode, Made, Precision, Where
from fiducial.runtime.runtimes import ncnn_runtime


class NcnnHalf:
    """A detector on its way into ncnn. See `quantizer.Quantizer`."""

    runtime = ncnn_runtime.NAME

    def __init__(
        self, detector: Detector, card: Card, crops: np.ndarray, *, crop: Where = "outside", decode: Decode = "own"
    ) -> None:
        self._detector, self._card = detector, card
        self._decode: Decode = decode
        self.groups: dict[str, tuple[str, ...]] = {}
        # On other CPUs ncnn computes in float32 where it is asked for fp16.
        has_fp16 = bool(ncnn_runtime.library().cpu_support_arm_asimdhp())
        self.others: tuple[Precision, ...] = ("fp16", "bf16") if has_fp16 else ("bf16",)

    def write(self, precision: Precision, folder: Path, quantized: Collection[str] = ()) -> Made:
        return ncnn_export.write(self._detector, self._card, folder, decode=self._decode, precision=precision)

    def write_alone(self, group: str, folder: Path) -> Made:
        raise AssertionError(f"ncnn has no group {group} that could be int8")
