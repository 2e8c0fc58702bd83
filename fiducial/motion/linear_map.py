"""What points that were learnt without labels know about labelled ones: the error that is left when a linear map makes the
labelled points of them (Thewlis et al., "Unsupervised learning of object landmarks by factorized spatial embeddings", ICCV
2017; Jakab et al., "Unsupervised learning of object landmarks through conditional image generation", NeurIPS 2018).

The map takes all points of an instance to all labelled ones, both as shares of the crop's sides from its centre. It is
fitted on train by least squares without bias and scored on another split by the skeleton's NME. Two figures say what that
is worth: the mean shape of train in the same crops, and the same network with random weights through a map of its own.

Plain least squares is the published test. Where train has too few instances for so many points it would tell of noise
alone, so a ridge takes its place where cross-validation on train finds it better by more than 1 %; which is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fiducial import geometry
from fiducial.card import DetectorSpec
from fiducial.data import annotations
from fiducial.data.instance_crops import InstanceCrops
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.evaluation import evaluate, metrics
from fiducial.evaluation.metrics import Metrics
from fiducial.geometry import Size
from fiducial.progress import Advance, progress
from fiducial.runtime import runtime
from fiducial.types import Instances, Keypoints, Skeleton

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    Points = Float[np.ndarray, "n k 2"]

RIDGES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # strengths, of the inputs' mean square; 0 = least squares
WORTH = 0.99  # a ridge must have less than this share of least squares' error
FOLDS = 5
SEEDS = 3  # networks with random weights

Predict = Callable[[np.ndarray], Keypoints]  # uint8 RGB crops [n, h, w, 3] -> points in px of the crops
MODEL, MEAN_SHAPE, RANDOM = "model", "mean shape", "random weights"


@dataclass(frozen=True)
class Seen:
    """A split as networks saw it."""

    instances: Instances  # [n]
    image_to_crop: np.ndarray  # [n, 3, 3]
    size: Size  # of the crops
    points: Mapping[str, Points]  # each network's, shares of the crop's sides from its centre
    problems: tuple[str, ...] = ()

    @property
    def truth(self) -> Points:
        """The labelled points in the same frame."""
        xy = geometry.transform(self.image_to_crop, self.instances.xy.astype(np.float64))
        return centred(xy, self.size)

    @property
    def labelled(self) -> Bool[np.ndarray, "n m"]:
        return self.instances.labelled

    def measured(self, points: Points) -> tuple[Points, Metrics]:
        """Points in the frame of `truth` as px of the images, and what they are worth."""
        xy = geometry.unit_to_px(points + 0.5, self.size)
        xy = geometry.transform(geometry.invert(self.image_to_crop), xy)
        some = self.instances
        size = some.image_size[some.image_row]
        return xy, metrics.measure(
            xy, some.xy, some.labelled, box_xywh=some.box_xywh, image_size=size, skeleton=some.skeleton
        )


@dataclass(frozen=True)
class LinearMap:
    """Points of one kind -> points of another, without bias."""

    weights: Float[np.ndarray, "inputs outputs"]  # of x and y of each point
    ridge: float  # that it was fitted with

    def __call__(self, points: Points) -> Points:
        return (points.reshape(len(points), -1) @ self.weights).reshape(len(points), -1, 2)


@dataclass(frozen=True)
class Scored:
    """One way to the labelled points."""

    xy: Points  # px of the images
    metrics: Metrics
    map: LinearMap | None = None  # None: the mean shape needs none


def centred(xy: Points, size: Size) -> Points:
    """px of crops -> shares of their sides, from the middle: -0.5 and 0.5 at the outer edges."""
    return geometry.px_to_unit(xy, size) - 0.5


def scored(train: Seen, test: Seen) -> dict[str, Scored]:
    """Each network's points through a map fitted on train, and the mean shape, on `test`."""
    _refuse_unlabelled(train, test.instances.skeleton)
    truth, labelled, pictures = train.truth, train.labelled, train.instances.image_row
    found = {}
    for name, points in train.points.items():
        linear = fit(points, truth, labelled, pictures)
        found[name] = Scored(*test.measured(linear(test.points[name])), linear)
    shape = mean_shape(truth, labelled)
    found[MEAN_SHAPE] = Scored(*test.measured(np.broadcast_to(shape, test.truth.shape)))
    return found


# ------------------------------------------------------------------------------------------------ pure functions


def fit(points: Points, truth: Points, labelled: Bool[np.ndarray, "n m"], pictures: Int[np.ndarray, " n"]) -> LinearMap:
    """The map from points [n, k, 2] to truth [n, m, 2], each point of which is fitted where it is labelled. Instances of
    one picture are in the same fold when the ridge is chosen."""
    inputs, targets = points.reshape(len(points), -1), truth.reshape(len(truth), -1)
    used = np.repeat(labelled, 2, axis=1)
    ridge = chosen_ridge(inputs, targets, used, pictures)
    return LinearMap(least_squares(inputs, targets, used, ridge), ridge)


def least_squares(
    inputs: Float[np.ndarray, "n i"],
    targets: Float[np.ndarray, "n o"],
    used: Bool[np.ndarray, "n o"],
    ridge: float = 0.0,
) -> Float[np.ndarray, "i o"]:
    """Solves for the weights that minimise |inputs w - target|^2 + ridge n s |w|^2 over the `used` rows of each target,
    s the mean square of the inputs.

    Where several weights do (no ridge, and fewer rows than inputs), gives the smallest."""
    weights = np.zeros((inputs.shape[1], targets.shape[1]))
    masks, group = np.unique(used, axis=1, return_inverse=True)
    for i, mask in enumerate(masks.T):
        columns = np.flatnonzero(group.reshape(-1) == i)
        x, y = inputs[mask], targets[mask][:, columns]
        if ridge == 0:
            weights[:, columns] = np.linalg.lstsq(x, y, rcond=None)[0]
        else:
            penalty = ridge * max(float((x**2).sum()) / x.shape[1], 1e-12)
            weights[:, columns] = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return weights


def chosen_ridge(
    inputs: Float[np.ndarray, "n i"], targets: Float[np.ndarray, "n o"], used: Bool[np.ndarray, "n o"],
    pictures: Int[np.ndarray, " n"],
) -> float:  # fmt: skip
    """The strength with the least mean distance on folds of pictures that are left out; 0 unless another is clearly
    better, and where there are too few pictures to tell."""
    names = np.unique(pictures)
    if len(names) < 2 * FOLDS:
        return 0.0
    fold_of = dict(
        zip(np.random.default_rng(0).permutation(names).tolist(), np.arange(len(names)) % FOLDS, strict=True)
    )
    folds = np.array([fold_of[picture] for picture in pictures.tolist()])
    errors = []
    for ridge in RIDGES:
        wrong = np.full(targets.shape, np.nan)
        for fold in range(FOLDS):
            out = folds == fold
            weights = least_squares(inputs[~out], targets[~out], used[~out], ridge)
            wrong[out] = inputs[out] @ weights - targets[out]
        distance = np.linalg.norm(wrong.reshape(len(wrong), -1, 2), axis=-1)
        errors.append(float(distance[used[:, ::2]].mean()))
    best = int(np.argmin(errors))
    return RIDGES[best] if errors[best] < WORTH * errors[0] else 0.0


def mean_shape(truth: Points, labelled: Bool[np.ndarray, "n m"]) -> Float[np.ndarray, "m 2"]:
    """The mean place of each point where it is labelled."""
    weight = labelled[..., None].astype(np.float64)
    return (truth * weight).sum(0) / weight.sum(0)


# -------------------------------------------------------------------------------------------------------- gathering


@dataclass(frozen=True, kw_only=True)
class LinearMapEvaluation:
    """What a linear map made of a model's points."""

    model: Path
    data: Path
    split: str
    spec: DetectorSpec  # the model's
    runtime: str  # that it ran in
    scored: dict[str, Scored]  # the model, the mean shape, networks with random weights
    train: Seen
    test: Seen
    notes: list[str]  # what was assumed, and what could not be done
    problems: list[str]  # what was left out


def evaluate_by_linear_map(
    model: Path,
    data: Source,
    split: str,
    *,
    strict: bool = False,
    bar: bool = False,
) -> LinearMapEvaluation:
    """Fits a linear map from a model's points to the labelled ones on train and scores it on a split, beside the mean shape
    and the network with random weights. The progress is a `bar`, or lines."""
    if split == "train":
        raise UserError("--split train: the map is fitted on train, so it is scored on another: --split val or test")
    network = runtime.load(model).network
    train, findings = annotations.load(data, "train", strict=strict)
    test, more = annotations.load(data, split, strict=strict)
    train, test = usable(train), usable(evaluate.match_points(test, train.skeleton.points, str(data)))
    random, remark = _untrained(network.card.spec)
    networks = {MODEL: network.predict, **random}
    with progress("evaluate", len(train) + len(test), "crops", bar=bar) as advance:
        seen_train, seen_test = (see(networks, part, network.card.spec, advance) for part in (train, test))
    unread = [*seen_train.problems, *seen_test.problems]
    if strict and unread:
        raise UserError(f"{len(unread)} pictures can't be read, first {unread[0]}")
    said = list(dict.fromkeys([*findings, *more]))  # notes about both splits only once
    return LinearMapEvaluation(
        model=model,
        data=data.path,
        split=split,
        spec=network.card.spec,
        runtime=network.runtime,
        scored=scored(seen_train, seen_test),
        train=seen_train,
        test=seen_test,
        notes=[*(str(finding) for finding in said if finding.is_note), *remark],
        problems=[*(str(finding) for finding in said if not finding.is_note), *unread],
    )


def usable(instances: Instances) -> Instances:
    """Picks those with a labelled point, without crowds."""
    return instances.select(instances.labelled.any(1) & ~instances.crowd)


def see(
    networks: Mapping[str, Predict],
    instances: Instances,
    spec: DetectorSpec,
    advance: Advance = lambda count: None,
) -> Seen:
    """Shows the same crops to all networks. UserError where no image could be read. `advance` hears of each batch how many
    crops it was."""
    crops = InstanceCrops(instances=instances, spec=spec)
    rows, maps = [], []
    points: dict[str, list[np.ndarray]] = {name: [] for name in networks}
    for batch in crops:
        rows.append(batch.row)
        maps.append(batch.image_to_crop)
        for name, predict in networks.items():
            xy = np.asarray(predict(batch.image).xy, np.float64)
            if not np.isfinite(xy).all():
                raise UserError(f"{name}: the detector returned NaN or infinity, its weights are broken")
            points[name].append(centred(xy, spec.size))
        advance(len(batch.row))
    problems = tuple(str(problem) for problem in crops.problems)
    if not rows:
        raise UserError(
            f"{instances.source}: none of its pictures can be read, first {problems[0] if problems else ''}"
        )
    order = np.argsort(np.concatenate(rows))
    joined = {name: np.concatenate(parts)[order] for name, parts in points.items()}
    chosen = instances.select(np.concatenate(rows)[order])
    return Seen(chosen, np.concatenate(maps)[order], spec.size, joined, problems)


def _untrained(spec: DetectorSpec) -> tuple[dict[str, Predict], list[str]]:
    """The network with random weights, a few times; none, and a line about it, where there is no torch to build it."""
    try:
        device = evaluate.device_name()
    except ModuleNotFoundError:
        return {}, ["no row of random weights: building such networks needs torch: pip install 'fiducial[train]'"]
    return {f"{RANDOM}, seed {seed}": untrained(spec, seed, device) for seed in range(SEEDS)}, []


def untrained(spec: DetectorSpec, seed: int, device: str = "cpu") -> Predict:
    """The same network with random weights."""
    import torch

    from fiducial.models import detector as detectors

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector = detectors.build(spec, "no").eval().to(device)
    return lambda crops: detector.predict(torch.from_numpy(crops).to(device)).numpy()


def _refuse_unlabelled(train: Seen, skeleton: Skeleton) -> None:
    never = np.flatnonzero(~train.labelled.any(0))
    if len(never):
        raise UserError(
            f"{train.instances.source}: point {skeleton.points[never[0]]!r} is labelled nowhere in train, so no map to it "
            "can be fitted; expected every point to be labelled somewhere"
        )
