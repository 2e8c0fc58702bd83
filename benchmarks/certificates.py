"""Every method in every runtime against torch: one certificate each, in a table.

    python benchmarks/certificates.py DATA [RUN ..] [--to onnx openvino ncnn litert executorch coreml] [--json]

RUN: trained run folders. Without any, a small network of each method with random weights on DATA's points, settled on
noise, stands for it. Exits with 1 where a file is further off than the tolerance of `fiducial export`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from head_latency import settle

from fiducial.card import Card, DetectorSpec
from fiducial.data import annotations
from fiducial.errors import UserError
from fiducial.exporting import export
from fiducial.geometry import Size
from fiducial.models import catalog
from fiducial.models import detector as detectors
from fiducial.runtime import runtime


def untrained(data: Path, folder: Path) -> list[Path]:
    """A run folder of each method."""
    skeleton = annotations.load(data, "val")[0].skeleton
    found = []
    for method in catalog.methods():
        torch.manual_seed(0)
        detector = detectors.build(DetectorSpec("mobilenetv3_small_050", method, {}, Size(96, 128), skeleton))
        settle(detector)
        detectors.save(detector, folder / method, Card(detector.spec))
        found.append(folder / method)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--to", nargs="+", default=list(runtime.targets()))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, kept = [], True
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or untrained(options.data, Path(temporary) / "runs")
        for run in runs:
            for to in options.to:
                row = {"model": run.name, "runtime": to, "max_px": None, "mean_px": None, "max_score": None}
                try:
                    _, proof = export.export_model(run, to, Path(temporary) / f"{run.name}-{to}", data=options.data)
                    row |= {name: getattr(proof, name) for name in ("max_px", "mean_px", "max_score", "crop", "bytes")}
                    if proof.not_run is not None:
                        raise UserError(f"NOT RUN: {proof.not_run}")
                    said = f"max {proof.max_px:.1e} px  mean {proof.mean_px:.1e} px  score {proof.max_score:.0e}"
                    said += f"  {proof.bytes / 1e6:5.1f} MB  crop {proof.crop}"
                except UserError as error:
                    kept, said = False, str(error)
                rows.append(row)
                print(f"{run.name:22} {to:9} {said}", flush=True)
    if options.json:
        print(json.dumps({"data": str(options.data), "rows": rows}))
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
