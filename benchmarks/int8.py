"""What int8 is worth: each model given is tried as `fiducial export --int8` tries it.

    python benchmarks/int8.py DATA RUN.. [--to openvino onnx] [--max-drop 0.01] [--json]

For each run folder and runtime: the verdict in a line, then NME on the val split, CPU time of a crop on one thread and
the size of each file that was tried, fp32 first, and the groups of layers whose int8 moves the points most. Speeds are
ratios of turns in one run, each file in a process of its own. Promised: on ResNet-50 with deconvolutions, or HRNet, at
least twice as fast as fp32 in OpenVINO at no more than 1 % of NME."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from fiducial import log
from fiducial.cli.output import print_table
from fiducial.errors import UserError
from fiducial.exporting.int8 import decide
from fiducial.exporting.int8.verdict import Verdict
from fiducial.models import detector as detectors
from fiducial.runtime import runtime


def verdict_of(run: Path, to: str, data: Path, max_drop: float) -> Verdict:
    """The files are thrown away."""
    detector, card = detectors.load(run)
    with tempfile.TemporaryDirectory() as folder, log.shown():
        return decide.export(detector, card, to, Path(folder), data=data, max_drop=max_drop)[1]


def candidates_table(verdict: Verdict) -> list[dict[str, Any]]:
    """Lists the files that were tried as rows of a printed table."""
    return [
        {
            "precision": each.precision,
            "groups in fp32": len(each.kept),
            "nme": f"{each.nme:.5f}",
            "drop": f"{each.drop:+.2%}",
            "ms": "-" if each.cpu_ms is None else f"{each.cpu_ms:.2f}",
            "times as fast": "-" if each.speedup is None else f"{each.speedup:.2f}",
            "MB": f"{each.bytes / 1e6:.2f}",
        }
        for each in verdict.candidates
    ]


def sensitivity_table(verdict: Verdict, most: int = 10) -> list[dict[str, Any]]:
    """Lists the most harmful groups as rows of a printed table; the JSON has all of them."""
    return [
        {"int8 in this alone": each.group, "operators": each.operators, "mean |dx| px": each.mean_px}
        for each in verdict.sensitivity[:most]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="labelled data with the models' points")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--to", nargs="+", default=["openvino"], choices=list(runtime.targets("INT8")))
    parser.add_argument("--max-drop", type=float, default=0.01, help="share by which NME may rise")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    found = []
    for run in options.runs:
        for to in options.to:
            try:
                made = verdict_of(run, to, options.data, options.max_drop)
            except UserError as error:
                sys.exit(f"{run}: {error}")
            print(f"\n{run.name}, {to}: {made.reason}")
            print_table(candidates_table(made))
            if made.sensitivity:
                print_table(sensitivity_table(made, 5))
            found.append({"run": run.name, **dataclasses.asdict(made)})
    if options.json:
        print(json.dumps({"max_drop": options.max_drop, "verdicts": found}))


if __name__ == "__main__":
    main()
