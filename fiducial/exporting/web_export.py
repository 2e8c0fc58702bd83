"""A page without a server, made of the ONNX file of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from fiducial import files
from fiducial.errors import UserError
from fiducial.exporting import ort_web, web_split
from fiducial.runtime import export_card
from fiducial.runtime.export_card import ExportCard, Made
from fiducial.runtime.runtimes import web_runtime
from fiducial.web import pages

LARGE_BYTES = 15_000_000  # of a page: more takes long where the network is slow
MOST_BYTES = 400 << 20  # of a model: browsers hold no longer texts than 512 MB, and pack a third on top


def packed(made: Made, folder: Path) -> Made:
    """Makes the page and what lies beside it in `folder`, of an ONNX file that takes whole pictures; that file goes if it
    lies there. Raises UserError where the model is too large for a page."""
    if made.card.crop != "inside":
        raise UserError("--to web: the page takes whole pictures; leave --crop outside out")
    size = made.file.stat().st_size
    if size > MOST_BYTES:
        raise UserError(
            f"--to web: the model has {size / 1e6:.0f} MB, of which a browser can load {MOST_BYTES / 1e6:.0f} at most; "
            "take a smaller backbone, or `fiducial serve`"
        )
    card = replace(made.card, runtime=web_runtime.NAME)
    ort, gpu = ort_web.parts()
    part = _part(card, made.file)
    is_split = len(part["chain"]) > 1
    written = pages.site(part, ort, gpu if is_split else None, card.card.title)
    if made.file.parent == folder:
        made.file.unlink()
    for name, data in written.items():
        files.write_bytes(folder / name, data)
    total = sum(map(len, written.values()))
    notes = made.notes
    if not is_split:
        notes = (
            *notes,
            "the page runs its network on the CPU alone: it does not compute floats of 32 bits, or not them alone",
        )
    if total > LARGE_BYTES:
        notes = (*notes, f"the page has {total / 1e6:.0f} MB: on slow networks it takes long to appear")
    return Made(folder / "index.html", card, notes)


def _part(card: ExportCard, file: Path) -> dict[str, Any]:
    """What the page is told of the model."""
    model, defaults = _all_asked(onnx.load(file))
    none = export_card.no_points(card)
    return {
        "about": {"title": card.card.title, "terms": card.card.terms},
        "metadata": export_card.to_metadata(card),
        "defaults": defaults,
        "empty": {name: list(getattr(none, name).shape) for name in card.outputs},
        "chain": [pages.packed(part.SerializeToString()) for part in web_split.split(model)],
    }


def _all_asked(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, dict[str, Any]]]:
    """Makes inputs that may be left out ones that may not, which is all that ONNX Runtime Web takes; and what they are
    where they are left out: {"type", "dims", "data"} by name. The metadata are given to the page apart."""
    inputs = {value.name for value in model.graph.input}
    kept = [each for each in model.graph.initializer if each.name not in inputs]
    left_out = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer if each.name in inputs}
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.metadata_props[:]
    defaults = {
        name: {"type": str(value.dtype), "dims": list(value.shape), "data": value.ravel().tolist()}
        for name, value in left_out.items()
    }
    return model, defaults
