"""Scores a model of any runtime on labelled instances. Nothing here imports torch; the network of a run folder does.

Every way to look at labelled data goes through here: images are read in full, cut by `data/instance_crops.py`, shown to
`Network.predict`, and what it finds is measured by `metrics.score`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fiducial import geometry
from fiducial.data import annotations
from fiducial.data.groups import Groups, groups_of
from fiducial.data.instance_crops import InstanceCrops
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.evaluation import floor, found, intervals, metrics, mistakes, spread, visibility
from fiducial.evaluation.floor import Floor
from fiducial.evaluation.metrics import Metrics
from fiducial.evaluation.mistakes import Mistakes
from fiducial.geometry import Size
from fiducial.progress import progress
from fiducial.runtime import runtime
from fiducial.runtime.finder import finder_of
from fiducial.runtime.runtime import Network
from fiducial.runtime.runtimes.torch_runtime import TorchNetwork
from fiducial.types import NOTE, Instances, Keypoints, Problem, Skeleton

if TYPE_CHECKING:
    from fiducial.models.detector import Detector


@dataclass(frozen=True)
class Evaluation:
    """A model's points for the instances that could be read, and what they are worth."""

    row: np.ndarray  # [n] of the instances that were given: those that could be looked at, rising
    instances: Instances  # [n] these
    keypoints: Keypoints  # [n, k] px of the images
    image_to_crop: np.ndarray  # [n, 3, 3] the crops that the model saw
    metrics: Metrics
    problems: tuple[str, ...]  # images that could not be read


@dataclass(frozen=True, kw_only=True)
class ModelEvaluation:
    """A model on a split of labelled data."""

    network: Network
    evaluation: Evaluation
    floor: Floor
    mistakes: Mistakes | None  # None: errors were not to be explained
    summary: dict[str, Any]  # what `--json` writes

    @property
    def problems(self) -> list[str]:
        """Lists what was left out, and notes on what was assumed."""
        return [*self.summary["notes"], *self.summary["problems"]]


def evaluate_model(
    model: Path | Network,
    data: Source | Path | Instances,
    split: str,
    *,
    strict: bool = False,
    flip_test: bool = False,
    box_jitter: float = 0.0,
    sigmas: tuple[float, ...] | None = None,
    explain: bool = False,
    finder: Path | None = None,
) -> ModelEvaluation:
    """Scores a run folder, an exported file or a loaded network on a split of labelled data, with its floor.

    Instances in memory are taken as they are, whatever `split` names. `strict` is that of `annotations.load`.
    `flip_test` averages over the image and its mirror image, which a run folder alone can. Boxes are disturbed by up to
    `box_jitter` of their sides. `sigmas` replace those of the data. `explain` says what kind of error each point is
    (`mistakes.py`). `finder`: a model whose finder is judged beside the true boxes [the model's own, where it has one];
    "no": none. Raises UserError where the model has none of the data's points."""
    if isinstance(model, Path):
        run = runtime.load(model, flip_test, finder=finder)
        network, finds = run.network, run.finder
    else:
        network, finds = model, finder_of(model)
    model, source = network.path, data.source if isinstance(data, Instances) else str(data)
    skeleton = network.card.spec.skeleton
    if not skeleton.named:
        raise UserError(
            f"{model}: its {len(skeleton.points)} points were learnt without labels, so none of them is a point of {source}. "
            "`fiducial evaluate MODEL DATA --linear-map` measures what they know of the labelled ones"
        )
    # Instances without points are detections that no label can judge: they count neither as found nor as missed.
    if isinstance(data, Instances):
        instances, findings, files, group = data, [], [], None
    else:
        instances, findings, data = annotations.load_for(skeleton, data, split, strict=strict, ignored=True)
        files, group = annotations.files_of(data, split), Source.of(data).group
    findings = [*findings, *_of_names(skeleton.points, instances.skeleton.points, source)]
    instances = match_points(instances, skeleton.points, source)
    if sigmas is not None:
        instances = replace(instances, skeleton=instances.skeleton.with_sigmas(sigmas))
    if instances.skeleton.sigmas is None:
        findings = [*findings, Problem(source, NOTE, metrics.no_sigmas(instances.skeleton))]
    evaluation = evaluate_network(network, instances, box_jitter=box_jitter)
    if strict and evaluation.problems:
        raise UserError(f"{len(evaluation.problems)} pictures can't be read, first {evaluation.problems[0]}")
    if isinstance(data, Instances):
        train = None
    else:
        train = evaluation.instances if split == "train" else train_of(data, skeleton.points)
    ground = floor.floor_of(evaluation.instances, train)
    together = groups_of(evaluation.instances, files, group)
    summary = summary_of(
        evaluation, model=str(model), data=source, split=split, ground=ground, findings=findings, groups=together
    )
    if finds is not None:
        summary["found"] = found.evaluate_found(network, finds, instances, evaluation.keypoints, evaluation.row)
    judged = None
    if explain:
        judged, errors = _explained(evaluation, network.card.spec.size)
        summary |= {**errors, "notes": [*summary["notes"], *errors["notes"]]}
    return ModelEvaluation(network=network, evaluation=evaluation, floor=ground, mistakes=judged, summary=summary)


def _of_names(wanted: tuple[str, ...], own: tuple[str, ...], source: str) -> list[Problem]:
    """Says how the data's points were taken for the model's, where they are not alike."""
    said = []
    if not set(own) & set(wanted):
        said.append(in_order_note(wanted, own))
    if set(own) < set(wanted):
        said.append(lacking_note(wanted, own))
    return [Problem(source, NOTE, text) for text in said]


def _explained(evaluation: Evaluation, crop_size: Size) -> tuple[Mistakes, dict[str, Any]]:
    """Says what kind of error each point is, and what each kind costs; ready for JSON."""
    truth, keypoints, crops = evaluation.instances, evaluation.keypoints, evaluation.image_to_crop

    def measured(xy: np.ndarray) -> dict[str, float | None]:
        return metrics.score(truth, replace(keypoints, xy=xy), crops, crop_size).numbers()

    judged = mistakes.of_model(keypoints, truth, crops, crop_size)
    notes = mistakes.notes(truth, crops=True, radius=mistakes.doubts_labels(keypoints))
    return judged, {"errors": mistakes.as_json(judged, truth, keypoints.xy, measured), "notes": notes}


def evaluate_network(network: Network, instances: Instances, *, box_jitter: float = 0.0) -> Evaluation:
    """Scores a loaded network on every instance, cut out by its (jittered) box. Images that can't be read are left out and
    listed; UserError where none can."""
    crops = InstanceCrops(instances=instances, spec=network.card.spec, box_jitter=box_jitter)
    rows, maps, parts = [], [], []
    with progress("score", len(instances), "instances", bar=False) as advance:
        for batch in crops:
            rows.append(batch.row)
            maps.append(batch.image_to_crop)
            parts.append(network.predict(batch.image).mapped(geometry.invert(batch.image_to_crop)))
            advance(len(batch.row))
    problems = tuple(str(problem) for problem in crops.problems)
    if not rows:
        reason = f", first {problems[0]}" if problems else "; expected at least one instance with a box"
        raise UserError(f"{instances.source}: none of its pictures can be read{reason}")
    order = np.argsort(np.concatenate(rows))
    row = np.concatenate(rows)[order]
    keypoints, image_to_crop = Keypoints.joined(parts).select(order), np.concatenate(maps)[order]
    chosen = instances.select(row)
    scored = metrics.score(chosen, keypoints, image_to_crop, network.card.spec.size)
    return Evaluation(row, chosen, keypoints, image_to_crop, scored, problems)


def evaluate_detector(
    detector: Detector, instances: Instances, *, flip_test: bool = False, box_jitter: float = 0.0
) -> Evaluation:
    """Scores a detector of torch that is in memory, as `evaluate_network` does."""
    return evaluate_network(TorchNetwork(detector, flip_test=flip_test), instances, box_jitter=box_jitter)


def train_of(data: Source | Path, points: tuple[str, ...]) -> Instances | None:
    """Reads the labels that a model of these points could learn from, for its floor; None where there are none."""
    try:
        train, _ = annotations.load(data, "train", verify=False)
        return match_points(train, points, str(data))
    except UserError:
        return None


def summary_of(
    evaluation: Evaluation,
    *,
    model: str,
    data: str,
    split: str,
    ground: Floor | None = None,
    findings: Sequence[Problem] = (),
    groups: Groups | None = None,
) -> dict[str, Any]:
    """Makes what `--json` writes: fractions, not percent; None where there was nothing to measure. groups: by which figures
    have intervals."""
    scored = evaluation.metrics
    apart = metrics.by_visibility(evaluation.keypoints.xy, evaluation.instances)
    return {
        "model": model,
        "data": data,
        "split": split,
        "count": scored.count,
        "left_out": scored.left_out,
        "normalizer": scored.normalizer,
        "metrics": scored.numbers(),
        **(
            {}
            if groups is None
            else intervals.of_instances(evaluation.instances, evaluation.keypoints, scored.instance_counts, groups)
        ),
        **({} if ground is None else {"floor": ground.as_json()}),
        "per_point": scored.per_point_rows(),
        **({"by_visibility": apart} if apart else {}),
        **spread.as_json(evaluation.keypoints, evaluation.instances),
        **visibility.as_json(evaluation.keypoints, evaluation.instances),
        "notes": [str(finding) for finding in findings if finding.is_note],
        "problems": [*(str(finding) for finding in findings if not finding.is_note), *evaluation.problems],
    }


def match_points(instances: Instances, wanted: tuple[str, ...], source: str) -> Instances:
    """Arranges the points as the model has them, by name: what the data have beside them is left out, and what they lack
    is not labelled. Refused where some of the data's points are not the model's while others of the model's are missing."""
    own = instances.skeleton.points
    if own == wanted:
        return instances
    if set(wanted) <= set(own):
        return instances.pick_points([own.index(name) for name in wanted])
    if len(own) == len(wanted) and not set(own) & set(wanted):
        return instances  # other names for as many points: taken in order
    if set(own) < set(wanted):
        return instances.with_points(_widened(instances.skeleton, wanted))
    missing = [name for name in wanted if name not in own]
    raise UserError(
        f"{source}: has {len(own)} points, the model finds {len(wanted)}; missing in the data: {', '.join(missing[:5])}"
    )


def _widened(skeleton: Skeleton, wanted: tuple[str, ...]) -> Skeleton:
    """The skeleton with further points, of which nothing is known: their sigmas are never used."""
    new = {old: wanted.index(name) for old, name in enumerate(skeleton.points)}
    ends, sigmas = skeleton.normalizer.points, dict(zip(skeleton.points, skeleton.sigmas or (), strict=False))
    normalizer = (
        skeleton.normalizer if ends is None else replace(skeleton.normalizer, points=(new[ends[0]], new[ends[1]]))
    )
    return Skeleton(
        skeleton.name,
        wanted,
        tuple((new[a], new[b]) for a, b in skeleton.edges),
        sigmas=tuple(sigmas.get(name, 1.0) for name in wanted) if sigmas else None,
        groups={name: tuple(new[i] for i in group) for name, group in skeleton.groups.items()},
        normalizer=normalizer,
    )


def lacking_note(wanted: tuple[str, ...], own: tuple[str, ...]) -> str:
    """Says that a model has points that the data lack."""
    missing = [name for name in wanted if name not in own]
    few = ", ".join(missing[:5]) + ", .." * (len(missing) > 5)
    return f"{len(missing)} of the model's {len(wanted)} points are not in the data and not scored: {few}"


def in_order_note(wanted: tuple[str, ...], own: tuple[str, ...]) -> str:
    """Says that points of other names are taken in order."""
    return (
        f"its points have other names than the model's and are taken in order: {own[0]!r} is {wanted[0]!r}, and so on"
    )


def device_name() -> str:
    """Names the accelerator of this machine, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
