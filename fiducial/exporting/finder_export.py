"""A finder into an export: in the one file of ONNX Runtime, in front of the detector; else in a file beside the detector's,
which ONNX Runtime runs for the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import ModelProto, helper

from fiducial.card import FINDER, USABLE, Card, DetectorSpec
from fiducial.exporting import finder_graph, stored
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.runtime import export_card, finder_file
from fiducial.runtime.export_card import ExportCard, Made
from fiducial.runtime.runtimes import onnx_runtime


def of_run(model: Path) -> tuple[Detector, Card] | None:
    """Loads the finder of a run folder, on the CPU; None where it has none that is of use."""
    folder = model / FINDER
    if not (folder / "model.json").is_file():
        return None
    finder, card = detectors.load(folder)
    return (finder, card) if card.metrics.get(USABLE, True) else None


def added(made: Made, finder: Detector, card: Card) -> Made:
    """Adds a finder to what an exporter wrote."""
    if made.card.runtime == onnx_runtime.NAME and made.card.crop == "inside":
        return _joined(made, finder_graph.finder_model(finder), finder.spec, made.file)
    beside = finder_file.beside(made.file)
    write_alone(finder, card, beside)
    note = f"the finder is in {beside.name}, which ONNX Runtime runs: copy it along"
    return replace(made, notes=(*made.notes, note))


def joined_with_beside(made: Made, folder: Path) -> Made:
    """Makes one file in `folder` of an exported ONNX file that takes whole images and the finder that lies beside it; as it is
    where none does."""
    beside = finder_file.beside(made.file)
    if not beside.is_file():
        return made
    finds = finder_file.load(beside, None).spec
    return _joined(made, onnx.load(beside), finds, folder / f"model{onnx_runtime.FILES[0]}")


def _joined(made: Made, network: ModelProto, finds: DetectorSpec, file: Path) -> Made:
    """One ONNX file of a detector's and a finder's graph."""
    exported = replace(made.card, finder=finds)
    none = export_card.no_points(made.card)
    shapes = {name: getattr(none, name).shape for name in made.card.outputs}
    whole = finder_graph.chained(onnx.load(made.file), network, finds, shapes)
    whole.producer_name, whole.producer_version = "fiducial", made.card.card.fiducial_version
    helper.set_model_props(whole, export_card.to_metadata(exported))
    onnx.save(whole, file)
    return replace(made, file=file, card=exported)


def write_alone(finder: Detector, card: Card, file: Path, *, halves: bool = False) -> None:
    """Writes a finder into a file of its own, whose name ends in `.finder.onnx`; `halves`: its weights take half the space
    (`stored.in_halves`)."""
    alone = finder_graph.finder_model(finder)
    if halves:
        alone = stored.in_halves(alone)
    about = ExportCard(card, onnx_runtime.NAME, finder_file.OUTPUTS, "outside", finder=finder.spec)
    helper.set_model_props(alone, export_card.to_metadata(about))
    onnx.save(alone, file)
