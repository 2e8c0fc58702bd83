"""TFLite: networks of other projects, as MediaPipe's and MoveNet's, by OpenVINO's reader of such files. Extra `openvino`.

A bundle, such as MediaPipe's `.task`, is a zip file; the network in it that a card knows is meant."""

from __future__ import annotations

import tempfile
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files
from fiducial.errors import BadAnswer, UserError
from fiducial.runtime.foreign import network_card
from fiducial.runtime.foreign.network import ForeignNetwork
from fiducial.runtime.foreign.network_card import Signature, Tensor
from fiducial.runtime.runtimes import openvino_runtime

NAME, TITLE, TARGET = "tflite", "TFLite by OpenVINO", None
FILES = (".tflite", network_card.SUFFIX)
EXPORT, LAYERS, INT8 = None, None, None
BUNDLES = (".task", ".zip")
MOST_BYTES = 1 << 29  # of a network in a bundle


def matches(path: Path) -> bool:
    return path.suffix.lower() in (".tflite", *BUNDLES) and not path.is_dir()


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> ForeignNetwork:
    """`threads`: None = as many as the machine has cores."""
    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; a file holds the plain network")
    if path.suffix.lower() not in BUNDLES:
        return ForeignNetwork(TfliteGraph(path, threads), path)
    with tempfile.TemporaryDirectory(prefix="fiducial-") as folder:
        found, errors = [], []
        for file in _unpacked(path, Path(folder)):
            try:
                found.append(ForeignNetwork(TfliteGraph(file, threads), path))
            except UserError as error:
                errors.append(error)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(path, f"holds {len(found)} networks that give points; take the one out that is meant")
    raise errors[0] if errors else UserError(path, "holds no .tflite file")


def _unpacked(path: Path, folder: Path) -> list[Path]:
    """The networks of a bundle, taken out into a folder."""
    files.refuse_strange(path, "a bundle of TFLite networks", may_be=("zip",))
    try:
        with zipfile.ZipFile(path) as bundle:
            entries = [entry for entry in bundle.infolist() if entry.filename.lower().endswith(".tflite")]
            if sum(entry.file_size for entry in entries) > MOST_BYTES:
                raise UserError(
                    path, f"its networks have more than {MOST_BYTES >> 20} MB; take the one out that is meant"
                )
            taken = []
            for number, entry in enumerate(entries):
                with bundle.open(entry) as packed:
                    data = packed.read(MOST_BYTES + 1)
                taken.append(folder / f"{number}.tflite")
                taken[-1].write_bytes(data)
            return taken
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(path, f"is no zip file of networks that can be read: {error}") from error


class TfliteGraph:
    """A compiled network; implements `foreign.network.Graph`."""

    runtime = NAME

    def __init__(self, path: Path, threads: int | None) -> None:
        openvino = openvino_runtime.library()
        files.refuse_strange(path, "a TFLite network")
        self.path = path
        self.version: str | None = metadata.version("openvino")
        core = openvino.Core()
        try:
            model = core.read_model(path)
            chosen = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
            chosen |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
            self.compiled = core.compile_model(model, "CPU", chosen)
        except RuntimeError as error:
            raise UserError(path, f"OpenVINO can't read it: {openvino_runtime.last_line(error)}") from error
        self.signature = Signature(
            *(tuple(map(_tensor, ports)) for ports in (self.compiled.inputs, self.compiled.outputs))
        )

    def __call__(self, values: np.ndarray) -> dict[str, np.ndarray]:
        try:
            answer = self.compiled([values])
        except RuntimeError as error:
            raise BadAnswer(self.path, f"OpenVINO fails on an image: {openvino_runtime.last_line(error)}") from error
        return {tensor.name: np.array(answer[i]) for i, tensor in enumerate(self.signature.outputs)}


def _tensor(port: Any) -> Tensor:
    shape = tuple(0 if side.is_dynamic else side.get_length() for side in port.partial_shape)
    return Tensor(port.any_name, shape, np.dtype(port.element_type.to_dtype()).name)
