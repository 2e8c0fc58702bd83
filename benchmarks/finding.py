"""What finding costs: a finder alone, and a whole image with three instances by the package and in one file, beside its parts.

    python benchmarks/finding.py [--scene 320x320] [--size 256x192] [--rounds 200] [--json]

Random weights, MobileNetV3-small, ONNX Runtime, one thread, a 640x480 image; the finder's threshold is such that three instances
count. `finder` is scene in, boxes out; `cut` brings the image to the scene; `network` is three crops, one by one; `package` is
`fiducial.load(file)(image)`; `one file` is the whole graph. All in one process, one call of each in turn, so that none finds
the processor's caches as its own last call left them, which no whole image does either; medians over the rounds.
Promises: finder at 320x320 <= 3 ms; package <= cut + finder + 3 x (network + .5 ms); one file <= 1.25 x the sum of its parts,
which is its own time for the same three boxes given, and the finder's, and the cut's."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.card import Card, DetectorSpec
from fiducial.data import crops
from fiducial.exporting import finder_export, onnx_export
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.runtime import runtime
from fiducial.runtime.finder import Finder
from fiducial.types import Skeleton

POINTS = tuple(f"point_{i}" for i in range(17))


def made(folder: Path, scene: Size, size: Size) -> Path:
    """Exports a detector of 17 points with a finder, both of random weights."""
    spec = DetectorSpec("mobilenetv3_small_100", "heatmap", {}, size, Skeleton("person", POINTS))
    detector = detectors.build(spec).eval()
    finder_spec = DetectorSpec(
        "mobilenetv3_small_100", "centres", {}, scene, Skeleton("person", ("person",)), padding=1.0
    )
    finder = detectors.build(finder_spec).eval()
    finder.spec = replace(finder.spec, head={**finder.spec.head, "threshold": 0.0})
    file = onnx_export.write(detector, Card(detector.spec), folder, crop="inside", decode="own")
    return finder_export.added(file, finder, Card(finder.spec)).file


def timed(work: Callable[[], Any]) -> float:
    """ms of a call."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Size.parse, default=Size(320, 320))
    parser.add_argument("--size", type=Size.parse, default=Size(256, 192))
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        run = runtime.opened(made(Path(folder), asked.scene, asked.size), threads=1)
        network, finder = run.network, run.finder
        assert isinstance(finder, Finder)
        third = float(finder(image, 0.0).score[2])
        run.min_score = third
        boxes = finder(image, third).box_xywh
        scene, _ = crops.cut(image, None, finder.spec.size, 1.0)
        crop = np.random.default_rng(1).integers(0, 256, (1, asked.size.h, asked.size.w, 3), dtype=np.uint8)
        session: Any = network.session  # type: ignore[attr-defined]
        feed = {"image": image}
        least = {"min_score": np.array([third], np.float32)}
        works = {
            "cut": lambda: crops.cut(image, None, finder.spec.size, 1.0),
            "finder": lambda: finder.network.find(scene),
            "network": lambda: network.predict(crop),
            "package": lambda: run(image),
            "boxes given": lambda: session.run(None, {**feed, "boxes": boxes}),
            "one file": lambda: session.run(None, {**feed, **least}),
        }
        found = len(run(image).xy)
        for work in works.values():
            work()
        rounds = [{name: timed(work) for name, work in works.items()} for _ in range(asked.rounds)]
    ms = {name: statistics.median(each[name] for each in rounds) for name in works}
    package = statistics.median(
        each["package"] - each["cut"] - each["finder"] - found * each["network"] for each in rounds
    )
    parts = statistics.median(
        each["one file"] / (each["boxes given"] + each["finder"] + each["cut"]) for each in rounds
    )
    result = {"instances": found, "ms": ms, "package_above_parts_ms": package, "one_file_to_parts": parts}
    for name, value in ms.items():
        print(f"{name:12} {value:7.2f} ms")
    print(f"package above its parts: {package:.2f} ms for {found} instances (limit {0.5 * found:.1f})")
    print(f"one file / its parts: {parts:.2f} (limit 1.25)")
    if asked.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
