"""One exported model on the images of a certificate, in a process that `certificate.py` starts: without torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from fiducial.data.images import read_image
from fiducial.errors import Failure
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Exported, ReadsFiles
from fiducial.types import Keypoints

# Two crops equal to the byte leave only what a network makes of one image alone and in a batch.
SAME_PX = 0.05


def _apart(inside: Keypoints, outside: Keypoints) -> float:
    """The largest distance, px; infinite where they are of other instances."""
    if inside.xy.shape != outside.xy.shape:
        return float("inf")
    return float(np.abs(inside.xy - outside.xy).max(initial=0))


def _whole(network: Exported, path: Path, image: np.ndarray, boxes: np.ndarray | None) -> Keypoints | None:
    """What the file makes of a whole picture; where its runtime decodes pictures itself, of the picture's file."""
    if isinstance(network, ReadsFiles):
        return network.look(path.read_bytes(), boxes)
    return network.full(image, boxes)


def answer(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Writes the points of all cases into FOLDER/answers.npz; gives {"version", "without_torch"} of the runtime.

    `task`: {"model", "folder", "cases": [{"files", "boxes"}]}. Where the file has its crop inside, that is what runs;
    the package's crop must give the same, else this fails."""
    run = runtime.opened(Path(task["model"]), threads=1)
    network = cast(Exported, run.network)
    answers = {}
    for i, case in enumerate(task["cases"]):
        for j, (path, given) in enumerate(zip(case["files"], case["boxes"], strict=True)):
            image, boxes = read_image(Path(path)), None if given is None else np.array(given, np.float32)
            outside = run(image, boxes)
            inside = _whole(network, Path(path), image, boxes)
            off = 0.0 if inside is None else _apart(inside, outside)
            if network.export.precision == "fp32" and not off <= SAME_PX:
                raise Failure(f"the crop in the file and the package's differ by {off:.3g} px on image {j} of case {i}")
            found = outside if inside is None else inside
            answers |= {f"{i}_{j}_xy": found.xy, f"{i}_{j}_score": found.score}
            answers |= {} if found.box_xywh is None else {f"{i}_{j}_box": found.box_xywh}
            answers |= {} if found.kind is None else {f"{i}_{j}_kind": found.kind}
            answers |= {} if found.sigma is None else {f"{i}_{j}_sigma": found.sigma}
            answers |= {} if found.correlation is None else {f"{i}_{j}_correlation": found.correlation}
    if isinstance(network, ReadsFiles):
        network.close()  # this process is killed when it has answered
    np.savez(Path(task["folder"]) / "answers.npz", **answers)
    yield {"version": runtime.version_of(network), "without_torch": "torch" not in sys.modules}
