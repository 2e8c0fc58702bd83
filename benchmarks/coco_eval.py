"""COCO evaluation, from two JSON files to ten numbers: ours against pycocotools and faster-coco-eval.

    python benchmarks/coco_eval.py [--images 5000] [--rounds 3] [--json]

The set is made by a seed: 105,000 detections over 10,810 truths on 5,000 images (COCO's val2017 with a detector that
says much), OKS from 0 to 1. Every run is a fresh process and counts whole, start-up and imports included; the
contestants take turns and the best of their rounds counts. CPU seconds are shown too, for machines that are shared:
all run on one thread. All must agree on the ten numbers to 1e-9. Ours has the matching and the accumulation done by
faster-coco-eval's C++: what it gains over that package is in reading, OKS and imports."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CONTESTANTS = ("pycocotools", "faster-coco-eval", "fiducial")
POINTS = 17


def write_set(folder: Path, images: int, seed: int) -> tuple[Path, Path]:
    """Truth and results of `images` images, in COCO's proportions."""
    generator = np.random.default_rng(seed)
    truths, detections = round(images * 2.162), images * 21
    height = np.exp(generator.uniform(np.log(24), np.log(380), truths))
    width = height * generator.uniform(0.3, 0.7, truths)
    corner = np.stack([generator.uniform(0, 640 - width), generator.uniform(0, np.maximum(480 - height, 1))], -1)
    sides = np.stack([width, height], -1)
    shape = generator.uniform(0.05, 0.95, (POINTS, 2)) + generator.normal(0, 0.06, (truths, POINTS, 2))
    xy = np.round(corner[:, None] + shape * sides[:, None], 1)
    visibility = generator.choice([0, 1, 2], (truths, POINTS), p=[0.3, 0.1, 0.6])
    visibility[generator.random(truths) < 0.03] = 0
    image = generator.integers(1, images + 1, truths) * 7
    outline = np.round(generator.uniform(0, 400, (truths, 40)), 2)  # the segmentation that real files carry
    points = np.concatenate([np.where(visibility[..., None] > 0, xy, 0), visibility[..., None]], -1)
    annotations = [
        {
            "segmentation": [outline[i].tolist()],
            "num_keypoints": int((visibility[i] > 0).sum()),
            "area": round(float(sides[i].prod() * 0.55), 4),
            "iscrowd": int(generator.random() < 0.02),
            "keypoints": points[i].ravel().tolist(),
            "image_id": int(image[i]),
            "bbox": np.round([*corner[i], *sides[i]], 2).tolist(),
            "category_id": 1,
            "id": i + 1,
        }
        for i in range(truths)
    ]
    owner = generator.integers(0, truths, detections)
    error = np.exp(generator.uniform(np.log(0.01), np.log(0.5), detections))  # of the instance's size
    away = generator.normal(0, 1, (detections, POINTS, 2)) * (error * np.sqrt(sides.prod(1))[owner])[:, None, None]
    found = np.concatenate([xy[owner] + away, generator.random((detections, POINTS, 1))], -1).round(3)
    score = np.clip(1 - error + generator.normal(0, 0.15, detections), 0.001, 1).round(3)
    results = [
        {"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": value}
        for image_id, keypoints, value in zip(
            image[owner].tolist(), found.reshape(detections, -1).tolist(), score.tolist(), strict=True
        )
    ]
    names = [f"point_{i}" for i in range(POINTS)]
    truth = {
        "images": [
            {"id": 7 * i, "width": 640, "height": 480, "file_name": f"{i:012}.jpg"} for i in range(1, images + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}],
    }
    files = folder / "truth.json", folder / "results.json"
    for file, content in zip(files, (truth, results), strict=True):
        file.write_text(json.dumps(content))
    return files


def evaluate(contestant: str, truth: str, results: str) -> list[float]:
    """The ten numbers, by one of CONTESTANTS."""
    if contestant == "fiducial":
        from fiducial.data.skeletons import COCO17
        from fiducial.evaluation import coco
        from fiducial.evaluation.coco_files import read_detections, read_truth

        table = read_truth(Path(truth))
        detections = read_detections(Path(results), table)
        return list(coco.average_precision(table.instances, detections, np.array(COCO17.sigmas)).values())
    # Both packages have this pair of modules; faster-coco-eval's fast class goes by the old name in the second.
    coco_module, evaluation_module = {
        "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval"),
        "faster-coco-eval": ("faster_coco_eval.core.coco", "faster_coco_eval.core.faster_eval_api"),
    }[contestant]
    peer: Any = importlib.import_module(coco_module)
    evaluator: Any = importlib.import_module(evaluation_module)
    with contextlib.redirect_stdout(io.StringIO()):
        data = peer.COCO(truth)
        run = evaluator.COCOeval(data, data.loadRes(results), "keypoints")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(number) for number in run.stats]


def timed(arguments: list[str]) -> tuple[float, float, str]:
    """Seconds, CPU seconds and last line of a fresh Python."""

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    start, used = time.perf_counter(), cpu()
    command = [sys.executable, *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return time.perf_counter() - start, cpu() - used, output.strip().rpartition("\n")[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # the fresh process: contestant, truth, results
    options = parser.parse_args()
    if options.one:
        print(json.dumps(evaluate(*options.one)))
        return 0

    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    numbers: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = [str(file) for file in write_set(Path(folder), options.images, options.seed)]
        for _ in range(options.rounds):
            for name in CONTESTANTS:
                elapsed, used, line = timed([__file__, "--one", name, *files])
                seconds[name].append(elapsed)
                cpu_seconds[name].append(used)
                numbers[name] = json.loads(line)
    bare, imports = (
        min(timed(["-c", code])[0] for _ in range(5))
        for code in ("import numpy", "import fiducial.evaluation.predictions")
    )

    expected = np.array(numbers["pycocotools"])
    difference = {name: float(np.abs(np.array(numbers[name]) - expected).max()) for name in CONTESTANTS}
    best = {name: min(seconds[name]) for name in CONTESTANTS}
    cpu = {name: min(cpu_seconds[name]) for name in CONTESTANTS}
    print(
        f"{options.images * 21:,} detections, {options.images:,} images, best of {options.rounds}, AP {expected[0]:.4f}"
    )
    print(
        f"{'':18}{'seconds':>9}{'times as fast':>15}{'CPU seconds':>13}{'times as fast':>15}{'largest difference':>20}"
    )
    for name in CONTESTANTS:
        wall_ratio, cpu_ratio = best["pycocotools"] / best[name], cpu["pycocotools"] / cpu[name]
        print(f"{name:18}{best[name]:9.2f}{wall_ratio:15.1f}{cpu[name]:13.2f}{cpu_ratio:15.1f}{difference[name]:20.1e}")
    print(f"start-up: import numpy {bare * 1e3:.0f} ms, import fiducial.evaluation.predictions {imports * 1e3:.0f} ms")
    agree = max(difference.values()) <= 1e-9
    if not agree:
        print("the ten numbers DISAGREE")
    if options.json:
        report = {
            "seconds": best,
            "cpu_seconds": cpu,
            "ratio": best["pycocotools"] / best["fiducial"],
            "cpu_ratio": cpu["pycocotools"] / cpu["fiducial"],
            "difference": difference,
            "agree": agree,
            "ap": expected[0],
            "import_numpy_s": bare,
            "import_evaluation_s": imports,
        }
        print(json.dumps(report))
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
