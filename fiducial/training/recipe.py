"""One training run as one frozen value: everything that is chosen, nothing that is derived."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fiducial.card import PADDING
from fiducial.data.augment import AugmentSpec
from fiducial.errors import expect
from fiducial.geometry import Size

CONTROL = 0.35  # of the minutes of a run on unlabelled images too, that the same on labels alone takes afterwards
MOST_CROPS, MOST_WORKERS = 2**16, 256  # of a batch and of loader processes: more is a slip of the hand


@dataclass(frozen=True)
class OptimizerSpec:
    """AdamW and its schedule. Steps, not epochs, drive the schedule."""

    lr: float | Literal["auto"] = 3e-3  # peak, a step; "auto" = learning-rate finder
    weight_decay: float = 0.05  # not on biases and norm scales
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup: float = 0.1  # share of all steps in which lr rises to its peak
    final_lr: float = 1e-4  # lr at the end, as a share of the peak
    clip_norm: float = 5.0  # gradients are scaled down to this norm
    ema_decay: float = 0.998  # of the averaged weights that are kept, after a start in which it rises; 0 = none
    # Fine-tuning of a pretrained encoder: it is frozen at first (its norms too), then learns at a share of the lr.
    freeze_epochs: int = 0
    backbone_lr: float = 1.0  # share of the lr
    layer_decay: float = (
        1.0  # each block of the encoder learns at this share of the rate of the next one, the last at `backbone_lr`
    )

    def __post_init__(self) -> None:
        fits = self.lr == "auto" or (isinstance(self.lr, (int, float)) and self.lr >= 0)
        expect(fits, "optimizer.lr", self.lr, "a number of at least 0, or auto")
        for name in ("weight_decay", "clip_norm", "freeze_epochs", "backbone_lr"):
            expect(getattr(self, name) >= 0, f"optimizer.{name}", getattr(self, name), "0 or more")
        for name in ("warmup", "final_lr"):
            expect(0 <= getattr(self, name) <= 1, f"optimizer.{name}", getattr(self, name), "a share, 0 to 1")
        expect(0 < self.layer_decay <= 1, "optimizer.layer_decay", self.layer_decay, "a share above 0, at most 1")
        expect(0 <= self.ema_decay < 1, "optimizer.ema_decay", self.ema_decay, "0 or more, less than 1")


@dataclass(frozen=True, kw_only=True)
class UnlabelledSpec:
    """How images without labels are learnt from beside those that have some (`training/unlabelled.py`)."""

    weight: float = 0.2  # of their loss beside that of the labels
    share: float = 1.0  # unlabelled crops for each labelled one of a full batch
    start: float = 0.4  # share of all steps before which labels alone are learnt from
    rise: float = 0.2  # share of all steps in which the weight rises from 0 then
    control: bool = (
        True  # afterwards learn from the labels alone, and keep what val likes better (`training/labels_alone.py`)
    )
    patience: int = 3  # validations behind the best one, by more than chance, after which labels alone are learnt from

    def __post_init__(self) -> None:
        expect(self.weight > 0, "unlabelled.weight", self.weight, "a number above 0")
        expect(0 < self.share <= 64, "unlabelled.share", self.share, "a number above 0, at most 64")
        for name in ("start", "rise"):
            expect(0 <= getattr(self, name) <= 1, f"unlabelled.{name}", getattr(self, name), "a share, 0 to 1")
        expect(self.patience >= 1, "unlabelled.patience", self.patience, "1 or more")


@dataclass(frozen=True)
class Recipe:
    """What `fiducial fit` does. A variant is `dataclasses.replace` of another, or `--set a.b=c`.

    What teaches in another way than by labels has a recipe of its own, which adds its settings to these."""

    method: str = "heatmap"
    backbone: str = "mobilenetv3_small_100"
    size: Size = Size(128, 128)
    head: dict[str, Any] = field(default_factory=dict)  # fields of the method's Spec; defaults where absent
    # here = where the weights are on this disk, auto = fetched where they are not, both with a word where they can't be had
    pretrained: Literal["here", "auto", "yes", "no"] = "here"
    init: str | None = None  # a run folder or safetensors file to start from
    points: tuple[int | str, ...] | None = None  # a subset of the points, by number or name
    padding: float = PADDING  # boxes are enlarged by this before they are cut out
    epochs: int = 60
    passes: float = 1.0  # over the training data, an epoch: more where they are few, since each epoch is validated
    minutes: float | None = None  # in which all is to be done: the number of epochs follows the machine's pace
    batch_size: int = 64  # of each device
    seed: int = 0
    optimizer: OptimizerSpec = OptimizerSpec()
    augment: AugmentSpec = AugmentSpec()
    unlabelled: UnlabelledSpec | None = None  # None: labels alone
    patience: int | None = None  # epochs without a better val metric before it stops
    # "auto" times both on this machine with this net and keeps the faster.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    workers: int | None = None  # loader processes; None = one less than the cores, at most 8
    check: bool = True  # first look for labels that would waste the run
    preflight: bool = True  # overfit one small batch before anything else
    strict: bool = False  # bad samples are errors
    licence: str | None = None  # of the weights, in words; None = that of the data, where they state one

    def __post_init__(self) -> None:
        expect(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        expect(self.passes > 0, "passes", self.passes, "a number above 0")
        expect(self.minutes is None or self.minutes > 0, "minutes", self.minutes, "a number above 0")
        expect(1 <= self.batch_size <= MOST_CROPS, "batch_size", self.batch_size, f"1 to {MOST_CROPS}")
        expect(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        expect(self.patience is None or self.patience >= 1, "patience", self.patience, "1 or more, or null")
        expect(
            self.workers is None or 0 <= self.workers <= MOST_WORKERS, "workers", self.workers, f"0 to {MOST_WORKERS}"
        )
