"""A model on a labelled split, in numbers. Nothing here imports torch until a detector of torch is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.evaluation import metrics
from fiducial.evaluation.metrics import Metrics
from fiducial.geometry import Size
from fiducial.types import Instances, Keypoints

if TYPE_CHECKING:
    from fiducial.models.detector import Detector


class Found(NamedTuple):
    """A model's points for some of the instances: those b of a batch whose pictures could be read."""

    row: np.ndarray  # [b] of Instances
    keypoints: Keypoints  # [b, k] numpy, px of the images
    image_to_crop: np.ndarray  # [b, 3, 3] float64, the crops that the model saw
    problems: tuple[str, ...] = ()  # pictures that could not be read and were not named before


@dataclass(frozen=True)
class Evaluation:
    """A model's points for the instances that could be read, and what they are worth."""

    instances: Instances  # [n] those that were scored
    keypoints: Keypoints  # [n, k] px of the images
    image_to_crop: np.ndarray  # [n, 3, 3] the crops that the model saw
    metrics: Metrics
    problems: tuple[str, ...]  # pictures that could not be read


def evaluate_found(instances: Instances, found: Iterable[Found], size: Size) -> Evaluation:
    """What a model of any runtime found, batch by batch, scored; `size` is its crop's. UserError where no picture could
    be read."""
    parts = list(found)
    rows = np.concatenate([part.row for part in parts])
    problems = tuple(line for part in parts for line in part.problems)
    if len(rows) == 0:
        raise UserError(f"{instances.source}: none of its pictures can be read, first {problems[0]}")
    chosen, maps = instances.select(rows), np.concatenate([part.image_to_crop for part in parts])
    keypoints = _joined([part.keypoints for part in parts])
    return Evaluation(chosen, keypoints, maps, metrics.score(chosen, keypoints, maps, size), problems)


def evaluate_detector(
    detector: Detector, instances: Instances, *, flip_test: bool = False, box_jitter: float = 0.0, batch_size: int = 64
) -> Evaluation:
    """A detector of torch on every instance, cut out by its (jittered) box. Pictures that can't be read are left out."""
    found = _found_by(detector, instances, flip_test, box_jitter, batch_size)
    return evaluate_found(instances, found, detector.spec.size)


def _found_by(
    detector: Detector, instances: Instances, flip_test: bool, box_jitter: float, batch_size: int
) -> Iterator[Found]:
    from fiducial.data import loading

    spec, device = detector.spec, detector.mean.device
    loader = loading.loader(instances, spec.size, batch_size, None, padding=spec.padding, box_jitter=box_jitter)
    crops: Any = loader.dataset
    detector.eval()
    for batch in loader:
        found, maps = detector.predict(batch.image.to(device), flip_test).numpy(), batch.image_to_crop.double().numpy()
        found, row = found.mapped(geometry.invert(maps)), batch.row.numpy()
        read = crops.broken.numpy()[instances.image_row[row]] == 0
        problems = tuple(str(problem) for problem in crops.problems())
        yield Found(row[read], _picked(found, read), maps[read], problems)


def summary_of(evaluation: Evaluation, *, model: str, data: str, split: str) -> dict[str, Any]:
    """Gives what is written as JSON: fractions, not percent; None where there was nothing to measure."""
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


def _picked(points: Keypoints, rows: np.ndarray) -> Keypoints:
    """Some of the instances, by a mask."""
    return Keypoints(**{name: None if value is None else value[rows] for name, value in vars(points).items()})


def _joined(parts: list[Keypoints]) -> Keypoints:
    """Batches one after the other."""
    there = [name for name, value in vars(parts[0]).items() if value is not None]
    return Keypoints(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in there})


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
