"""Backbone + head + normalisation + skeleton + input size = a detector: uint8 crops in, Keypoints out.

A detector is saved as two files that rebuild it on their own, `model.safetensors` and `model.json`; loading them
never runs code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from fiducial import card as cards
from fiducial import config, files, geometry, trial
from fiducial.card import NOT_STATED, Card, DetectorSpec
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.log import logger
from fiducial.models import catalog, checkpoints
from fiducial.models.contracts import Backbone, FinderHead, Head
from fiducial.models.pretrained import Pretrained
from fiducial.types import Found, Keypoints

MOST_CORRELATED = 0.99  # x and y of an error; a covariance of 1 can't be inverted
LEAST_SPREAD_PX = 1e-3  # what a method tells is taken to be at least this: it may be zero


class Detector(nn.Module):
    """Turns RGB crops into the raw of the head; `predict` decodes it to Keypoints in px of the crop.

    >>> detector, card = load(Path("run"))  # doctest: +SKIP
    >>> crops = torch.zeros(2, *reversed(card.spec.size), 3, dtype=torch.uint8)  # doctest: +SKIP
    >>> detector.predict(crops).xy.shape  # doctest: +SKIP
    torch.Size([2, 68, 2])"""

    mean: Float[Tensor, "1 3 1 1"]
    std: Float[Tensor, "1 3 1 1"]

    def __init__(self, spec: DetectorSpec, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.spec, self.backbone, self.head = spec, backbone, head
        self.channels_last = True  # memory order of activations: a matter of speed, not of numbers
        normalization = spec.normalization or backbone.normalization
        self.register_buffer("mean", torch.tensor(normalization.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalization.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: UInt8[Tensor, "b h w 3"] | Float[Tensor, "b h w 3"]) -> Any:
        return self.head.of(self.features(image), self.backbone.main)

    def features(self, image: UInt8[Tensor, "b h w 3"] | Float[Tensor, "b h w 3"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Computes the backbone's maps of crops, 0 to 255, which are normalised here, on the device."""
        normalised = (image.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean) / self.std
        # Pixels come with their channels last in memory, and convolutions keep that order; unless told otherwise.
        return self.backbone(normalised if self.channels_last else normalised.contiguous())

    def raw_with_flip(self, image: UInt8[Tensor, "b h w 3"]) -> Any:
        """Averages the raw over the image and its mirror image. Raises UserError where flip pairs are unknown."""
        flip_order = torch.from_numpy(self.spec.skeleton.flip_order).to(image.device)
        mirrored = self.head.unflip(self(image.flip(2)), flip_order)
        return _mean_of(full_precision(self(image)), full_precision(mirrored))

    def shipped(self) -> dict[str, Tensor]:
        """Gives the state without what only training needs."""
        prefixes = tuple(f"head.{name}." for name in self.head.training_only)
        return {name: value for name, value in self.state_dict().items() if not name.startswith(prefixes)}

    def decode(self, raw: Any) -> Keypoints:
        """Reads the points from the head's raw, and how far they may be off where that was measured (`Spread`)."""
        found, measured = self.head.decode(raw), self.spec.spread
        if measured is None:
            return found
        told = self.head.spread(raw)
        px = torch.ones_like(found.xy) if told is None else geometry.spread_to_px(told, self.spec.size)
        sigma = px.clamp_min(LEAST_SPREAD_PX) ** measured.power * px.new_tensor(measured.scale)[:, None]
        share = measured.correlation
        leaning = None if share is None else self.head.correlation(raw)
        if share is not None and leaning is not None:
            leaning = (leaning * share).clamp(-MOST_CORRELATED, MOST_CORRELATED)
        return replace(found, sigma=sigma, correlation=leaning, spread=measured)

    def predict(self, image: UInt8[Tensor, "b h w 3"], flip_test: bool = False) -> Keypoints:
        """Predicts Keypoints in px of RGB crops [b, h, w, 3]; call in eval mode, no gradients are kept."""
        with torch.inference_mode():
            raw = full_precision(self.raw_with_flip(image) if flip_test else self(image))
            # Autocast, where the caller has it on, would run the decoder's products in bf16: errors of a px and more.
            with torch.autocast(image.device.type, enabled=False):
                return self.decode(raw)

    def find(self, image: UInt8[Tensor, "b h w 3"]) -> Found:
        """Finds the instances of RGB scenes, where the head is a finder's; as `predict`."""
        with torch.inference_mode():
            raw = full_precision(self(image))
            with torch.autocast(image.device.type, enabled=False):
                return cast(FinderHead, self.head).decode(raw)


def build(spec: DetectorSpec, pretrained: Pretrained = "no") -> Detector:
    """Builds a detector from its spec; `pretrained` as in `catalog.build_backbone`. The detector's own spec is
    complete: settings that were left to defaults are written out in it."""
    module = catalog.head_module(spec.method)
    head_spec = config.from_dict(module.Spec, spec.head, "head")
    finds = issubclass(module.Head, FinderHead)
    backbone = catalog.build_backbone(spec.backbone, pretrained, all_levels=finds)
    levels = backbone.levels if finds else backbone.levels[backbone.main]
    head = module.Head(head_spec, levels, len(spec.skeleton.points), spec.size)
    normalization = spec.normalization or backbone.normalization
    spec = replace(spec, head=config.to_dict(head_spec), normalization=normalization)
    return Detector(spec, backbone, head)


def save(detector: Detector, folder: Path, card: Card) -> None:
    """Writes `model.safetensors` and `model.json` into `folder`, each whole or not at all; the card last, so that a
    folder with a card is complete."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing(folder / "model.safetensors") as temporary:
        save_file({name: tensor.contiguous() for name, tensor in detector.state_dict().items()}, str(temporary))
    sources = catalog.sources(detector.spec.backbone, detector.spec.method)
    config.write_json(folder / "model.json", replace(card, sources=sources))


def load_card(folder: Path) -> Card:
    """Reads the card of a run folder, or makes one for another project's file. Raises UserError where it is neither, or
    was written by a newer version."""
    foreign = checkpoints.file_at(folder)
    if foreign is not None:
        return _card_of(checkpoints.plan_of(foreign), foreign)
    path = (folder.parent if folder.is_file() else folder) / "model.json"
    if not path.exists():
        if folder.exists():
            checkpoints.refuse_exported(folder)
        raise UserError(
            f"{folder}: no trained model here (no model.json). Give the folder that `fiducial fit --out` made, or a file "
            "of weights of a project that docs/weights.md names"
        )
    return cards.read(path)


def load(path: Path, device: str = "cpu") -> tuple[Detector, Card]:
    """Loads the detector of a run folder, or of another project's file of weights, in eval mode.

    Every weight must match, nothing is loaded in part: else UserError."""
    if path.is_file() or checkpoints.file_at(path) is not None:
        detector, card, report = load_checkpoint(path)
        logger.warning(report)  # a user must see what the file was taken for
        return detector.to(device), card
    card = load_card(path)
    file = path / "model.safetensors"
    if not file.is_file():
        raise UserError(f"{file}: can't be read: it is missing; copy the whole folder of the run, or train it again")
    try:
        with trial.bounded(path / "model.json", file.stat().st_size):
            detector = build(card.spec)
    except UserError as error:
        origin = "".join(f"; {name} was {source}" for name, source in card.sources.items() if name in str(error))
        raise UserError(path, f"{error}{origin}") from error
    for name, source in catalog.sources(card.spec.backbone, card.spec.method).items():
        if source.rpartition(" ")[2] != card.sources.get(name, source).rpartition(" ")[2]:
            logger.warning(f"{path}: {name} has changed since this was trained: {source}")
    weights = read_weights(file)
    wrong = differing(detector.state_dict(), weights)
    if wrong:
        raise UserError(f"{file}: {len(wrong)} tensors do not fit the network of model.json, first {wrong[0]!r}")
    detector.load_state_dict(weights)
    return detector.eval().to(device), card


def load_checkpoint(path: Path, size: Size | None = None) -> tuple[Detector, Card, str]:
    """Loads the detector of another project's file, in eval mode; gives also a line that says what was taken from it.

    `size` is the input's where the file does not say it right; the decoding is that of the file's project."""
    if (path.parent / "model.json").exists() and path.name == "model.safetensors":
        detector, card = load(path.parent)
        return detector, card, f"{path}: weights of a run folder"
    path = checkpoints.file_at(path) or path
    plan = checkpoints.plan_of(path)
    card = _card_of(plan, path, size)
    with trial.bounded(path, path.stat().st_size):
        detector = build(card.spec)
    report = checkpoints.fill(detector, plan, path)
    return detector.eval(), replace(card, spec=detector.spec), report


def origins_of(path: Path) -> dict[str, str]:
    """Lists what weights come from: a run folder or a file, and what went into that; name -> licence."""
    folder = path.parent if path.name == "model.safetensors" else path
    card = load_card(folder) if (folder / "model.json").is_file() else None
    return {path.name: NOT_STATED} if card is None else {**(card.derived_from or {}), folder.name: card.licence}


def initialise_from(detector: Detector, source: Path, plan: checkpoints.Plan | None = None) -> str:
    """Fills `detector` with weights of a run folder, a file of ours or another project's; gives a line that says what
    matched. See `checkpoints.initialise`."""
    spec = detector.spec
    return checkpoints.initialise(
        detector,
        source,
        backbone=spec.backbone,
        method=spec.method,
        size=spec.size,
        points=spec.skeleton.points,
        plan=plan,
    )


def _card_of(plan: checkpoints.Plan, path: Path, size: Size | None = None) -> Card:
    """Makes the card of another project's file. Its licence is its authors' to state."""
    assert plan.method is not None
    assert plan.skeleton is not None
    spec = DetectorSpec(plan.backbone, plan.method, plan.head, size or plan.size, plan.skeleton, plan.normalization)
    return Card(spec, initialization=str(path))


def differing(own: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """Lists the names that only one of two states has, or whose shapes differ."""
    wrong = [name for name in own if name not in given or given[name].shape != own[name].shape]
    return wrong + [name for name in given if name not in own]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a file of weights of ours. Raises UserError where it can't be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: can't be read as safetensors: {error}") from error
    checkpoints.refuse_unusable(path, weights)
    return weights


def _mean_of(a: Any, b: Any) -> Any:
    """Averages two raws: tensors, or NamedTuples of tensors."""
    return (a + b) / 2 if isinstance(a, Tensor) else type(a)(*((x + y) / 2 for x, y in zip(a, b, strict=True)))


def full_precision(raw: Any) -> Any:
    """Turns a raw into float32, so that decoding and losses, run outside of autocast, are exact whatever the network
    ran in. A softmax over thousands of cells or the square of a small error is lost in bf16."""
    return raw.float() if isinstance(raw, Tensor) else type(raw)(*(part.float() for part in raw))
