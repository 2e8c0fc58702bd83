"""`fiducial.export`: what `fiducial export` does."""

from __future__ import annotations

from typing import Any, cast, get_args

from fiducial.api.arguments import optional_path, path_of
from fiducial.api.results import Exported
from fiducial.errors import UserError
from fiducial.exporting import export as exporting
from fiducial.runtime.export_card import Decode, Where


def export(
    model: Any,
    out: Any,
    *,
    to: str = "onnx",
    data: Any = None,
    crop: str = "inside",
    decode: str = "own",
    int8: Any = None,
    max_drop: float = 0.01,
) -> Exported:
    """Writes a run as one file of another runtime, and proves that it finds the same points; or writes nothing.

    Args:
        model: a run, its folder, or another project's file of weights; out: the folder for the file and its
            certificate.
        to: onnx, openvino, ncnn, litert, executorch, coreml, web, ..; data: labelled images for the certificate [those
            of the run's scores, else drawn faces].
        crop: inside, the file takes images and boxes; outside, crops. decode: own, or by softmax and products alone.
        int8: data to try 8-bit whole numbers with, and max_drop, by what share of itself NME may rise.

    Raises UserError where the model can't be exported so, or the file's points are off."""
    for name, value, known in (("crop", crop, get_args(Where)), ("decode", decode, get_args(Decode))):
        if value not in known:
            raise UserError(f"--{name} {value!r}: expected {' or '.join(known)}")
    file, proof = exporting.export_model(
        path_of(model, "model"),
        to,
        path_of(out, "out"),
        data=optional_path(data, "data"),
        crop=cast(Where, crop),
        decode=cast(Decode, decode),
        int8=optional_path(int8, "int8"),
        max_drop=max_drop,
    )
    return Exported(file=file, certificate=proof)
