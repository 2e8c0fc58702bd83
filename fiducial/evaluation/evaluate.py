"""A detector on a labelled split, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fiducial import geometry
from fiducial.data import loading
from fiducial.errors import UserError
from fiducial.evaluation import metrics
from fiducial.evaluation.metrics import Metrics
from fiducial.models.detector import Detector
from fiducial.types import Instances, Keypoints


@dataclass(frozen=True)
class Evaluation:
    """A detector's points for the instances that could be read, and what they are worth."""

    instances: Instances  # [n] those that were scored
    keypoints: Keypoints  # [n, k] px of the images
    image_to_crop: np.ndarray  # [n, 3, 3] the crops that the detector saw
    metrics: Metrics
    problems: tuple[str, ...]  # pictures that could not be read


def evaluate_detector(
    detector: Detector, instances: Instances, *, flip_test: bool = False, box_jitter: float = 0.0, batch_size: int = 64
) -> Evaluation:
    """The detector on every instance, cut out by its (jittered) box. Pictures that can't be read are left out."""
    spec, device = detector.spec, detector.mean.device
    loader = loading.loader(instances, spec.size, batch_size, None, padding=spec.padding, box_jitter=box_jitter)
    rows, maps, found = [], [], []
    detector.eval()
    for batch in loader:
        keypoints = detector.predict(batch.image.to(device), flip_test).numpy()
        matrices = batch.image_to_crop.double().numpy()
        found.append(keypoints.mapped(geometry.invert(matrices)))
        rows.append(batch.row.numpy())
        maps.append(matrices)
    problems = loader.dataset.problems()  # type: ignore[attr-defined]
    seen = np.concatenate(rows)
    read = ~loader.dataset.broken.numpy().astype(bool)[instances.image_row[seen]]  # type: ignore[attr-defined]
    if not read.any():
        raise UserError(f"{instances.source}: none of its pictures can be read, first {problems[0]}")
    chosen = instances.select(seen[read])
    sigma = None if found[0].sigma is None else np.concatenate([part.sigma for part in found])[read]
    xy, scores = (np.concatenate([getattr(part, name) for part in found])[read] for name in ("xy", "score"))
    joined, matrices = Keypoints(xy, scores, sigma), np.concatenate(maps)[read]
    scored = metrics.score(chosen, joined, matrices, spec.size)
    return Evaluation(chosen, joined, matrices, scored, tuple(str(problem) for problem in problems))


def summary_of(evaluation: Evaluation, *, model: str, data: str, split: str) -> dict[str, Any]:
    """The JSON that DESIGN promises: fractions, not percent; None where there was nothing to measure."""
    found = evaluation.metrics
    return {
        "model": model,
        "data": data,
        "split": split,
        "count": found.count,
        "left_out": found.left_out,
        "normalizer": found.normalizer,
        "metrics": found.numbers(),
        "per_point": [{k: _finite(v) for k, v in asdict(point).items()} for point in found.points],
    }


def match_points(instances: Instances, wanted: tuple[str, ...], source: str) -> Instances:
    """The instances with the model's points, picked by name where the data have more; refused where some are missing."""
    own = instances.skeleton.points
    if own == wanted:
        return instances
    if set(wanted) <= set(own):
        return instances.pick_points([own.index(name) for name in wanted])
    if len(own) == len(wanted) and not set(own) & set(wanted):
        return instances  # other names for as many points: taken in order
    missing = [name for name in wanted if name not in own]
    raise UserError(
        f"{source}: has {len(own)} points, the model finds {len(wanted)}; missing in the data: {', '.join(missing[:5])}"
    )


def device_name() -> str:
    """The accelerator of this machine, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
