"""OpenVINO: files of `fiducial export --to openvino`, on the CPU. Extra `openvino`.

What is called fp32 is computed so: OpenVINO's own choice on newer CPUs is bf16. Crops go one by one through a network of a
static batch of one, which on a CPU is quicker a crop than a batch of eight, static or not, and does not need to be
compiled anew for each number of boxes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files
from fiducial.errors import BadAnswer, UserError
from fiducial.runtime import export_card, finder_file
from fiducial.runtime.export_card import ExportCard
from fiducial.types import Keypoints

NAME, TITLE, TARGET = "openvino", "OpenVINO", "openvino"
FILES = (".xml", ".bin", finder_file.ENDING)
EXPORT = "fiducial.exporting.openvino_export:write"
LAYERS = "fiducial.profiling.openvino_nodes:measure"
INT8 = "fiducial.exporting.int8.openvino_int8:OpenvinoQuantizer"
SECTION = "fiducial"  # of the file's rt_info


def matches(path: Path) -> bool:
    return path.suffix.lower() == ".xml" and not path.is_dir()


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> OpenvinoNetwork:
    """`threads`: None = as many as the machine has cores."""
    openvino = library()
    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; an exported file holds the plain network")
    if not path.with_suffix(".bin").exists():
        raise UserError(f"{path}: its weights {path.with_suffix('.bin').name} are not beside it; copy both files")
    files.refuse_strange(path, "a network of OpenVINO", may_be=("markup", "text"))
    core = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise UserError(f"{path}: OpenVINO can't read it: {last_line(error)}") from error
    card = export_card.of_metadata(metadata_of(model), path, NAME)
    return OpenvinoNetwork(core, model, card, path, threads)


def library() -> Any:
    """The package, or the command that installs it; without its messages to its makers, of which it does without."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise UserError("openvino is not installed: pip install 'fiducial[openvino]'") from error
    return openvino


def metadata_of(model: Any) -> Mapping[str, str]:
    """The texts of the file's block; empty where it has none."""
    names = (export_card.KEY, export_card.DIGEST)
    return {
        name: model.get_rt_info([SECTION, name]).astype(str) for name in names if model.has_rt_info([SECTION, name])
    }


def last_line(error: Exception) -> str:
    """Of OpenVINO's messages the last line says what was wrong."""
    return next(line.strip() for line in reversed(str(error).splitlines()) if line.strip())


def settings(card: ExportCard, threads: int | None) -> dict[str, Any]:
    """How a file is compiled. int8 computes what is left of it in fp32."""
    chosen = {"INFERENCE_PRECISION_HINT": "bf16" if card.precision == "bf16" else "f32", "NUM_STREAMS": 1}
    return chosen | ({} if threads is None else {"INFERENCE_NUM_THREADS": threads})


class OpenvinoNetwork:
    """A compiled network and its card."""

    runtime = NAME

    def __init__(self, core: Any, model: Any, export: ExportCard, path: Path, threads: int | None) -> None:
        self.export, self.card, self.path = export, export.card, path
        size = self.card.spec.size
        model.reshape([1, size.h, size.w, 3])
        self.compiled = core.compile_model(model, "CPU", settings(export, threads))
        self._of_thread = threading.local()

    def predict(self, crops: np.ndarray) -> Keypoints:
        return export_card.points_of_each(self.export, self._of_one, crops, self.path)

    def _of_one(self, crop: np.ndarray) -> list[np.ndarray]:
        if not hasattr(self._of_thread, "request"):  # one can't answer two threads at a time
            self._of_thread.request = self.compiled.create_infer_request()
        try:
            answer = self._of_thread.request.infer([crop], share_inputs=True)
        except RuntimeError as error:
            raise BadAnswer(self.path, f"OpenVINO fails on an image: {last_line(error)}") from error
        # Copies: the request's own arrays are written to by the next one.
        return [np.array(answer[number]) for number in range(len(self.export.outputs))]

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """None: the crop is never in the file."""
