"""Says what a figure stands beside: the NME of the mean shape, which looks at no image, and of people who label twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fiducial import files, geometry
from fiducial.data.skeletons import COCO17
from fiducial.evaluation import metrics
from fiducial.types import Instances, Skeleton

# Mean length of a two-dimensional Gaussian error over its root mean square.
MEAN_OF_RMS = math.sqrt(math.pi) / 2
SAME_BOX_IOU = 0.8  # boxes of one image that overlap so much are of one instance
LEAST_REPEATED = 0.2  # of all instances: sets with fewer pairs hold a few duplicates, not repeated labels


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What an NME stands beside."""

    nme: float  # of the mean shape, put into each instance's box; NaN where there is nothing to measure
    of: Literal["train", "truth"]  # whose mean shape
    human: float | None = None  # mean distance between two labels of a point by people, as NME; None = not known
    human_from: str = ""  # how that is known

    def as_json(self) -> dict[str, Any]:
        """Gives `--json`'s form."""
        values: dict[str, Any] = {"nme": files.finite(self.nme), "of": self.of}
        return values | (
            {} if self.human is None else {"human": files.finite(self.human), "human_from": self.human_from}
        )

    def beside(self, text: Callable[[float], str] = "{:.4f}".format) -> str:
        """Says it in the words that stand beside an NME, which `text` writes."""
        line = f"mean shape of {self.of}: {text(self.nme)}"
        return line if self.human is None else f"{line}; people: {text(self.human)}, {self.human_from}"

    def verdict(self, nme: float | None, text: Callable[[float], str] = "{:.4f}".format) -> str | None:
        """Says that a result is no better than its floor; None where it is, or where nothing was measured."""
        if nme is None or not nme >= self.nme:
            return None
        return (
            f"no better than its floor: an NME of {text(nme)}, where the mean shape of {self.of}, which looks at no image, "
            f"has {text(self.nme)}"
        )

    @classmethod
    def of_summary(cls, summary: Mapping[str, Any]) -> Floor | None:
        """Takes it from what `--json` writes; None where that has none."""
        ground = summary.get("floor")
        if not ground or ground["nme"] is None:
            return None
        return cls(**ground)


def floor_of(truth: Instances, train: Instances | None = None) -> Floor:
    """Measures the floor of a set, with the mean shape of `train`, which has the same points; without one, with the
    truth's own, which is a lower floor than any model can know."""
    human, human_from = human_spread(truth)
    shape = mean_shape(truth if train is None else train)
    return Floor(
        nme=metrics.mean(shape_errors(truth, shape)),
        of="truth" if train is None else "train",
        human=human,
        human_from=human_from,
    )


def mean_shape(instances: Instances) -> np.ndarray:
    """Computes the mean place of each point where it is labelled, as shares of the box's sides [k, 2]. A point that is
    labelled nowhere is put into the middle."""
    chosen = instances.select(_measured(instances))
    shares = geometry.px_to_box(chosen.xy.astype(np.float64), chosen.box_xywh.astype(np.float64))
    labelled = chosen.labelled[..., None]
    count = labelled.sum(0)
    return np.where(count > 0, np.where(labelled, shares, 0.0).sum(0) / np.maximum(count, 1), 0.5)


def shape_errors(instances: Instances, shape: np.ndarray) -> np.ndarray:
    """Measures a shape [k, 2], shares of the box's sides, put into the box of every instance, as a model is measured: NME
    of each instance [n], NaN where there is nothing to measure."""
    xy = geometry.box_to_px(np.broadcast_to(shape, instances.xy.shape), instances.box_xywh.astype(np.float64))
    return _errors_of(instances, xy, instances.labelled & _measured(instances)[:, None])


def human_spread(instances: Instances) -> tuple[float | None, str]:
    """Measures how far two labels of one point by people lie apart, as NME, and says how it is known: from labels that the
    set repeats, else for COCO's points from COCO's sigmas; (None, "") where neither is there.

    A sigma of COCO is the root mean square distance between labels of a point, over the root of the instance's area, in
    5,000 images of val that were labelled again (https://cocodataset.org/#keypoints-eval). The mean distance is taken to be
    that of a two-dimensional Gaussian of this size."""
    first, second = repeated_labels(instances)
    if len(first) >= LEAST_REPEATED * len(instances) and len(first):
        labelled = instances.labelled[first] & instances.labelled[second]
        nme = metrics.mean(_errors_of(instances.select(first), instances.xy[second], labelled))
        return nme, f"by {len(first)} pairs of labels of one instance"
    if not _has_sigmas_of_people(instances.skeleton):
        return None, ""
    scale = np.sqrt(instances.area.astype(np.float64))[:, None]
    spread_px = MEAN_OF_RMS * np.array(instances.skeleton.sigmas) * scale
    errors = np.where(instances.labelled & _measured(instances)[:, None], spread_px, np.nan)
    size = instances.image_size[instances.image_row]
    length = metrics.normalizer_px(
        instances.skeleton.normalizer, instances.xy, instances.labelled, instances.box_xywh, size
    )
    nme = metrics.mean(metrics.mean_of_instance(metrics.normalized(errors, length)))
    return nme, "by COCO's sigmas"


def repeated_labels(instances: Instances) -> tuple[np.ndarray, np.ndarray]:
    """Finds pairs of instances [p], [p] that are labels of one thing: of one image (also one that is listed under
    several ids), with boxes that overlap by `SAME_BOX_IOU` or more, and points that lie nearer to each other than the mean
    shape to either. In a crowd boxes overlap that are of two: where most pairs of boxes do, none is taken."""
    usable = np.flatnonzero(_measured(instances) & instances.labelled.any(1))
    image_rows, place = np.unique(instances.image_row[usable], return_inverse=True)
    names = np.array([instances.images.name(row) for row in image_rows.tolist()], dtype=np.str_)
    image = np.unique(names, return_inverse=True)[1][place] if len(names) else place
    order = np.argsort(image, kind="stable")
    most = int(np.bincount(image).max(initial=0))
    first = [np.empty(0, np.int64)]
    second = [np.empty(0, np.int64)]
    for apart in range(1, most):  # each instance with the one that stands so far behind it, if of the same image
        same = np.flatnonzero(image[order[:-apart]] == image[order[apart:]])
        first.append(usable[order[same]])
        second.append(usable[order[same + apart]])
    one, other = np.concatenate(first), np.concatenate(second)
    alike = geometry.box_iou(instances.box_xywh[one], instances.box_xywh[other]) >= SAME_BOX_IOU
    one, other = one[alike], other[alike]
    labelled = instances.labelled[one] & instances.labelled[other]
    apart = _errors_of(instances.select(one), instances.xy[other], labelled)
    from_shape = shape_errors(instances, mean_shape(instances))
    near = ~(apart >= np.fmin(from_shape[one], from_shape[other]))
    near &= 2 * near.sum() > len(near)
    return one[near], other[near]


def _measured(instances: Instances) -> np.ndarray:
    """[n] bool: counts in a metric and has a box."""
    return ~instances.crowd & (instances.box_xywh[:, 2:] > 0).all(1)


def _errors_of(instances: Instances, xy: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    return metrics.measure(
        xy,
        instances.xy,
        labelled,
        box_xywh=instances.box_xywh,
        image_size=instances.image_size[instances.image_row],
        skeleton=instances.skeleton,
    ).instance_nme


def _has_sigmas_of_people(skeleton: Skeleton) -> bool:
    """Tells whether sigmas are those that COCO took from repeated labels, also of some of its points."""
    known = dict(zip(COCO17.points, COCO17.sigmas or (), strict=True))
    return skeleton.sigmas is not None and skeleton.sigmas == tuple(known.get(name) for name in skeleton.points)
