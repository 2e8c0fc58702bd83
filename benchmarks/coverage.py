"""How many true points lie within the radii that a model gives, on data that it has not seen; before and after export.

    python benchmarks/coverage.py DATA RUN [RUN ..] [--split test] [--calibrate DATA] [--anew] [--to onnx openvino ncnn]

A run without radii, of an older Fiducial or another project, is measured anew on val of --calibrate [DATA], with --anew any. Each
row: the nominal shares, what was held, the 95 % range of that share (points of one image miss together, here and where the radii
were measured), and the rank correlation of radius and error; where the method tells how errors in x and y go together, the
factor that val gives to it, and by how many nats a point errors within 4 sigmas are likelier so than with x and y each by
itself, as Gaussians, with a 95 % range over images."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fiducial.data import annotations
from fiducial.evaluation import evaluate, spread
from fiducial.exporting import export
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Network
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork
from fiducial.training import fit
from fiducial.types import Instances, Keypoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--split", default="test")
    parser.add_argument("--calibrate", type=Path)
    parser.add_argument("--anew", action="store_true")
    parser.add_argument("--to", nargs="*", default=[])
    chosen = parser.parse_args()
    truth, _ = annotations.load(chosen.data, chosen.split)
    usual = "/".join(f"{100 * share:.0f}" for share in spread.PRINTED)
    print(f"{'run':24} {'file':10} {'power':>5}  {usual} % held, ± of the test, ± of the calibration; rank correlation")
    for run in chosen.runs:
        detector, card = detectors.load(run)
        if detector.spec.spread is None or chosen.anew:
            fit.calibrate(detector, annotations.load(chosen.calibrate or chosen.data, "val")[0])
            card = replace(card, spec=detector.spec)
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / "run"
            detectors.save(detector, saved, card)
            for name, network in networks(detector, saved, chosen.to, chosen.data):
                print(f"{run.name:24} {name:10} {row(network, truth)}", flush=True)


def networks(detector: Detector, saved: Path, targets: list[str], data: Path) -> Iterator[tuple[str, Network]]:
    yield "torch", TorchNetwork(detector)
    for to in targets:
        file, _ = export.export_model(saved, to, saved.with_name(to), data=data)
        yield to, runtime.load(file).network


def row(network: Network, truth: Instances) -> str:
    found = evaluate.evaluate_network(network, evaluate.match_points(truth, network.card.spec.skeleton.points, "data"))
    keypoints, measured = found.keypoints, network.card.spec.spread
    assert measured is not None
    tested = [each for each in spread.coverage(keypoints, found.instances) if each.share in spread.PRINTED]
    held = "/".join(f"{100 * each.covered:.1f}" for each in tested)
    here = "/".join(f"{50 * (each.high - each.low):.1f}" for each in tested)
    before = "/".join(f"{100 * measured.margins[measured.shares.index(each.share)]:.1f}" for each in tested)
    labelled = found.instances.labelled & ~found.instances.crowd[:, None]
    errors = np.linalg.norm(keypoints.xy - found.instances.xy, axis=-1)[labelled]
    far, told = (np.argsort(np.argsort(values)) for values in (errors, keypoints.radius(0.9)[labelled]))
    rank = f"{np.corrcoef(far, told)[0, 1]:.2f}"
    return f"{measured.power:5.2f}  {held}  ±{here}  ±{before}  {rank}{leaning(keypoints, found.instances, labelled)}"


def leaning(keypoints: Keypoints, instances: Instances, labelled: np.ndarray) -> str:
    """What is told of x and y together, where something is."""
    if keypoints.correlation is None or keypoints.spread is None:
        return ""
    in_sigmas = ((keypoints.xy - instances.xy) / keypoints.sigma)[labelled]
    near = np.linalg.norm(in_sigmas, axis=1) <= spread.FAR
    x, y = (in_sigmas[near] / np.sqrt((in_sigmas[near] ** 2).mean(0))).T
    told = keypoints.correlation[labelled][near]
    rest = 1 - told**2
    gain = (x * x + y * y - (x * x - 2 * told * x * y + y * y) / rest - np.log(rest)) / 2
    image = np.repeat(instances.image_row, labelled.sum(1))[near]
    each = np.array([gain[image == row].mean() for row in np.unique(image)])
    apart = 1.96 * each.std(ddof=1) / len(each) ** 0.5
    return f"  leaning x {keypoints.spread.correlation:.2f}, rms {np.sqrt((told**2).mean()):.2f}: {gain.mean():+.4f} ± {apart:.4f}"


if __name__ == "__main__":
    main()
