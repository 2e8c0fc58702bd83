"""A detector for ncnn: its network as model.ncnn.param and .bin, by pnnx; its decode as model.decode.onnx.

ncnn has no form of many decodes (the highest cells, Newton's steps), and pnnx drops their operators without an error. So
the network's raw output leaves ncnn, and the decode, traced from the code that torch runs, is a small ONNX graph of its
own, which the base install runs; there is no decode written twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from fiducial import config
from fiducial.card import Card
from fiducial.errors import UserError
from fiducial.exporting import crop_graph, onnx_export
from fiducial.exporting.onnx_export import NotExportable
from fiducial.models.detector import Detector, full_precision
from fiducial.runtime import export_card
from fiducial.runtime.export_card import Decode, ExportCard, Made, Precision, Where
from fiducial.runtime.runtimes import ncnn_runtime

NOTE = (
    "ncnn holds the network; crop and normalisation are the runtime package's, the decode is model.decode.onnx, which ONNX "
    "Runtime runs"
)

# Operators that pnnx leaves as they are, which ncnn then lacks, and their equals that it converts (TorchScript's IR).
SAME_FOR_PNNX = {
    """graph(%x):
        %turned = aten::mT(%x)
        return (%turned)""": """graph(%x):
        %last : int = prim::Constant[value=-1]()
        %before : int = prim::Constant[value=-2]()
        %turned = aten::transpose(%x, %before, %last)
        return (%turned)""",
    """graph(%x, %least):
        %bounded = aten::clamp_min(%x, %least)
        return (%bounded)""": """graph(%x, %least):
        %none : NoneType = prim::Constant()
        %bounded = aten::clamp(%x, %least, %none)
        return (%bounded)""",
}


class Network(nn.Module):
    """Normalised planes -> the parts of the raw output that are not empty."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, planes: Tensor) -> tuple[Tensor, ...]:
        raw = self.head(self.backbone(planes)[self.backbone.main])
        return tuple(part for part in onnx_export.parts_of(raw) if part.numel() > 0)


class Decoding(nn.Module):
    """The parts that are not empty -> the columns of Keypoints."""

    def __init__(self, detector: Detector, example: Any) -> None:
        super().__init__()
        self.head, self.decode, self.kind = detector.head, detector.decode, type(example)
        # Shapes behind the batch of the parts that are empty, None for the others.
        self.empty = [tuple(part.shape[1:]) if part.numel() == 0 else None for part in onnx_export.parts_of(example)]

    def forward(self, parts: list[Tensor]) -> tuple[Tensor, ...]:
        given = iter(parts)
        batch = parts[0].shape[0]
        whole = [next(given) if shape is None else parts[0].new_zeros(batch, *shape) for shape in self.empty]
        found = self.decode(whole[0] if issubclass(self.kind, Tensor) else self.kind(*whole))
        return tuple(getattr(found, name) for name in onnx_export.columns_of(found))


def write(
    detector: Detector,
    card: Card,
    folder: Path,
    *,
    crop: Where = "outside",
    decode: Decode = "own",
    precision: Precision = "fp32",
) -> Made:
    """Writes FOLDER/model.ncnn.param, .bin, .json and model.decode.onnx; the crop is outside whatever `crop` says
    (`NOTE`). `precision`: in which ncnn is to compute."""
    size = detector.spec.size
    example = torch.from_numpy(onnx_export.example_crops(size, 2))
    with torch.no_grad():
        raw = full_precision(detector(example))
        outputs = onnx_export.columns_of(detector.decode(raw))
    _write_network(detector, folder)
    _write_decode(detector, raw, outputs, folder / "model.decode.onnx")
    exported = ExportCard(card, ncnn_runtime.NAME, outputs, "outside", decode, precision)
    files = ("model.ncnn.param", "model.ncnn.bin", "model.decode.onnx")
    digests = {name: ncnn_runtime.digest(folder / name) for name in files}
    config.write_json(folder / "model.ncnn.json", {**export_card.to_metadata(exported), "files": digests})
    return Made(folder / "model.ncnn.param", exported, (NOTE,))


def _write_network(detector: Detector, folder: Path) -> None:
    """By pnnx, which says nothing of what it can't convert: ncnn loading it and the certificate tell."""
    ncnn_runtime.library()  # refused first where it is missing
    program = Path(sys.executable).parent / "pnnx"
    if not program.exists():
        found = shutil.which("pnnx")
        if found is None:
            raise UserError("pnnx is not installed: pip install 'fiducial[ncnn]'")
        program = Path(found)
    size = detector.spec.size
    with tempfile.TemporaryDirectory() as temporary:
        traced(detector).save(f"{temporary}/model.pt")
        command = [str(program), "model.pt", f"inputshape=[1,3,{size.h},{size.w}]", "fp16=0"]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True, check=False)
        made = [Path(temporary) / "model.ncnn.param", Path(temporary) / "model.ncnn.bin"]
        what = f"{detector.spec.method} on {detector.spec.backbone}"
        if done.returncode != 0 or not all(path.exists() for path in made):
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
            reason = f"exit code {done.returncode}, {said[-1].strip()}"
            raise NotExportable(f"{what}: pnnx can't convert it: {reason}. Use onnx or openvino")
        loads, message = ncnn_runtime.loads_in_a_process_of_its_own(*made)
        if not loads:
            raise NotExportable(f"{what}: ncnn can't load what pnnx made of it: {message}. Use onnx or openvino")
        for path in made:
            shutil.copyfile(path, folder / path.name)


def traced(detector: Detector) -> Any:
    """The network as TorchScript, one crop at a time, in operators that pnnx converts."""
    size = detector.spec.size
    planes = torch.zeros(1, 3, size.h, size.w)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that are constant, as they should be
        made: Any = torch.jit.trace(Network(detector).eval(), (planes,), check_trace=False)
    for module in made.modules():
        if module._c._has_method("forward"):  # modules that nothing goes through have none
            for found, same in SAME_FOR_PNNX.items():
                torch._C._jit_pass_custom_pattern_based_rewrite_graph(found, same, module.graph)
    return made


def _write_decode(detector: Detector, raw: Any, outputs: tuple[str, ...], path: Path) -> None:
    """The head's decode of raw outputs, in batches."""
    parts = [part for part in onnx_export.parts_of(raw) if part.numel() > 0]
    batch = torch.export.Dim("n", min=1)
    with torch.no_grad():
        model = onnx_export.traced_module(
            Decoding(detector, raw).eval(),
            (parts,),
            [f"raw{i}" for i in range(len(parts))],
            list(outputs),
            {"parts": [{0: batch} for _ in parts]},
            what=f"the decode of {detector.spec.method}",
        )
    model.ir_version = crop_graph.IR_VERSION
    onnx.save(model, path)
