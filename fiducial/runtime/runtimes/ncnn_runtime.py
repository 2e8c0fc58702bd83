"""ncnn: files of `fiducial export --to ncnn`, on the CPU. Extra `ncnn`.

ncnn runs the network, one crop at a time and in float32; the decode beside it is an ONNX graph (`ncnn_export.py`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fiducial import files
from fiducial.card import Normalization
from fiducial.errors import BadAnswer, Failure, UserError
from fiducial.runtime import export_card, finder_file
from fiducial.runtime.export_card import ExportCard, Precision
from fiducial.types import Keypoints
from fiducial.worker import Worker

NAME, TITLE, TARGET = "ncnn", "ncnn", "ncnn"
FILES = (".ncnn.param", ".ncnn.bin", ".ncnn.json", ".decode.onnx", finder_file.ENDING)
EXPORT = "fiducial.exporting.ncnn_export:write"
LAYERS = "fiducial.profiling.ncnn_layers:measure"
INT8, HALF = None, "fiducial.exporting.int8.ncnn_half:NcnnHalf"
PARTS = {"param": "model.ncnn.param", "bin": "model.ncnn.bin", "decode": "model.decode.onnx"}


def matches(path: Path) -> bool:
    return path.suffix.lower() == ".param" and not path.is_dir()


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> NcnnNetwork:
    """`threads`: None = as many as the machine has cores. All files of the export must be beside each other, unchanged:
    ncnn itself reads a damaged file without an error, or crashes."""
    import onnxruntime

    library()
    if flip_test:
        raise UserError(f"{path}: --flip-test needs the run folder; an exported file holds the plain network")
    stem = path.name.removesuffix(".param").removesuffix(".ncnn")
    about = path.with_name(f"{stem}.ncnn.json")
    if not about.exists():
        raise UserError(f"{path}: not exported by Fiducial (no {about.name} beside it). Make it by `fiducial export`")
    block = files.read_json(about)
    card = export_card.of_metadata(block if isinstance(block, dict) else {}, about, NAME)
    parts = {part: path.with_name(name.replace("model", stem, 1)) for part, name in PARTS.items()}
    digests = block.get("files")
    for part, file in parts.items():
        if not file.is_file():
            raise UserError(f"{path}: {file.name} is not beside it; copy all files of the export")
        if not isinstance(digests, dict) or digest(file) != digests.get(PARTS[part]):
            raise UserError(f"{file}: was cut short or altered after the export (its digest differs). Export it anew")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    decode = onnxruntime.InferenceSession(str(parts["decode"]), options, providers=["CPUExecutionProvider"])
    return NcnnNetwork(network_of(parts["param"], parts["bin"], threads, card.precision), decode, card, path)


def library() -> Any:
    """The package, or the command that installs it."""
    try:
        import ncnn
    except ModuleNotFoundError as error:
        raise UserError("ncnn is not installed: pip install 'fiducial[ncnn]'") from error
    return ncnn


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def network_of(param: Path, weights: Path, threads: int | None, precision: Precision = "fp32") -> Any:
    """ncnn's Net, in float32 throughout unless `precision` is another."""
    ncnn = library()
    net = ncnn.Net()
    net.opt.num_threads = threads or files.cores()
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, precision in option)
    if net.load_param(str(param)) != 0 or net.load_model(str(weights)) != 0:
        raise UserError(f"{param}: ncnn can't load it")
    return net


def loads_in_a_process_of_its_own(param: Path, weights: Path) -> tuple[bool, str]:
    """Tells whether ncnn loads a network, and what it said: it may crash instead of saying no."""
    try:
        with Worker(f"{__name__}:try_to_load", [str(param), str(weights)]) as worker:
            said = worker.said()
            complains = any(word in line for line in said for word in ("failed", "not exists"))
            return worker.first and not complains, (said or ["it says nothing"])[0]
    except (Failure, ImportError) as error:
        return False, str(error)


def try_to_load(paths: list[str]) -> Iterator[bool]:
    """Loads a network as its process's task: whether ncnn takes it."""
    net = library().Net()
    yield net.load_param(paths[0]) == 0 and net.load_model(paths[1]) == 0


class NcnnNetwork:
    """A network, its decode and its card."""

    runtime = NAME

    def __init__(self, net: Any, decode: Any, export: ExportCard, path: Path) -> None:
        self.net, self.decode, self.export, self.card, self.path = net, decode, export, export.card, path
        self._raw = [(each.name, each.shape[1:]) for each in decode.get_inputs()]
        normalization = self.card.spec.normalization or Normalization()
        self._mean = list(normalization.mean)
        self._scale = [1 / value for value in normalization.std]

    def predict(self, crops: np.ndarray) -> Keypoints:
        if len(crops) == 0:
            return export_card.no_points(self.export)
        each = [self._network(crop) for crop in crops]
        raw = {name: np.stack([parts[i] for parts in each]) for i, (name, _) in enumerate(self._raw)}
        found = self.decode.run(None, raw)
        return export_card.points_of(self.export, found, len(crops), self.path)

    def full(self, image: np.ndarray, boxes_xywh: np.ndarray | None = None) -> Keypoints | None:
        """None: the crop is never in the file."""

    def _network(self, crop: np.ndarray) -> list[np.ndarray]:
        """The parts of the raw output of one crop."""
        ncnn = library()

        height, width = crop.shape[:2]
        planes = ncnn.Mat.from_pixels(np.ascontiguousarray(crop), ncnn.Mat.PixelType.PIXEL_RGB, width, height)
        planes.substract_mean_normalize(self._mean, self._scale)
        with self.net.create_extractor() as extractor:
            extractor.input("in0", planes)
            answers = [extractor.extract(f"out{i}") for i in range(len(self._raw))]
            if any(code != 0 for code, _ in answers):
                raise BadAnswer(self.path, "ncnn fails on an image; export it anew")
            # Copies: the extractor's memory ends with it.
            return [np.array(answer).reshape(shape) for (_, answer), (_, shape) in zip(answers, self._raw, strict=True)]
