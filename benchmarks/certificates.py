"""Every method in every runtime against torch: one certificate each, in a table.

    python benchmarks/certificates.py DATA [RUN ..] [--to onnx openvino ncnn litert executorch coreml] [--int8] [--ms] [--finder RUN] [--json]

RUN: trained run folders. Without any, a small network of each method with random weights on DATA's points, settled on
noise, stands for it. --int8: each runtime that rounds is tried so, too, by the gate of `fiducial export --int8`, on DATA;
trained runs are needed, and what is refused is said. --ms: all files of a run are timed in turns, each in a process of its
own, beside the first. --finder: the finder of that run stands beside each untrained network, so that the whole of finder, crop,
network and decode is certified. Exits with 1 where a file is further off than the tolerance of `fiducial export`; int8 has none."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from head_latency import settle

from fiducial import files
from fiducial.card import FINDER, Card, DetectorSpec
from fiducial.data import annotations
from fiducial.errors import UserError
from fiducial.exporting import export
from fiducial.geometry import Size
from fiducial.models import catalog
from fiducial.models import detector as detectors
from fiducial.runtime import cost, runtime


def untrained(data: Path, folder: Path, finder: Path | None) -> list[Path]:
    """A run folder of each method, with another run's finder or without."""
    skeleton = annotations.load(data, "val")[0].skeleton
    found = []
    for method in catalog.methods():
        torch.manual_seed(0)
        detector = detectors.build(DetectorSpec("mobilenetv3_small_050", method, {}, Size(96, 128), skeleton))
        settle(detector)
        detectors.save(detector, folder / method, Card(detector.spec))
        if finder is not None:
            shutil.copytree(finder / FINDER, folder / method / FINDER)
        found.append(folder / method)
    return found


def tried(run: Path, to: str, data: Path, out: Path, max_drop: float | None) -> dict[str, Any]:
    """The row of a run in a runtime, in int8 where `max_drop` is a number; "said" is for people. UserError where it is not
    certified."""
    int8 = None if max_drop is None else data
    file, proof = export.export_model(run, to, out, data=data, int8=int8, max_drop=max_drop or 0.0)
    row = {name: getattr(proof, name) for name in ("precision", "max_px", "mean_px", "max_score", "crop", "bytes")}
    if proof.not_run is not None:
        raise UserError(f"NOT RUN: {proof.not_run}")
    row |= {"file": str(file), "real_px": proof.cases[0].max_px}
    said = f"max {proof.max_px:.1e} px (real {proof.cases[0].max_px:.1e})  mean {proof.mean_px:.1e} px"
    said += f"  score {proof.max_score:.0e}  {proof.bytes / 1e6:5.1f} MB  crop {proof.crop}"
    if int8 is not None:
        verdict = files.read_object(out / "model.int8.json")
        row |= {"accepted": verdict["accepted"], "reason": verdict["reason"]}
        said = f"{verdict['reason']}; {said}" if verdict["accepted"] else verdict["reason"]
    return {**row, "said": said}


def timed(rows: list[dict[str, Any]]) -> None:
    """Adds the ms of each file of a run, and how many times those of the first that is."""
    there = {str(i): Path(row["file"]) for i, row in enumerate(rows) if "file" in row and row.get("accepted", True)}
    found = {i: next(iter(each.values())) for i, each in cost.measure_many(there).items()}
    first = next(iter(found.values()), None)
    for i, latency in found.items():
        row = rows[int(i)]
        row |= {"ms": latency.median_ms, "ratio": None if first is None else cost.ratio(latency, first)}
        told = latency.error or f"{row['ms']:.2f} ms, {row['ratio']:.2f}x"
        print(f"{row['model']:22} {row['runtime']:10} {row['precision']:5} {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--to", nargs="+", default=list(runtime.targets()))
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--ms", action="store_true")
    parser.add_argument("--finder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, kept = [], True
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or untrained(options.data, Path(temporary) / "runs", options.finder)
        for run in runs:
            of_run = []
            for to in options.to:
                for drop in (None, options.max_drop) if options.int8 and to in runtime.targets("INT8") else (None,):
                    row = {"model": run.name, "runtime": to, "precision": "fp32" if drop is None else "int8"}
                    out = Path(temporary) / f"{run.name}-{to}-{row['precision']}"
                    try:
                        row |= tried(run, to, options.data, out, drop)
                    except UserError as error:
                        kept, row["said"] = False, str(error)
                    of_run.append(row)
                    print(f"{run.name:22} {to:10} {row['precision']:5} {row['said']}", flush=True)
            if options.ms:
                timed(of_run)
            rows += of_run
    if options.json:
        print(json.dumps({"data": str(options.data), "rows": rows}))
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
