"""The data that travels between rooms: Skeleton, Instances, Batch, Keypoints, and the problems met on the way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fiducial import geometry
from fiducial.errors import UserError, counted, did_you_mean, one_line
from fiducial.lazy import imported

if TYPE_CHECKING:  # neither is there without the extra `train`
    from jaxtyping import Float, Int64, UInt8
    from torch import Tensor

Pairs = tuple[tuple[int, int], ...]
COLUMNS = ("xy", "score", "sigma", "jacobian", "correlation")  # of `Keypoints`, that a network gives
PLACES = ("box_xywh", "box_score", "kind")  # of `Keypoints`, that say where it was looked, and what is there
NOTE = "note"  # `Problem.where` of what was concluded or assumed, and is not wrong


@dataclass(frozen=True)
class Normalizer:
    """Says what NME divides by, one length a sample, px.

    `kind` is "points" (distance between the two points of `points`, of the truth), "box" (root of the truth
    box's area) or "image" (longest side of the image). `name` is what is printed."""

    kind: str = "box"
    name: str = "box"
    points: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("points", "box", "image"):
            raise UserError(f"normalizer kind {self.kind!r}: expected points, box or image")
        if (self.kind == "points") != (self.points is not None):
            raise UserError("a normalizer of kind 'points' needs two points, the other kinds none")


@dataclass(frozen=True)
class Skeleton:
    """Names the points and says how they belong together. It travels with data and with weights.

    >>> eyes = Skeleton("eyes", ("left", "right", "nose"), edges=((0, 2), (1, 2)), flip_pairs=((0, 1),))
    >>> eyes.flip_order.tolist()
    [1, 0, 2]"""

    name: str
    points: tuple[str, ...]
    edges: Pairs = ()
    # Points that change names in a mirror; () = none do, None = unknown, so that flipping is refused.
    flip_pairs: Pairs | None = None
    sigmas: tuple[float, ...] | None = None  # COCO's per-point constants; None = OKS can't be computed
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    normalizer: Normalizer = Normalizer()
    named: bool = True  # False: the points were learnt without labels, so that no data have them
    # What is told apart -> its points, where instances of several kinds have points of their own; empty: all are of one.
    kinds: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.points)
        if count == 0:
            raise UserError(f"skeleton {self.name!r} has no points")
        used = [i for pair in (*self.edges, *(self.flip_pairs or ())) for i in pair]
        used += [i for group in (*self.groups.values(), *self.kinds.values()) for i in group] + list(
            self.normalizer.points or ()
        )
        wrong = [i for i in used if not 0 <= i < count]
        if wrong:
            raise UserError(f"skeleton {self.name!r}: point index {wrong[0]} with {count} points (0 to {count - 1})")
        paired = [i for pair in self.flip_pairs or () for i in pair]
        if len(paired) != len(set(paired)):
            twice = next(i for i in paired if paired.count(i) > 1)
            raise UserError(f"skeleton {self.name!r}: point {self.points[twice]!r} is in more than one flip pair")
        if self.sigmas is not None and (len(self.sigmas) != count or min(self.sigmas) <= 0):
            raise UserError(f"skeleton {self.name!r}: expected {count} positive sigmas, got {self.sigmas}")

    @property
    def flip_order(self) -> np.ndarray:
        """Gives [k]: point i of the mirrored image is point flip_order[i] of the image. Raises UserError where pairs
        are unknown."""
        if self.flip_pairs is None:
            raise UserError(
                f"skeleton {self.name!r}: its flip pairs are unknown, so pictures can't be mirrored. Add "
                "`flip_indices` to the category in the annotation file, or train and test without flipping"
            )
        order = np.arange(len(self.points))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return order

    def number_of(self, point: int | str) -> int:
        """Gives a point's number by its name; a number is given back."""
        if not isinstance(point, str):
            return point
        if point not in self.points:
            raise UserError(f"no point {point!r}.{did_you_mean(point, self.points)}")
        return self.points.index(point)

    def with_sigmas(self, sigmas: Sequence[float]) -> Skeleton:
        """Replaces the sigmas; one alone is that of all points."""
        count = len(self.points)
        values = tuple(sigmas) * (count if len(sigmas) == 1 else 1)
        if len(values) != count or not all(math.isfinite(value) and value > 0 for value in values):
            raise UserError(f"--sigmas: got {len(values)}, expected {count} positive numbers, or one for all points")
        return replace(self, sigmas=values)

    def pick(self, indices: Sequence[int]) -> Skeleton:
        """Makes the skeleton of a subset of points, in the order given. Edges and pairs with a lost end are dropped;
        the normaliser falls back to the box when one of its points is lost."""
        count = len(self.points)
        if len(set(indices)) != len(indices) or not indices or not all(0 <= i < count for i in indices):
            raise UserError(f"points {list(indices)}: expected distinct numbers from 0 to {count - 1}")
        new = {old: i for i, old in enumerate(indices)}

        def kept(pairs: Pairs) -> Pairs:
            return tuple((new[a], new[b]) for a, b in pairs if a in new and b in new)

        flip_pairs = self.flip_pairs
        if flip_pairs is not None:
            lost = [(a, b) for a, b in flip_pairs if (a in new) != (b in new)]
            # A point whose mirror image was not picked has no name in the mirrored image.
            flip_pairs = None if lost else kept(flip_pairs)
        groups, kinds = (
            {name: tuple(new[i] for i in some if i in new) for name, some in those.items()}
            for those in (self.groups, self.kinds)
        )
        ends = self.normalizer.points
        normalizer = self.normalizer
        if ends is not None:
            complete = ends[0] in new and ends[1] in new
            normalizer = replace(normalizer, points=(new[ends[0]], new[ends[1]])) if complete else Normalizer()
        return replace(
            self,
            points=tuple(self.points[i] for i in indices),
            edges=kept(self.edges),
            flip_pairs=flip_pairs,
            sigmas=None if self.sigmas is None else tuple(self.sigmas[i] for i in indices),
            groups={name: group for name, group in groups.items() if group},
            normalizer=normalizer,
            kinds=kinds,
        )


@dataclass(frozen=True)
class Problem:
    """Tells one thing that is wrong in the data: which file, which annotation or image, what, and what was done about
    it. Or a note: what was concluded or assumed about them."""

    file: str
    where: str  # "annotation 17", "image 4", "line 12"; "" for the file as a whole; NOTE for a note
    what: str

    @property
    def is_note(self) -> bool:
        """Says whether this is a note, not a fault."""
        return self.where == NOTE

    def __str__(self) -> str:
        return one_line(f"{self.file}: {self.where + ': ' if self.where else ''}{self.what}")


@dataclass
class Findings:
    """Collects what is said about a source while it is read: entries that were left out, and what was assumed."""

    source: str  # the annotation file or folder
    problems: list[Problem] = field(default_factory=list)  # with the notes among them

    def add(self, where: str, what: str, file: str | None = None) -> None:
        """Adds an entry that can't be used; `where` and `what` as in `Problem`."""
        self.problems.append(Problem(self.source if file is None else file, one_line(where), one_line(what)))

    def note(self, *what: str) -> None:
        """Adds things that were concluded or assumed."""
        self.problems += [Problem(self.source, NOTE, one_line(text)) for text in what]

    @property
    def wrong(self) -> list[Problem]:
        """Lists what is wrong, without the notes."""
        return [problem for problem in self.problems if not problem.is_note]

    @property
    def notes(self) -> list[Problem]:
        """Lists the notes."""
        return [problem for problem in self.problems if problem.is_note]


class Images(Protocol):
    """Gives the images of a split, in files, in memory or rendered on demand."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """Names an image for messages and reports: a path or a made-up name."""
        ...

    def read(self, row: int, reduce: int = 1) -> np.ndarray:
        """Reads an image: uint8 RGB [h, w, 3], upright. `reduce` 2, 4 or 8 allows (does not force) one of 1/reduce the
        size, for callers that shrink much; they see what they got by its shape, outer edges coincide.
        Raises UserError naming the file for an image that can't be read."""
        ...


@dataclass(frozen=True)
class Instances:
    """Holds the labelled instances of one split, as columns: n instances on m images, k points each.

    Columns and not objects, since an index of COCO (150,000 instances) must fit in a few hundred megabytes and
    be shared by worker processes without copies."""

    skeleton: Skeleton
    images: Images
    image_id: np.ndarray  # [m] int64; objects as they stand in the file where one is no whole number below 2^63
    image_size: np.ndarray  # [m, 2] int32 (w, h) as declared; 0 = not declared
    image_row: np.ndarray  # [n] int64: row of image_id
    annotation_id: np.ndarray  # [n] int64, or objects as in image_id
    xy: np.ndarray  # [n, k, 2] float32, px of the image; 0 where not labelled
    visibility: np.ndarray  # [n, k] uint8: 0 not labelled, 1 labelled but hidden, 2 visible
    box_xywh: np.ndarray  # [n, 4] float32, edge frame
    area: np.ndarray  # [n] float32, px^2: COCO's `area` (OKS divides by it)
    crowd: np.ndarray  # [n] bool
    source: str = ""  # the annotation file or folder, for messages
    licences: tuple[str, ...] = ()  # of the images, as the source states them
    # [n] bool: crowds and instances without points, which evaluation counts neither as found nor as missed. None: those
    # that the other columns show.
    ignored: np.ndarray = None  # type: ignore[assignment]
    track: np.ndarray | None = None  # [n] int64: who is who from frame to frame, -1 not known; None = of nobody
    kind: np.ndarray | None = None  # [n] int64: number in the skeleton's `kinds`; None = it has none

    def __post_init__(self) -> None:
        if self.ignored is None:
            object.__setattr__(self, "ignored", self.crowd | ~self.labelled.any(1))

    def __len__(self) -> int:
        return len(self.image_row)

    @property
    def labelled(self) -> np.ndarray:
        """Gives [n, k] bool: has coordinates, hidden or not."""
        return self.visibility > 0

    @classmethod
    def of(cls, images: Any, xy: Any, visibility: Any = None, boxes: Any = None, **about: Any) -> Instances:
        """Makes the labelled instances of a program's own arrays: see `fiducial.data.arrays.instances_of`.

        images: uint8 RGB arrays [h, w, 3] of any sizes, or paths; xy [n, k, 2] px, NaN where not labelled; visibility
        [n, k]; boxes [n, 4] xywh px. `about`: skeleton, names, flip_pairs, image_row, areas, crowd, sigmas, normalizer."""
        return imported("fiducial.data.arrays:instances_of")(images, xy, visibility, boxes, **about)

    @classmethod
    def read(cls, data: Any, split: str = "train", *, images: Any = None, category: str | None = None) -> Instances:
        """Reads the instances of one split (train, val, test, all) of annotations in any format that `fiducial fit` reads.

        What is left out, and what was assumed, is said by the logger `fiducial`."""
        return imported("fiducial.data.arrays:read")(data, split, images, category)

    def select(self, rows: np.ndarray) -> Instances:
        """Selects some of the instances (indices or mask); all images stay."""
        columns = ("image_row", "annotation_id", "xy", "visibility", "box_xywh", "area", "crowd", "ignored")
        columns += ("track", "kind")
        held = {name: column for name in columns if (column := getattr(self, name)) is not None}
        return replace(self, **{name: column[rows] for name, column in held.items()})

    def pick_points(self, points: Sequence[int | str]) -> Instances:
        """Selects points by number or name. Boxes and areas stay those of the whole instance, so that crops stay the same."""
        picked = [self.skeleton.number_of(point) for point in points]
        skeleton = self.skeleton.pick(picked)
        visibility = self.visibility[:, picked]
        ignored = self.ignored | ~(visibility > 0).any(1)
        return replace(self, skeleton=skeleton, xy=self.xy[:, picked], visibility=visibility, ignored=ignored)

    def with_points(self, skeleton: Skeleton) -> Instances:
        """Arranges the points as another skeleton has them, by name; those that it alone has are not labelled."""
        own = {name: i for i, name in enumerate(self.skeleton.points)}
        found = [(new, own[name]) for new, name in enumerate(skeleton.points) if name in own]
        new, old = (list(numbers) for numbers in zip(*found, strict=True)) if found else ([], [])
        xy = np.zeros((len(self), len(skeleton.points), 2), dtype=self.xy.dtype)
        visibility = np.zeros(xy.shape[:2], dtype=self.visibility.dtype)
        xy[:, new], visibility[:, new] = self.xy[:, old], self.visibility[:, old]
        ignored = self.ignored | ~(visibility > 0).any(1)
        kind, names = None, list(skeleton.kinds)
        if names:  # of a set without kinds, all are what its skeleton is called
            own_kinds = np.array(
                [names.index(name) if name in names else -1 for name in self.skeleton.kinds or [self.skeleton.name]]
            )
            kind = own_kinds[np.zeros(len(self), np.int64) if self.kind is None else self.kind]
        return replace(self, skeleton=skeleton, xy=xy, visibility=visibility, ignored=ignored, kind=kind)

    def label_bytes(self) -> Iterator[bytes]:
        """Gives the bytes of ids, points and boxes, for digests that change with any label. Equal for equal labels on
        every machine, also where ids are objects."""
        ids = self.annotation_id
        yield repr(ids.tolist()).encode() if ids.dtype == object else ids.tobytes()
        for column in (self.image_row, self.xy, self.visibility, self.box_xywh):
            yield column.tobytes()

    def where(self, row: int) -> str:
        """Writes `FILE: annotation ID (IMAGE)`, for messages about one instance."""
        return f"{self.source}: annotation {self.annotation_id[row]} ({self.images.name(int(self.image_row[row]))})"


class Batch(NamedTuple):
    """Holds what training sees of b instances. Tensors, on the device; images travel as bytes."""

    image: UInt8[Tensor, "b h w 3"]  # RGB crops
    xy: Float[Tensor, "b k 2"]  # px of the crop; finite everywhere
    labelled: Float[Tensor, "b k"]  # 1 where the point has coordinates, else 0
    image_to_crop: Float[Tensor, "b 3 3"]
    row: Int64[Tensor, " b"]  # row of Instances


class Scenes(NamedTuple):
    """Holds what a finder's training sees of b whole images, n places for boxes each. Tensors, on the device."""

    image: UInt8[Tensor, "b h w 3"]  # RGB
    box_xywh: Float[Tensor, "b n 4"]  # px of the scene; finite everywhere
    kind: Int64[Tensor, "b n"]  # number of what is to be found there
    present: Float[Tensor, "b n"]  # 1 where an instance is, else 0
    ignored: Float[Tensor, "b n"]  # 1 where something is that counts neither as found nor as false, else 0
    image_to_crop: Float[Tensor, "b 3 3"]
    row: Int64[Tensor, " b"]  # of the images


@dataclass(frozen=True)
class Found:
    """Holds instances that a finder has found in images, the surest first: numpy arrays or tensors."""

    box_xywh: Any  # [..., n, 4] px of the image that was passed in
    score: Any  # [..., n] in 0..1
    kind: Any  # [..., n] number of what was found


def logit(score: Any) -> np.ndarray:
    """Gives log(score / (1 - score)), kept finite."""
    held = np.clip(np.asarray(score, np.float64), 1e-4, 1 - 1e-4)
    return np.log(held / (1 - held))


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Says how likely points are visible, hidden or outside, by their scores: `evaluation/visibility.py` measures it.

    The probability of a state is as e ^ (its offset of the point + its slope x logit(score))."""

    states: tuple[str, ...]  # of "visible", "hidden", "outside": those that the labels told from each other
    slopes: tuple[float, ...]  # one a state
    offsets: tuple[tuple[float, ...], ...]  # one a point and state
    points: int = 0  # labels that it was measured on

    def probabilities(self, score: Any) -> np.ndarray:
        """Computes them of points' scores, [..., k] -> [..., k, states], which sum to 1."""
        logits = np.array(self.offsets) + logit(score)[..., None] * np.array(self.slopes)
        share = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(share / share.sum(-1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Says how far a model's points may be off, as it was measured on instances that it has not learnt from.

    `Keypoints.sigma` is, along x and y in px of the input, scale x (what the method tells) ^ power; a method that tells
    nothing has a sigma of `scale` alone. A radius that holds the true point in `shares[i]` of all cases is `factors[i]`
    sigmas: split conformal prediction (Papadopoulos et al., ECML 2002). `evaluation/spread.py` measures it."""

    power: float = 1.0  # 0: what the method tells is no hint
    # What the method tells of how errors in x and y go together is multiplied by it; None: it tells nothing, or no hint.
    correlation: float | None = None
    scale: tuple[float, ...]  # one a point
    shares: tuple[float, ...] = ()  # rising
    factors: tuple[float, ...] = ()
    # How far off `shares` new images may come out, since there were only so many to measure on: half a 95 % range.
    margins: tuple[float, ...] = ()
    instances: int = 0  # that it was measured on
    points: int = 0  # labelled ones of theirs
    sight: Sight | None = None  # whether points are seen; None where the labels did not tell

    def knows(self, share: float) -> bool:
        """Says whether this share was measured."""
        return share in self.shares

    def factor(self, share: float) -> float:
        """Gives how many sigmas hold the true point in this share of all cases. Raises UserError for other shares than
        those that were measured."""
        if not self.knows(share):
            known = ", ".join(f"{value:g}" for value in self.shares) or "none, since it had too few labels"
            raise UserError(f"radius of {share:g}: the model was measured for {known}")
        return self.factors[self.shares.index(share)]


@dataclass(frozen=True, repr=False)
class Keypoints:
    """Holds points that were found, the only currency after training: numpy arrays or tensors with equal leading
    axes."""

    xy: Any  # [..., k, 2] px of the image that was passed in
    score: Any  # [..., k] in 0..1; what it means is the head's affair, higher is surer
    # [..., k, 2] px: standard deviation of x and y; where the model was calibrated, or its method learns one.
    sigma: Any = None
    jacobian: Any = None  # [..., k, 2, 2] local scale, rotation and shear (method `motion`)
    correlation: Any = None  # [..., k] in -1..1: of the errors in x and y; None = not told, or told of each by itself
    skeleton: Skeleton | None = None  # names the points, where a model was asked with whole images
    spread: Spread | None = None  # what a sigma is worth, where the model was calibrated
    box_xywh: Any = None  # [..., 4] px of the image: where the instances were looked for; None = in the whole of it
    box_score: Any = None  # [...] in 0..1: how sure the finder is of each; None = the boxes were given
    kind: Any = None  # [...] int: number in the skeleton's `kinds`; None = it has none, or it is not known

    def __len__(self) -> int:
        """Counts the instances."""
        return len(self.xy) if self.xy.ndim > 2 else 1

    def __iter__(self) -> Iterator[Keypoints]:
        """Gives one instance after the other, xy [k, 2]."""
        return (self.select(row) for row in range(len(self))) if self.xy.ndim > 2 else iter([self])

    def __getitem__(self, which: str | Any) -> Any:
        """Gives the coordinates of a point by its name, [n, 2] px (of one instance [2]), or some of the instances as
        Keypoints by an index, a slice or a mask. Raises UserError for an unknown name.

        >>> eyes = Skeleton("eyes", ("left", "right"))
        >>> points = Keypoints(np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.ones((1, 2)), skeleton=eyes)
        >>> points["right"].tolist(), points[0]["right"].tolist()
        ([[3.0, 4.0]], [3.0, 4.0])"""
        if not isinstance(which, str):
            return self.select(which)
        names = () if self.skeleton is None else self.skeleton.points
        if which not in names:
            raise UserError(f"points[{which!r}]: no such point.{did_you_mean(which, names)}")
        return self.xy[..., names.index(which), :]

    def __repr__(self) -> str:
        names = self.skeleton.points if self.skeleton else tuple(f"point {i}" for i in range(self.xy.shape[-2]))
        lines = [f"Keypoints of {counted(len(self), 'instance')}, {counted(len(names), 'point')} each, px:"]
        for row, one in enumerate(itertools.islice(self, 3)):
            shown = [
                f"{name} ({float(x):.1f}, {float(y):.1f}) {float(score):.2f}"
                for name, (x, y), score in zip(names[:4], one.xy, one.score, strict=False)
            ]
            lines.append(f"  {row}: {', '.join(shown)}{', ..' * (len(names) > len(shown))}")
        return "\n".join([*lines, *(["  .."] if len(self) > 3 else [])])

    @property
    def owned(self) -> np.ndarray:
        """Tells which points the instances have, [..., k] bool: those of their kind, or all."""
        if self.kind is None or self.skeleton is None or not self.skeleton.kinds:
            return np.ones(self.score.shape, bool)
        points = np.arange(len(self.skeleton.points))
        return np.array([np.isin(points, own) for own in self.skeleton.kinds.values()])[self.kind]

    @property
    def instance_score(self) -> np.ndarray:
        """Computes how sure each instance is, [...] float64 in 0..1: the mean of the scores of its points."""
        owned = self.owned
        return np.asarray((self.score.astype(np.float64) * owned).sum(-1) / np.maximum(owned.sum(-1), 1))

    def radius(self, share: float = 0.9) -> Any:
        """Computes within how many px of each point the true one lies in this share of all cases, [..., k]. Raises
        UserError where the model was not calibrated on labels, or not for this share."""
        if self.spread is None or self.sigma is None:
            raise UserError("radius: how far its points may be off was not measured for this model; train it anew")
        return geometry.mean_spread(self.sigma) * self.spread.factor(share)

    @property
    def covariance_px2(self) -> Any:
        """Computes the covariance of each point's error, [..., k, 2, 2] px^2: of `sigma` and, where the method's maps tell it,
        `correlation`. Raises UserError where there is no sigma."""
        if self.sigma is None:
            raise UserError("covariance: how far its points may be off was not measured for this model; train it anew")
        return geometry.covariance_of(self.sigma, self.correlation)

    @property
    def visibility(self) -> dict[str, np.ndarray]:
        """Computes how likely each point is "visible", "hidden" or "outside", [..., k] each, as far as the labels of the model's
        data told these from each other; empty where they did not."""
        sight = None if self.spread is None else self.spread.sight
        return (
            {}
            if sight is None
            else dict(zip(sight.states, np.moveaxis(sight.probabilities(self.score), -1, 0), strict=True))
        )

    def draw(self, image: np.ndarray) -> np.ndarray:
        """Draws the points and the skeleton's lines on a copy of the image that was passed in, as `fiducial predict`
        does: uint8 RGB [h, w, 3]."""
        return imported("fiducial.report.pictures:draw_keypoints")(image, self)

    def to_coco(self, image_id: Any = 1, *, file_name: str = "", boxes: Any = None) -> list[dict[str, Any]]:
        """Makes the entries of a COCO results file, one an instance, as `fiducial predict` writes them.

        image_id, file_name: what the entries say of the image; boxes [n, 4] xywh px: those that were looked in."""
        return imported("fiducial.prediction.outputs:of_keypoints")(self, image_id, file_name, boxes)

    def mapped(self, matrix: Any) -> Keypoints:
        """Moves the points into another image's px: matrix [..., 3, 3]. A sigma is scaled by the map's
        enlargement, and turned with it where its correlation is known; a Jacobian is turned and scaled. Where it was looked is
        not known there."""
        sigma, jacobian, correlation = self.sigma, self.jacobian, self.correlation
        if sigma is not None:
            scale = geometry.scale_of(matrix)[..., None, None]
            if correlation is not None:
                turned = geometry.transform_covariance(matrix / scale, self.covariance_px2)
                sigma, correlation = geometry.spread_of(turned)
            sigma = sigma * scale
        if jacobian is not None:
            jacobian = matrix[..., None, :2, :2] @ jacobian
        xy = geometry.transform(matrix, self.xy)
        return replace(self, xy=xy, sigma=sigma, jacobian=jacobian, correlation=correlation, **dict.fromkeys(PLACES))

    def select(self, rows: Any) -> Keypoints:
        """Picks some along the first axis, by indices, a mask or a slice."""
        columns = {name: getattr(self, name) for name in (*COLUMNS, *PLACES)}
        return replace(self, **{name: value[rows] for name, value in columns.items() if value is not None})

    @staticmethod
    def joined(parts: Sequence[Keypoints]) -> Keypoints:
        """Joins numpy keypoints along the first axis, with the fields that all of them have."""
        columns = {name: [getattr(part, name) for part in parts] for name in (*COLUMNS, *PLACES)}
        held = {name: all(value is not None for value in values) for name, values in columns.items()}
        return replace(
            parts[0], **{name: np.concatenate(values) if held[name] else None for name, values in columns.items()}
        )

    def numpy(self) -> Keypoints:
        """Brings the points to the host, as numpy arrays."""

        def host(value: Any) -> Any:
            return value if value is None or isinstance(value, np.ndarray) else value.detach().cpu().float().numpy()

        return replace(self, **{name: host(getattr(self, name)) for name in (*COLUMNS, *PLACES)})
