"""What another program that keeps one core busy costs a step of training and an answer of ONNX Runtime.

    python benchmarks/beside_others.py [--threads 2] [--rounds 3] [--json]

Each is timed in a process of its own, alone and beside a process that counts, in turn: with the count that Fiducial sets
(`GOMP_SPINCOUNT`, `fiducial/__init__.py`) and with GNU OpenMP's own. Two programs on two cores can't be quicker than 1.5
times as slow, where one has two threads. Use a quiet machine."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

BUSY = "while True: pass"
OURS, LIBRARY = "1000", "300000"
MOST_SECONDS = 20.0


def steps_of(threads: int, folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed: a training step of 16 crops at 128x128, EfficientNet-Lite0 with maps, and one crop in ONNX Runtime."""
    import torch

    from fiducial.card import Card, DetectorSpec
    from fiducial.exporting import onnx_export
    from fiducial.geometry import Size
    from fiducial.models import detector as detectors
    from fiducial.runtime import runtime
    from fiducial.types import Skeleton

    torch.set_num_threads(threads)
    spec = DetectorSpec(
        "tf_efficientnet_lite0",
        "heatmap",
        {},
        Size(128, 128),
        Skeleton("bench", tuple(f"point_{k}" for k in range(17))),
    )
    detector = detectors.build(spec)
    crops = torch.from_numpy(onnx_export.example_crops(spec.size, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = onnx_export.write(detector.eval(), Card(detector.spec), folder, crop="inside", decode="own")
    network = runtime.opened(made.file, threads).network
    detector = detector.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step() -> None:
        detector(crops).logsumexp((-1, -2)).mean().backward()

    return {"training step": step, "onnxruntime": lambda: network.predict(crops[:1].numpy())}


def timed(threads: int) -> dict[str, float]:
    """Median ms of each."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, step in steps_of(threads, Path(folder)).items():
            each: list[float] = []
            for _ in range(3):
                step()
            while len(each) < 20 and sum(each) < MOST_SECONDS:
                start = time.perf_counter()
                step()
                each.append(time.perf_counter() - start)
            found[name] = 1e3 * statistics.median(each)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        print(json.dumps(timed(options.threads)))
        return
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(options.rounds):
        for beside in ("alone", "beside a busy process"):
            other = (
                subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True) if beside != "alone" else None
            )
            try:
                for name, count in (("ours", OURS), ("the library's", LIBRARY)):
                    command = [sys.executable, __file__, "--inside", "--threads", str(options.threads)]
                    answer = subprocess.run(
                        command, env={**os.environ, "GOMP_SPINCOUNT": count}, capture_output=True, text=True, check=True
                    )
                    for what, ms in json.loads(answer.stdout.splitlines()[-1]).items():
                        found.setdefault(what, {}).setdefault(f"{beside}, {name}", []).append(ms)
            finally:
                if other is not None:
                    other.kill()
                    other.wait()
    for what, columns in found.items():
        alone = statistics.median(columns["alone, ours"])
        for column, each in columns.items():
            print(f"{what:14} {column:38} {statistics.median(each):9.2f} ms  {statistics.median(each) / alone:6.2f}x")
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
