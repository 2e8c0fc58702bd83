"""Images without labels: what the averaged weights find on them is learnt from, beside the labels of others.

A step sees each unlabelled crop twice: plain, as validation sees crops, and strongly augmented. The averaged weights (a
mean teacher: Tarvainen and Valpola, NeurIPS 2017) find points on the plain one and its mirror image, and the map from the one crop to the other
takes them to where the network must find them on the second (from weak to strong: FixMatch, Sohn et al., NeurIPS 2020).
Points of too low a score are left out; `sure_from` says how val decides on that. When the averaged weights teach, and
when no longer, is decided by `watch.Teaching`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fiducial import geometry
from fiducial.data import loading
from fiducial.data.augment import AugmentSpec
from fiducial.data.loading import Crops, Draw, ImageGroupedSampler, batches_an_epoch
from fiducial.evaluation import metrics
from fiducial.models.detector import Detector
from fiducial.training.objective import Objective, Supervised, raw_rows
from fiducial.training.recipe import Recipe, UnlabelledSpec
from fiducial.training.scoring import PointErrors
from fiducial.types import Batch, Instances, Problem

STRONGER = 3  # times as often as labelled crops, unlabelled ones are blurred, noisy and covered by a patch
NEAR = 2 / 3  # of the mean shape's error on val: a point is right that is nearer to its label
RIGHT = 0.9  # share of the points of a sufficient score that must be right
LEAST = 0.1  # share of val's points that must have such a score: what fewer ones tell is chance


# -------------------------------------------------------------------------------------------------------- batches


class MixedBatch(NamedTuple):
    """Holds b labelled crops, as `Batch` does, and u unlabelled ones, plain and strongly augmented."""

    image: UInt8[Tensor, "b h w 3"]
    xy: Float[Tensor, "b k 2"]
    labelled: Float[Tensor, "b k"]
    image_to_crop: Float[Tensor, "b 3 3"]
    row: Int64[Tensor, " b"]
    plain: UInt8[Tensor, "u h w 3"]
    strong: UInt8[Tensor, "u h w 3"]
    plain_to_strong: Float[Tensor, "u 3 3"]  # px of the plain crop -> px of the strong one

    @property
    def supervised(self) -> Batch:
        """Gives the labelled part."""
        return Batch(*self[:5])


class MixedDraw(NamedTuple):
    """Says all that one batch depends on."""

    labelled: Draw
    unlabelled: Draw


class MixedSampler(Sampler[MixedDraw]):
    """Draws labelled and unlabelled rows, each in their own order and as often as there are batches of labelled ones.
    No unlabelled ones where `wanted`, asked as an epoch begins, says so."""

    def __init__(
        self, labelled: ImageGroupedSampler, unlabelled: ImageGroupedSampler, wanted: Callable[[], bool]
    ) -> None:
        self.labelled, self.unlabelled, self.wanted = labelled, unlabelled, wanted

    def set_epoch(self, epoch: int) -> None:
        """To be called before each pass, as that of `ImageGroupedSampler`."""
        self.labelled.set_epoch(epoch)
        self.unlabelled.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.labelled)

    def __iter__(self) -> Iterator[MixedDraw]:
        draws = zip(self.labelled, self.unlabelled, strict=True)
        if self.wanted():
            return (MixedDraw(*pair) for pair in draws)
        return (MixedDraw(labelled, Draw(other.epoch, other.rows[:0])) for labelled, other in draws)


class MixedCrops(Dataset[MixedBatch]):
    """Makes the batches. An unlabelled image that can't be read is replaced by the next one."""

    def __init__(self, labelled: Crops, strong: Crops, plain: Crops) -> None:
        self.labelled, self.strong, self.plain = labelled, strong, plain

    def __getitem__(self, draw: MixedDraw) -> MixedBatch:
        strong = self.strong[draw.unlabelled]
        plain = self.plain[Draw(draw.unlabelled.epoch, strong.row.numpy())]
        back = geometry.invert(plain.image_to_crop.double().numpy())
        between = geometry.compose(back, strong.image_to_crop.double().numpy())
        between = torch.from_numpy(between.reshape(-1, 3, 3).astype(np.float32))
        return MixedBatch(*self.labelled[draw.labelled], plain.image, strong.image, between)

    def problems(self) -> list[Problem]:
        """Lists images that could not be read since the last call."""
        return [*self.labelled.problems(), *self.strong.problems()]


def loader(
    labelled: Instances,
    unlabelled: Instances,
    recipe: Recipe,
    spec: UnlabelledSpec,
    *,
    wanted: Callable[[], bool],
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader:
    """Loads mixed batches for training, as `loading.loader` loads labelled ones. `wanted` as in `MixedSampler`."""
    size, padding = recipe.size, recipe.padding
    crops, draws = loading.crops_and_draws(
        labelled,
        size,
        recipe.batch_size,
        recipe.augment,
        seed=recipe.seed,
        passes=recipe.passes,
        rank=rank,
        world=world,
        padding=padding,
        strict=recipe.strict,
    )
    pool = replace(unlabelled, images=loading.cached(unlabelled, loading.CACHE_BYTES))
    strong, others = loading.crops_and_draws(
        pool,
        size,
        max(1, round(spec.share * recipe.batch_size)),
        strongly(recipe.augment),
        rows=np.arange(len(pool)),
        seed=recipe.seed + 1,
        rank=rank,
        world=world,
        padding=padding,
        strict=recipe.strict,
    )
    others.passes = len(draws) / batches_an_epoch(len(pool), others.batch_size, world)
    plain = Crops(pool, size, None, padding=padding, strict=recipe.strict)
    return loading.loader_of(MixedCrops(crops, strong, plain), MixedSampler(draws, others, wanted), workers)


def strongly(spec: AugmentSpec) -> AugmentSpec:
    """Makes what unlabelled crops are augmented by: the same views, more often blurred, noisy and covered."""
    often = {name: min(1.0, STRONGER * getattr(spec, name)) for name in ("blur", "noise", "occlusion")}
    return replace(spec, **often)


# ------------------------------------------------------------------------------------------------ what is minimised


class SelfTaught(Supervised):
    """The head's own loss on labelled points, and on the points that the averaged weights find on unlabelled crops; its
    batches are `MixedBatch`es.

    The second is weighed by `weight` and by the share of the points that are kept."""

    teacher: Detector | None  # the averaged weights, without gradients; not a part of this module

    def __init__(self, detector: Detector, *, mirrors: bool) -> None:
        super().__init__(detector)
        object.__setattr__(self, "teacher", None)
        self.mirrors = mirrors  # whether the teacher looks at the mirror image too
        self.sure_from: float | None = None  # the lowest score of a point that is believed; None: none is
        self.weight = 0.0
        self.kept: Tensor | None = None  # share of the points that were believed in the last step

    def forward(self, batch: Any) -> dict[str, Float[Tensor, ""]]:
        taught = self.taught(batch)
        self.kept = None if taught is None else taught.labelled.mean()
        if taught is None or not self.kept:
            return super().forward(batch.supervised)
        count = len(batch.row)
        raw = self.raw_of(torch.cat([batch.image, taught.image]))  # together: norms see both
        losses = self.losses_of(raw_rows(raw, slice(count)), batch.supervised)
        with torch.autocast(batch.image.device.type, enabled=False):
            others = self.detector.head.loss(raw_rows(raw, slice(count, None)), taught)
        return {**losses, "unlabelled": self.weight * self.kept * torch.stack(list(others.values())).sum()}

    def each(self, batch: Any) -> Tensor:
        return super().each(batch.supervised)

    @torch.no_grad()
    def taught(self, batch: MixedBatch) -> Batch | None:
        """Makes the strong crops with the points that the averaged weights find on the plain ones; None where nothing is to
        be taught."""
        if self.teacher is None or self.sure_from is None or self.weight == 0 or len(batch.plain) == 0:
            return None
        keypoints = self.teacher.predict(batch.plain, flip_test=self.mirrors)
        xy = keypoints.xy.clone()  # what a prediction gives can't be a part of a loss
        xy = geometry.transform(batch.plain_to_strong, xy)
        sure = keypoints.score >= self.sure_from
        mirrored = geometry.mirrors(batch.plain_to_strong)
        if mirrored.any():
            order = torch.from_numpy(self.detector.spec.skeleton.flip_order).to(xy.device)
            xy = torch.where(mirrored[:, None, None], xy[:, order], xy)
            sure = torch.where(mirrored[:, None], sure[:, order], sure)
        sure = sure & xy.isfinite().all(-1)
        return Batch(
            batch.strong,
            torch.where(sure[..., None], xy, 0.0),
            sure.to(xy.dtype),
            batch.plain_to_strong,
            torch.arange(len(batch.plain), device=xy.device),
        )


# ---------------------------------------------------------------------------------------------------- what val tells


class Calibration(PointErrors):
    """Scores val as `PointErrors` does, and says from which score on the points of these weights are to be believed."""

    def __init__(self, truth: Instances, floor: float) -> None:
        super().__init__(truth)
        self.near = NEAR * floor
        self._observed: list[tuple[Tensor, Tensor, Tensor]] = []
        self.sure_from: float | None = None
        self.instance_nme = np.empty(0)  # [n] of val, in its order; NaN where it is not measured

    def observe(self, objective: Objective, batch: Batch) -> None:
        keypoints = objective.detector.predict(batch.image)
        self._predicted.append((batch.row, keypoints.xy, batch.image_to_crop))
        distance = torch.linalg.vector_norm(keypoints.xy - batch.xy, dim=-1)
        error_px = distance / geometry.scale_of(batch.image_to_crop)[:, None]  # of the image
        self._observed.append((batch.row, torch.where(batch.labelled > 0, error_px, torch.nan), keypoints.score))

    def scores(self) -> dict[str, float]:
        columns = zip(*self._observed, strict=True)
        rows, error_px, score = (torch.cat(column).cpu().numpy() for column in columns)
        self._observed.clear()
        some = self.truth.select(rows)
        size = some.image_size[some.image_row]
        length = metrics.normalizer_px(some.skeleton.normalizer, some.xy, some.labelled, some.box_xywh, size)
        error = metrics.normalized(error_px, length)
        measured = np.isfinite(error)
        self.instance_nme = metrics.mean_of_instance(error)
        self.sure_from = sure_from(error[measured], score[measured], self.near)
        return super().scores()


def sure_from(error: np.ndarray, score: np.ndarray, near: float) -> float | None:
    """Finds the lowest score from which on 9 of 10 points are nearer than `near`; None where a tenth of the points has
    none. error [m] and score [m] of labelled points."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    right = np.cumsum(error[order] < near) / np.arange(1, len(error) + 1)
    is_last = np.append(ranked[1:] < ranked[:-1], True)[: len(ranked)]  # of equal scores
    enough = np.flatnonzero(is_last & (right >= RIGHT))
    return float(ranked[enough[-1]]) if len(enough) and enough[-1] + 1 >= LEAST * len(error) else None
