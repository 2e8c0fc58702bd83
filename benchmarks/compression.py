"""A teacher and its students side by side: parameters, multiply-adds, ms by runtime, and how far the students' points are
from the teacher's on images that neither was trained on.

    python benchmarks/compression.py TEACHER STUDENT.. --on VIDEO.. [--runtimes onnxruntime openvino ncnn torch] [--json]

Distances are those of the exported ONNX files, of whole frames: the mean over points and frames of the Euclidean distance
to the teacher's point, as a share of the longer side of the image."""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import fiducial
from fiducial.data import video
from fiducial.exporting import export, onnx_export
from fiducial.models import detector as detectors
from fiducial.runtime import cost
from fiducial.runtime import runtime as runtimes

TARGETS = {family.NAME: name for name, family in runtimes.targets().items()}


def frames(files: list[Path], each: int) -> list[np.ndarray]:
    """`each` frames evenly over every video."""
    images = []
    for file in files:
        step = max(1, video.declared_frames(file) // each)
        images += [decoded.image for decoded in itertools.islice(video.frames(file), 0, step * each, step)]
    return images


def distances(points: np.ndarray, teacher: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """[n]: mean over points, shares of each frame's longer side."""
    return np.linalg.norm(points - teacher, axis=-1).mean(-1) / sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="the teacher's run folder, then the students'")
    parser.add_argument("--on", type=Path, nargs="+", required=True)
    parser.add_argument("--frames", type=int, default=40, help="of each video")
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime", "openvino", "ncnn", "torch"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    images = frames(options.on, options.frames)
    sides = np.array([max(image.shape[:2]) for image in images])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        jobs: dict[tuple[Path, str], cost.Job] = {}
        for run in options.runs:
            for runtime in options.runtimes:
                model = run
                if runtime in TARGETS:
                    folder = Path(temporary) / run.name / runtime
                    model = export.export_model(run, TARGETS[runtime], folder)[0]
                jobs[run, runtime] = cost.Job(model, runtime)
        latencies = dict(
            zip(
                jobs,
                cost.measure_jobs(list(jobs.values()), make=onnx_export.of_run_folder, rounds=options.rounds),
                strict=True,
            )
        )
        points = {}
        for run in options.runs:
            file = jobs[run, "onnxruntime"].model if (run, "onnxruntime") in jobs else run
            model = fiducial.load(str(file))
            points[run] = np.concatenate([model(image).xy for image in images])
        teacher = options.runs[0]
        for run in options.runs:
            detector, card = detectors.load(run)
            static = cost.static_cost(detector)
            row: dict[str, Any] = {
                "run": str(run),
                "backbone": detector.spec.backbone,
                "parameters": static.parameters,
                "macs": static.macs,
                "distance": float(distances(points[run], points[teacher], sides).mean()),
                "metrics": card.metrics,
            }
            for runtime in options.runtimes:
                latency = latencies[run, runtime]
                row[runtime] = {
                    "ms": latency.median_ms,
                    "cpu_ms": latency.cpu_ms,
                    "times_faster": cost.ratio(latencies[teacher, runtime], latency),
                    "error": latency.error,
                }
            rows.append(row)
    for row in rows:
        line = f"{Path(row['run']).name:24} {row['backbone']:24} {row['parameters'] / 1e6:7.3f} M {row['macs'] / 1e6:8.1f} MMACs"
        for runtime in options.runtimes:
            entry = row[runtime]
            line += (
                f"  {runtime} {entry['ms']:.2f} ms ({entry['times_faster']:.2f}x)" if entry["ms"] else f"  {runtime} -"
            )
        print(f"{line}  distance {row['distance']:.2%}")
    if options.json:
        print(json.dumps({"frames": len(images), "models": rows}))


if __name__ == "__main__":
    main()
