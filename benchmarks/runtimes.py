"""What one crop costs in each runtime beside ONNX Runtime: uint8 in, points out, all in one process, in turn.

    python benchmarks/runtimes.py [--to onnx litert] [--heads deeppose heatmap] [--size 192x256] [--rounds 9] [--json]

`predict` of the loaded file (`runtime.load(file).network`), which is what the package calls for each crop; random weights,
one thread on one core. Each figure is the median over rounds of a round's median, the ratio the median over rounds of
ratios to the first target. `off` is the largest distance to the first target's points, px. By the clock: use a quiet
machine."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from export_overhead import timed
from head_latency import settle

from fiducial.card import Card, DetectorSpec
from fiducial.exporting import export, onnx_export
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.runtime import runtime
from fiducial.types import Skeleton


def measured(detector: detectors.Detector, targets: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """Target -> ms, its ratio to the first, and the distance of its points, px, to the first's."""
    crop = onnx_export.example_crops(detector.spec.size)
    with tempfile.TemporaryDirectory() as folder:
        networks = {}
        for to in targets:
            (place := Path(folder) / to).mkdir()
            file = export.write(detector, Card(detector.spec), to, place, crop="outside", decode="own").file
            networks[to] = runtime.load(file, threads=1).network
        points = {to: network.predict(crop).xy for to, network in networks.items()}
        ms = timed({to: lambda network=network: network.predict(crop) for to, network in networks.items()}, rounds)
    first = targets[0]
    return {
        to: {
            "ms": statistics.median(ms[to]),
            "ratio": statistics.median(a / b for a, b in zip(ms[to], ms[first], strict=True)),
            "off_px": float(np.abs(points[to] - points[first]).max()),
        }
        for to in targets
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", nargs="+", default=["onnx", "litert"])
    parser.add_argument("--heads", nargs="+", default=["deeppose", "rle", "heatmap", "integral", "simcc", "rounding"])
    parser.add_argument("--size", type=Size.parse, default=Size(192, 256))
    parser.add_argument("--backbone", default="mobilenetv3_small_100")
    parser.add_argument("--points", type=int, default=17)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    skeleton = Skeleton("bench", tuple(f"point_{k}" for k in range(options.points)))
    found = {}
    print(f"{options.backbone} {options.size}, 1 thread, ms a crop")
    for head in options.heads:
        torch.manual_seed(0)
        detector = detectors.build(DetectorSpec(options.backbone, head, {}, options.size, skeleton))
        settle(detector)
        found[head] = measured(detector.eval(), options.to, options.rounds)
        told = (
            f"  {to} {row['ms']:6.2f} ({row['ratio']:.2f}x, off {row['off_px']:.0e} px)"
            for to, row in found[head].items()
        )
        print(f"{head:10}" + "".join(told), flush=True)
    if options.json:
        print(json.dumps({"size": str(options.size), "backbone": options.backbone, "heads": found}))


if __name__ == "__main__":
    main()
