"""What a file from full image to pixels costs above its bare network, in ONNX Runtime, on one core and one thread.

    python benchmarks/export_overhead.py [--size 192x256] [--heads deeppose heatmap] [--rounds 9] [--json]

A 640x480 image. `bare` is the network exported plainly: a normalised float image in, the head's raw output out, one at a
time. `in graph` is the whole file: image and box in, points out. `package` is `fiducial.load(file)(image, box)` in Python,
which cuts outside of the graph. `at once` is the package with eight boxes, `loop` with one after the other, `one by one`
the way of rtmlib: for each box a warp, NumPy's normalisation, the bare network, NumPy's decode; ms a box. Where rtmlib is
installed its own class runs the SimCC network, too. Random weights. All in one process, in turn, by the clock, so use a
quiet machine; each figure is the median over rounds of a round's median, and ratios are medians over rounds of ratios.
Promises, with one thread: in graph <= 1.25 bare + 1.0 ms; package <= bare + 0.5 ms; one by one >= 1.5 times as slow a box
as at once."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from fiducial import geometry
from fiducial.card import Card, DetectorSpec
from fiducial.exporting import onnx_export
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.runtime import runtime
from fiducial.types import Skeleton

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
BOX = [211.0, 96.0, 180.0, 290.0]
BOXES = 8
REPEATS = 30
IN_GRAPH_SHARE, IN_GRAPH_MS, PACKAGE_MS, BATCH_GAIN = 1.25, 1.0, 0.5, 1.5


class Bare(nn.Module):
    """Backbone and head, without normalisation and decode."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        raw = self.detector.head(self.detector.backbone(image)[self.detector.backbone.main])
        return onnx_export.parts_of(raw)


def session_of(model: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def steps_of(detector: Detector, folder: Path, threads: int) -> dict[str, Callable[[], Any]]:
    """What is timed."""
    size = detector.spec.size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Bare(detector).eval(),
            (torch.zeros(1, 3, size.h, size.w),),
            folder / "bare.onnx",
            dynamo=True,
            verbose=False,
            external_data=False,
        )
    made = onnx_export.write(detector, Card(detector.spec), folder, crop="inside", decode="own")
    bare, whole = session_of(str(folder / "bare.onnx"), threads), session_of(str(made.file), threads)
    package = runtime.load(made.file, threads=threads)
    generator = np.random.default_rng(0)
    image = cv2.GaussianBlur(generator.integers(0, 256, (480, 640, 3), dtype=np.uint8), (0, 0), 2)
    plain = {bare.get_inputs()[0].name: generator.normal(size=(1, 3, size.h, size.w)).astype(np.float32)}
    box = np.array([BOX], np.float32)
    boxes = box + generator.uniform(-20, 20, (BOXES, 4)).astype(np.float32)

    points = len(detector.spec.skeleton.points)

    def loop() -> None:
        for i in range(BOXES):
            package(image, boxes[i : i + 1])

    def one_by_one() -> None:
        for each in boxes:
            matrix = geometry.crop(geometry.fit_aspect(each, size, 1.25), size)
            crop = cv2.warpAffine(image, matrix[:2], size, flags=cv2.INTER_LINEAR)
            normalised = (crop - np.array(MEAN)) / np.array(STD)
            planes = np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)
            raw: Any = bare.run(None, {bare.get_inputs()[0].name: planes[None]})
            if raw[0].ndim > 2:  # maps or vectors of each point
                for part in raw:
                    if part.size:
                        np.argmax(part.reshape(points, -1), 1)

    steps = {
        "bare": lambda: bare.run(None, plain),
        "in graph": lambda: whole.run(None, {"image": image, "boxes": box}),
        "package": lambda: package(image, box),
        "at once": lambda: package(image, boxes),
        "loop": loop,
        "one by one": one_by_one,
    }
    if detector.spec.method == "simcc" and importlib.util.find_spec("rtmlib"):
        with contextlib.redirect_stdout(io.StringIO()):
            from rtmlib import RTMPose  # type: ignore[reportMissingImports]

            peer = RTMPose(str(folder / "bare.onnx"), size, MEAN, STD, backend="onnxruntime")
        corners = [[x, y, x + w, y + h] for x, y, w, h in boxes.tolist()]
        steps["rtmlib"] = lambda: peer(image, corners)
    return steps


def timed(steps: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """ms of each step, a median for each round."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            each = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                step()
                each.append(1e3 * (time.perf_counter() - start))
            if number > 0:  # the first round warms up
                found[name].append(statistics.median(each))
    return found


def judged(ms: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and the three promises with what they allow."""
    middle = {name: statistics.median(values) for name, values in ms.items()}
    above = statistics.median(a - IN_GRAPH_SHARE * b for a, b in zip(ms["in graph"], ms["bare"], strict=True))
    outside = statistics.median(a - b for a, b in zip(ms["package"], ms["bare"], strict=True))
    gains = {
        name: statistics.median(a / b for a, b in zip(ms[name], ms["at once"], strict=True))
        for name in ("loop", "one by one", "rtmlib")
        if name in ms
    }
    a_box = {name: value / (BOXES if name in ("at once", *gains) else 1) for name, value in middle.items()}
    return {
        "ms": a_box,
        "in_graph_above_1.25_bare_ms": above,
        "package_above_bare_ms": outside,
        "gain_at_once": gains,
        "kept": {
            "in graph": above <= IN_GRAPH_MS,
            "package": outside <= PACKAGE_MS,
            "batch": gains["one by one"] >= BATCH_GAIN,
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=Size.parse, default=Size(192, 256))
    parser.add_argument("--backbone", default="mobilenetv3_small_100")
    parser.add_argument("--heads", nargs="+", default=["deeppose", "rle", "heatmap", "integral", "simcc", "rounding"])
    parser.add_argument("--points", type=int, default=17)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.threads :])
    torch.set_num_threads(1)
    cv2.setNumThreads(options.threads)
    skeleton = Skeleton("bench", tuple(f"point_{k}" for k in range(options.points)))
    found = {}
    print(f"{options.backbone} {options.size}, {options.threads} thread(s), ms; at once and later: ms a box of {BOXES}")
    for head in options.heads:
        torch.manual_seed(0)
        detector = detectors.build(DetectorSpec(options.backbone, head, {}, options.size, skeleton)).eval()
        with tempfile.TemporaryDirectory() as folder:
            found[head] = judged(timed(steps_of(detector, Path(folder), options.threads), options.rounds))
        ms, kept = found[head]["ms"], found[head]["kept"]
        print(
            f"{head:10}"
            + "".join(f"  {name} {value:5.2f}" for name, value in ms.items())
            + "".join(f"  {name}/at once {gain:.2f}x" for name, gain in found[head]["gain_at_once"].items())
            + "".join(f"  {name}: {'kept' if is_kept else 'MISSED'}" for name, is_kept in kept.items())
        )
    if options.json:
        print(json.dumps({"size": str(options.size), "backbone": options.backbone, "heads": found}))


if __name__ == "__main__":
    main()
