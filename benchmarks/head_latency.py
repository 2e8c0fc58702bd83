"""What each method costs on one backbone: ms of one crop, uint8 in and points out, and how much of it the decode is.

    python benchmarks/head_latency.py [--sizes 192x256 128x128] [--points 17] [--heads NAME ..] [--rounds 7] [--json]

Random weights; each (method, runtime) in a process of its own, bound to one core and one thread, all asked in turn in
one run (`fiducial/runtime/cost.py`). `clock` is the median of the whole with its 10th and 90th percentile; all else is CPU time,
which hardly minds other programs: `network` without decode, `whole` with it, and the median over rounds of the ratio to
deeppose. `MB` is the memory of the model itself, `off` the largest distance from torch's answer, px. Two promises are
judged at the end, by the whole in ONNX Runtime: a separable heatmap head costs at most 1.6 times what regression costs,
and what is priced like regression at most an eighth of SimpleBaseline's three deconvolutions."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fiducial.card import Card, DetectorSpec
from fiducial.exporting import onnx_export
from fiducial.exporting.onnx_export import example_crops
from fiducial.geometry import Size
from fiducial.models import catalog
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.runtime import cost
from fiducial.runtime.cost import Cost, Job, Latency
from fiducial.types import Skeleton

# Name -> method and its settings; a method that has none here joins under its own name with its defaults.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "deeppose": ("deeppose", {}),
    "rle": ("rle", {}),
    "simcc": ("simcc", {}),
    "simcc rtmcc": ("simcc", {"network": "rtmcc"}),
    "integral": ("integral", {}),
    "integral coarse": ("integral", {"upsampling": "none"}),
    "rounding": ("rounding", {}),
    "heatmap separable": ("heatmap", {}),
    "heatmap separable dark": ("heatmap", {"loss": "mse", "decoder": "dark"}),
    "heatmap separable mse": ("heatmap", {"loss": "mse"}),
    "heatmap deconvolution": ("heatmap", {"upsampling": "deconvolution", "channels": 256}),
}
BASE, SEPARABLE, DECONVOLUTION = "deeppose", "heatmap separable", "heatmap deconvolution"
LIKE_REGRESSION = ("deeppose", "rle", "simcc", "integral coarse")
SEPARABLE_LIMIT, REGRESSION_LIMIT = 1.6, 1 / 8


@dataclass(frozen=True)
class Row:
    """One head at one size: runtime -> figures."""

    cost: Cost
    whole: dict[str, Latency]
    network: dict[str, Latency]


def heads_of(names: list[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Those that exist here, all or the named ones."""
    methods = catalog.methods()
    found = {name: head for name, head in HEADS.items() if head[0] in methods}
    missing = [method for method in methods if all(head[0] != method for head in found.values())]
    found |= {method: (method, {}) for method in missing}
    return {name: head for name, head in found.items() if not names or name in names or name == BASE}


def settle(detector: Detector) -> None:
    """Features and maps of full size, as after training: in a new network's flat maps the highest cell is anywhere, in
    each runtime elsewhere. Weights of the head are drawn anew, BatchNorms take the statistics of noise."""
    for parameter in detector.head.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter, mode="fan_in")
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        detector.train()(torch.from_numpy(example_crops(detector.spec.size, 8)))
    detector.eval()


def measure(options: argparse.Namespace, size: Size, folder: Path) -> dict[str, Row]:
    """All heads at one size, interleaved."""
    skeleton = Skeleton("bench", tuple(f"point_{k}" for k in range(options.points)))
    costs, models = {}, {}
    for name, (method, settings) in heads_of(options.heads).items():
        torch.manual_seed(0)
        detector = detectors.build(DetectorSpec(options.backbone, method, settings, size, skeleton))
        settle(detector)
        models[name] = folder / name.replace(" ", "_")
        detectors.save(detector, models[name], Card(detector.spec))
        costs[name] = cost.static_cost(detector)
    jobs = [
        Job(models[name], runtime, part)
        for part in ("whole", "network")
        for runtime in options.runtimes
        for name in models
    ]
    latencies = cost.measure_jobs(jobs, make=onnx_export.of_run_folder, repeats=options.repeats, rounds=options.rounds)
    found = {(job.model, job.runtime, job.part): latency for job, latency in zip(jobs, latencies, strict=True)}
    return {
        name: Row(
            costs[name],
            {runtime: found[model, runtime, "whole"] for runtime in options.runtimes},
            {runtime: found[model, runtime, "network"] for runtime in options.runtimes},
        )
        for name, model in models.items()
    }


def line(name: str, row: Row, base: Row, runtime: str) -> str:
    """One head in one runtime."""
    whole, network = row.whole[runtime], row.network[runtime]
    begin = f"{name:24} {(row.cost.macs or 0) / 1e6:7.1f} {(row.cost.parameters or 0) / 1e6:6.2f}"
    error = whole.error or network.error
    if error:
        return f"{begin}  {error}"
    decode = [a - b for a, b in zip(whole.round_ms, network.round_ms, strict=True)]
    off = "" if whole.difference_px is None else f"{whole.difference_px:9.1e}"
    outside = "  decode in torch" if whole.decode == "outside" else ""
    return (
        f"{begin} {network.cpu_ms:8.2f} {statistics.median(decode):7.2f} {whole.cpu_ms:7.2f}"
        f" {cost.ratio(whole, base.whole[runtime]) or math.nan:10.2f}"
        f" {whole.median_ms:8.2f} {whole.p10_ms:6.2f}-{whole.p90_ms:<6.2f}"
        f" {(whole.model_memory_bytes or 0) / 2**20:5.0f} {off}{outside}"
    )


def judged(rows: dict[str, Row]) -> dict[str, dict[str, Any]]:
    """The two promises: sentence -> ratio, limit, kept; those whose heads were measured."""
    found = {}

    def judge(a: str, b: str, limit: float) -> None:
        if a in rows and b in rows and "onnxruntime" in rows[a].whole:
            value = cost.ratio(rows[a].whole["onnxruntime"], rows[b].whole["onnxruntime"])
            kept = value is not None and value <= limit
            found[f"{a} / {b}"] = {"ratio": value, "limit": limit, "kept": kept}

    judge(SEPARABLE, BASE, SEPARABLE_LIMIT)
    for name in LIKE_REGRESSION:
        judge(name, DECONVOLUTION, REGRESSION_LIMIT)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenetv3_small_100")
    parser.add_argument("--sizes", type=Size.parse, nargs="*", default=[Size(192, 256), Size(128, 128)])
    parser.add_argument("--points", type=int, default=17)
    parser.add_argument("--heads", nargs="*", default=[], help=f"of {', '.join(HEADS)} [all]; deeppose is always there")
    parser.add_argument("--runtimes", nargs="*", default=list(cost.OF_RUN_FOLDERS))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(options, size, Path(folder))
        print(f"\n{options.backbone}, {size}, {options.points} points, 1 thread, ms of one crop")
        for runtime in options.runtimes:
            print(
                f"\n{runtime:24}   MMACs      M  network  decode   whole x {BASE}    clock    p10-p90      MB"
                + ("" if runtime == "torch" else "       off")
            )
            for name, row in rows.items():
                print(line(name, row, rows[BASE], runtime))
        verdicts = judged(rows)
        print()
        for name, verdict in verdicts.items():
            value = "-" if verdict["ratio"] is None else f"{verdict['ratio']:.3f}"
            print(f"{name}: {value}, promised at most {verdict['limit']:g}: {'yes' if verdict['kept'] else 'no'}")
        result[str(size)] = {"heads": {name: asdict(row) for name, row in rows.items()}, "promises": verdicts}
    if options.json:
        print(json.dumps({"backbone": options.backbone, "points": options.points, "sizes": result}))


if __name__ == "__main__":
    main()
