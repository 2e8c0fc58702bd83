"""Procedural faces a second, on one core: drawn, and points alone; the floor is decoding JPEGs of the same size.

    python benchmarks/demo_render.py [--count 200] [--size 128] [--rounds 5] [--json]

All contestants take turns in one process on one thread and the best of their rounds counts. CPU seconds are counted,
not the clock, so that other work on the machine disturbs little."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import cv2

from fiducial.drawnfaces import face_points, render_face
from fiducial.geometry import Size


def rate(work: Callable[[int], object], count: int, first: int) -> float:
    """Calls of `work` a CPU second, over `count` indices."""
    start = time.process_time()
    for index in range(first, first + count):
        work(index)
    return count / (time.process_time() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--size", type=Size.parse, default=Size(128, 128))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    size, seed = options.size, options.seed
    files = [
        cv2.imencode(".jpg", render_face(seed, index, size).image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        for index in range(32)
    ]
    contestants: dict[str, Callable[[int], object]] = {
        "face_points": lambda index: face_points(seed, index, size),
        "render_face": lambda index: render_face(seed, index, size),
        "decode JPEG": lambda index: cv2.imdecode(files[index % len(files)], cv2.IMREAD_COLOR),
    }
    best = dict.fromkeys(contestants, 0.0)
    for number in range(options.rounds):
        for name, work in contestants.items():
            best[name] = max(best[name], rate(work, options.count, number * options.count))
    print(f"{size} px, best of {options.rounds} rounds of {options.count}")
    for name, value in best.items():
        print(f"{name:14}{value:10.0f} a CPU second{1e3 / value:10.2f} ms")
    ratio = best["render_face"] / best["decode JPEG"]
    print(f"drawing a face takes as long as decoding {1 / ratio:.1f} JPEGs of it")
    if options.json:
        print(json.dumps({"size": list(size), "per_cpu_second": best, "ratio_to_decoding": ratio}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
