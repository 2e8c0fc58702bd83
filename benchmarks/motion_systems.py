"""Whole motion systems side by side: parameters of detector and generator, ms a frame (points of the driving frame, then
the source's picture moved), and how well each makes the frames of videos from their first one.

    python benchmarks/motion_systems.py RUN.. --on VIDEO.. [--frames 40] [--rounds 20] [--json]

All systems are asked in turn, frame by frame, on one thread, so that whatever else the machine does meets all alike.
Errors are mean absolute ones of a range of 1; copying = the first frame, taken for all others."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fiducial.data import crops, video
from fiducial.motion import Puppet, System


def frames(file: Path, count: int, system: System) -> np.ndarray:
    """[n, h, w, 3]: `count` frames evenly over a video, cut as the system looks at them."""
    step = max(1, video.declared_frames(file) // count)
    pictures = itertools.islice(video.frames(file), 0, step * count, step)
    return np.stack([crops.cut(decoded.image, None, system.size, 1.0)[0][0] for decoded in pictures])


def error(made: np.ndarray, real: np.ndarray) -> float:
    return float(np.abs(made.astype(np.float64) - real).mean() / 255)


def milliseconds(systems: dict[str, System], picture: np.ndarray, rounds: int) -> dict[str, float]:
    """Medians of one frame, of the thread's own time: not what other programs took."""
    puppets = {name: Puppet(system, picture, absolute=True) for name, system in systems.items()}
    taken: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(rounds + 3):
        for name, puppet in puppets.items():
            start = time.thread_time()
            puppet(picture[None])
            if number >= 3:
                taken[name].append(1000 * (time.thread_time() - start))
    return {name: statistics.median(some) for name, some in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="of one size")
    parser.add_argument("--on", type=Path, nargs="+", required=True)
    parser.add_argument("--frames", type=int, default=40, help="of each video")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    systems = {str(run): System.open(run) for run in options.runs}
    first = next(iter(systems.values()))
    clips = [frames(file, options.frames + 1, first) for file in options.on]
    copying = float(np.mean([error(clip[:1], clip[1:]) for clip in clips]))
    times = milliseconds(systems, clips[0][0], options.rounds)
    rows: list[dict[str, Any]] = []
    for name, system in systems.items():
        made = [Puppet(system, clip[0], absolute=True)(clip[1:]).generated for clip in clips]
        found = float(np.mean([error(*pair) for pair in zip(made, (clip[1:] for clip in clips), strict=True)]))
        counts = [sum(each.numel() for each in part.parameters()) for part in (system.detector, system.generator)]
        rows.append(
            {
                "run": name,
                "detector": counts[0],
                "generator": counts[1],
                "ms": times[name],
                "times_faster": next(iter(times.values())) / times[name],
                "error": found,
                "gain": 1 - found / copying,
            }
        )
    for row in rows:
        print(
            f"{Path(row['run']).name:24} detector {row['detector'] / 1e6:.3f} M  generator {row['generator'] / 1e6:.3f} M  "
            f"{row['ms']:.1f} ms ({row['times_faster']:.2f}x)  error {row['error']:.4f}  gain {row['gain']:.0%}"
        )
    print(f"copying: {copying:.4f}")
    if options.json:
        print(json.dumps({"copying": copying, "systems": rows}))


if __name__ == "__main__":
    main()
