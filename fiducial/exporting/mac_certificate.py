"""Finishes the certificate of a Core ML package, which no other system than macOS runs:

    pip install 'coremltools==9.0'
    python model.certify.py

Asks model.mlpackage beside this script about the crops in model.recorded.npz, on the CPU, compares its points with those of
torch that were recorded with them, and writes the result into model.certificate.json, where it said "not run". Exits with 1,
and leaves that as it was, where a point is further off than the limit. Needs coremltools and numpy, nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

INSTALL = "pip install 'coremltools==9.0'"
Answers = Callable[[np.ndarray], dict[str, np.ndarray]]  # one crop [1, h, w, 3] float32 -> outputs by name


def main(folder: Path) -> int:
    """Returns the exit status."""
    try:
        stem = next(folder.glob("*.mlpackage")).stem
        recorded = dict(np.load(folder / f"{stem}.recorded.npz"))
        path = folder / f"{stem}.certificate.json"
        certificate = json.loads(path.read_text(encoding="utf-8"))
        answers = package(folder / f"{stem}.mlpackage")
    except StopIteration:
        return refused(f"{folder}: no .mlpackage here; run this script in the folder of the export")
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        return refused(str(error))
    found = compared(recorded, answers)
    certificate |= found | {
        "runtime_version": f"coremltools {metadata.version('coremltools')}, {system()}",
        "without_torch": "torch" not in sys.modules,
        "not_run": None,
    }
    limit, of_crop = certificate["tolerance_px"], certificate["tolerance_crop_px"]
    print(f"at most {found['max_px']:.2g} px from torch (limit {limit} px), scores at most {found['max_score']:.2g}")
    for case in found["cases"]:
        case["limit_px"] = max(limit or 0.0, of_crop * case.pop("crop_px"))
        if limit is not None and not max(case["max_px"], found["max_sigma"] or 0.0) <= case["limit_px"]:
            return refused(
                f"further off than {case['limit_px']:.3g} px ({case['case']}): not certified, {path.name} is left as it was"
            )
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(certificate, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)
    print(f"certified: {path}")
    return 0


def package(path: Path) -> Answers:
    """Loads a package's default function."""
    if sys.platform != "darwin":
        raise RuntimeError("Core ML runs on macOS alone; run this script there")
    try:
        import coremltools  # type: ignore[import-not-found]
    except ImportError as error:
        raise RuntimeError(f"coremltools is not installed: {INSTALL}") from error
    model: Any = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    return lambda crop: model.predict({"crops": crop})


def compared(recorded: dict[str, np.ndarray], answers: Answers) -> dict[str, Any]:
    """Compares the answers with what was recorded: the figures of a certificate, distances in px of the pictures."""
    off, scores, sigmas = [], [0.0], []
    count = len(recorded["crops"])
    for i in range(count):
        answer = answers(recorded["crops"][i : i + 1].astype(np.float32))
        off.append(np.abs(answer["xy"][0] - recorded["xy"][i]) * recorded["picture_px"][i])
        scores.append(float(np.abs(answer["score"][0] - recorded["score"][i]).max(initial=0.0)))
        if "sigma" in recorded:
            expected = recorded["sigma"][i] * recorded["picture_px"][i]
            apart = np.abs(answer["sigma"][0] * recorded["picture_px"][i] - expected)
            sigmas.append(largest(apart / np.maximum(expected, 1)))
        print(f"\r{i + 1} of {count} crops", end="", file=sys.stderr)
    print(file=sys.stderr)
    cases = []
    for number, (name, pictures) in enumerate(zip(recorded["cases"], recorded["pictures"], strict=True)):
        apart = np.array([off[i] for i in np.flatnonzero(recorded["case"] == number)])
        mean = float(apart.mean()) if apart.size else 0.0
        case = {"case": str(name), "pictures": int(pictures), "instances": len(apart), "max_px": largest(apart)}
        crop_px = float(recorded["picture_px"][recorded["case"] == number].max(initial=1.0))
        cases.append({**case, "mean_px": mean, "crop_px": crop_px})
    return {
        "max_px": max(each["max_px"] for each in cases),
        "mean_px": float(np.mean([each["mean_px"] for each in cases])),
        "max_score": max(scores),
        "max_sigma": max(sigmas, default=None),
        "cases": cases,
    }


def largest(off: np.ndarray) -> float:
    """The largest of all; infinite where one is a NaN, which is no answer."""
    return float(np.where(np.isfinite(off), off, np.inf).max(initial=0.0))


def system() -> str:
    """Names the system that this runs on."""
    import platform

    return f"macOS {platform.mac_ver()[0]} {platform.machine()}"


def refused(why: str) -> int:
    """Says why nothing was certified."""
    print(why, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
