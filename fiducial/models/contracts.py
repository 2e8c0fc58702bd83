"""What a backbone and a head promise, so that nobody guesses: levels, main level, normalisation; forward, decode, loss.

Adding one is adding a file to `backbones/` or `heads/`; `models/catalog.py` finds it there and the batteries test
it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from fiducial.card import Normalization
from fiducial.geometry import Align
from fiducial.models import heatmaps
from fiducial.types import Batch, Found, Keypoints


class Level(NamedTuple):
    """Describes one map that a backbone returns."""

    channels: int
    stride: int  # px of the input a cell


class Backbone(nn.Module):
    """Turns a normalised image into a list of maps, one a level, fine to coarse.

    `main` is the index of the level that carries the network's result: heads read that one."""

    levels: tuple[Level, ...]
    main: int = -1
    normalization: Normalization = Normalization()
    initialization: str = "random"  # where the weights came from, for reports
    licence: str = "Apache-2.0"

    @abstractmethod
    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]: ...


class Head(nn.Module):
    """Is one method: its network, its decode and its loss.

    Built as `Head(spec, level, points, size)`: `spec` is the `Spec` of the head's own file, `level` the backbone's main
    level, `points` how many points there are, `size` the input's Size. What `forward` returns, the raw, is the head's
    own affair: nobody else looks into it. The smallest head there can be:

        @dataclass(frozen=True)
        class Spec:
            weight: float = 1.0

        class Head(contracts.Head):
            def __init__(self, spec: Spec, level: Level, points: int, size: Size) -> None:
                super().__init__()
                self.spec, self.size = spec, size
                self.linear = regression.PooledLinear(level.channels, points, 2)

            def forward(self, feature):  # [b, c, h, w] -> [b, k, 2] in unit
                return self.linear(feature)

            def decode(self, raw):
                return Keypoints(geometry.unit_to_px(raw, self.size), torch.ones_like(raw[..., 0]))

            def loss(self, raw, batch):
                each = losses.l1(raw, geometry.px_to_unit(batch.xy, self.size))
                return {"l1": self.spec.weight * losses.weighted_mean(each, batch.labelled)}

            def unflip(self, raw, flip_order):
                return flipping.unflip_coordinates(raw, flip_order, self.size, "unit")

            def encode(self, batch):
                return geometry.px_to_unit(batch.xy, self.size)"""

    # Names of its modules that nothing needs after training: no price of a prediction.
    training_only: tuple[str, ...] = ()
    # Whether its maps may all sink to zero while the loss looks fine; training watches those that may.
    may_collapse: bool = False
    # Whether `fiducial fit` teaches it without labels, by what moves (`training/motion`); `loss` is for labelled points.
    learns_without_labels: bool = False
    # The module that teaches it: its `preparation` begins a run of `fiducial fit`, as `training/work.py` says.
    taught_by: str = "fiducial.training.fit"
    # How the cells of `heatmaps` lie on the px of the input.
    align: Align = "edge"

    def of(self, features: Sequence[Float[Tensor, "b _ _ _"]], main: int) -> Any:
        """Gives the raw of a backbone's maps, of which `main` is the one that carries its result."""
        return self(features[main])

    @abstractmethod
    def forward(self, feature: Float[Tensor, "b c h w"]) -> Any:
        """Turns the main level's map into the raw: a tensor or a NamedTuple of tensors, batch first."""

    @abstractmethod
    def decode(self, raw: Any) -> Keypoints:
        """Reads the points from the raw: xy [b, k, 2] in px of the input crop, score [b, k] in 0..1."""

    @abstractmethod
    def loss(self, raw: Any, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Computes named losses, to be summed. Points that are not labelled give no gradient."""

    @abstractmethod
    def unflip(self, raw: Any, flip_order: Int[Tensor, " k"]) -> Any:
        """Turns the raw of the mirrored image into one as if of the image itself, so that the two can be averaged."""

    @abstractmethod
    def encode(self, batch: Batch) -> Any:
        """Makes the raw that a perfect network would return: `decode(encode(batch))` gives the labelled points back."""

    def spread(self, raw: Any) -> Float[Tensor, "b k 2"] | None:
        """Tells how far x and y may be off, as shares of the input's sides: as it stands no more than larger where the
        method is less sure, since errors are what it is calibrated on (`evaluation/spread.py`). The standard deviation of
        `distribution`; None where the method tells nothing."""
        probability = self.distribution(raw)
        return None if probability is None else heatmaps.deviation(probability)

    def correlation(self, raw: Any) -> Float[Tensor, "b k"] | None:
        """Tells how errors in x and y go together, -1 to 1: of `distribution`, with which `spread` makes a covariance; None where
        the method tells of x and y each by itself."""
        probability = self.distribution(raw)
        return None if probability is None else heatmaps.correlation(probability)

    def heatmaps(self, raw: Any) -> Float[Tensor, "b k h w"] | None:
        """Scales the maps to 0..1, to be shown: `distribution` with peaks of 1; None where the method has no maps."""
        probability = self.distribution(raw)
        return None if probability is None else probability / probability.amax((-2, -1), keepdim=True)

    def distribution(self, raw: Any) -> Float[Tensor, "b k h w"] | None:
        """Computes how probable each cell is to hold the point: maps that sum to one, with their gradients, by which
        networks are compared. The cells lie on the px as `align` says. None where the method has none."""
        return None


class FinderHead(Head):
    """Finds instances in a whole image instead of points in a crop: built as `Head(spec, levels, kinds, size)` with all
    levels of the backbone and how many kinds of instances there are. `forward` takes all maps, `decode` gives `Found` in px
    of the image, `loss` and `encode` take `Scenes`; what `Head` promises else holds."""

    taught_by = "fiducial.finding.fit"

    def of(self, features: Sequence[Float[Tensor, "b _ _ _"]], main: int) -> Any:
        return self(features)

    @abstractmethod
    def decode(self, raw: Any) -> Found:  # type: ignore[override]
        """Reads the instances from the raw, in px of the scene, the surest first."""
