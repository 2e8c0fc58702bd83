"""A detector as an OpenVINO file: model.xml and model.bin, made from its ONNX graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial.card import Card
from fiducial.exporting import onnx_export
from fiducial.exporting.onnx_export import NotExportable
from fiducial.models.detector import Detector
from fiducial.runtime import export_card
from fiducial.runtime.export_card import Decode, ExportCard, Made, Precision, Where
from fiducial.runtime.runtimes import openvino_runtime

NOTE = (
    "the crop is the runtime package's, by the formula of the ONNX file: of parts of an image whose size depends on the "
    "box, OpenVINO 2026.4 gets some wrong (the first answer, boxes outside of the image)"
)


def write(
    detector: Detector,
    card: Card,
    folder: Path,
    *,
    crop: Where = "outside",
    decode: Decode = "own",
    precision: Precision = "fp32",
) -> Made:
    """Writes FOLDER/model.xml and model.bin: crops in, points on the crops out; the crop is outside whatever `crop`
    says (`NOTE`). Weights are kept in float32 whatever they are computed in."""
    model, exported = model_of(detector, card, decode=decode)
    return save(model, replace(exported, precision=precision), folder)


def model_of(detector: Detector, card: Card, *, decode: Decode = "own") -> tuple[Any, ExportCard]:
    """The model in memory, its operators named by the modules that they came from, and what is to travel with it."""
    openvino = openvino_runtime.library()
    made = onnx_export.model_of(detector, card, crop="outside", decode=decode, runtime=openvino_runtime.NAME)
    try:
        model = openvino.Core().read_model(made.SerializeToString())
    except RuntimeError as error:
        reason = openvino_runtime.last_line(error)
        what = f"{detector.spec.method} on {detector.spec.backbone}"
        raise NotExportable(f"{what}: OpenVINO can't read its graph: {reason}") from error
    _name_parts(model)
    block = {entry.key: entry.value for entry in made.metadata_props}
    return model, export_card.of_metadata(block, Path("model.xml"), openvino_runtime.NAME)


def _name_parts(model: Any) -> None:
    """Where one operator of ONNX became several, the last one bears its name: the others get it, too, with their own
    behind it."""
    for operator in reversed(model.get_ordered_ops()):
        name = operator.get_friendly_name()
        if "/" in name or operator.get_type_name() in ("Constant", "Parameter", "Result"):
            continue
        consumers = [each.get_node() for output in operator.outputs() for each in output.get_target_inputs()]
        last = next((each.get_friendly_name() for each in consumers if "/" in each.get_friendly_name()), None)
        if last is not None:
            operator.set_friendly_name(f"{'/'.join(last.split('/')[:2])}/{name}")


def save(model: Any, card: ExportCard, folder: Path) -> Made:
    """Model and card as files."""
    openvino = openvino_runtime.library()
    for name, text in export_card.to_metadata(card).items():
        model.set_rt_info(text, [openvino_runtime.SECTION, name])
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return Made(folder / "model.xml", card, (NOTE,))
