"""Detector and generator of one run: as files, and at work.

In a run folder the detector lies as in that of any run, beside it `generator.safetensors` and `generator.json`. A published
checkpoint holds both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from fiducial import config, files, geometry
from fiducial.card import Card
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector, full_precision
from fiducial.models.heads import motion
from fiducial.models.heads.motion import Frames
from fiducial.motion import official
from fiducial.motion.generator import Generator, GeneratorSpec
from fiducial.runtime import runtime

FORMAT_VERSION = 1


@dataclass(frozen=True)
class GeneratorCard:
    """Holds what must be known to build the generator anew."""

    spec: GeneratorSpec
    points: int
    format_version: int = FORMAT_VERSION


def save(generator: Generator, points: int, folder: Path) -> None:
    """Writes the generator's files into a run folder, each whole or not at all, the card last."""
    with files.replacing(folder / "generator.safetensors") as partial:
        save_file({name: tensor.contiguous() for name, tensor in generator.state_dict().items()}, str(partial))
    config.write_json(folder / "generator.json", GeneratorCard(generator.spec, points))


def load(folder: Path, device: str = "cpu") -> tuple[Detector, Generator, Card]:
    """Loads both from a run folder, in eval mode. UserError where the folder holds a detector alone."""
    detector, card = detectors.load(folder, device)
    path = folder / "generator.json"
    if not path.exists():
        raise UserError(
            folder,
            "has no generator (no generator.json), so nothing can be animated; expected the folder of a run of `fiducial fit "
            "VIDEOS --method motion`",
        )
    values = files.read_object(path)
    version = values.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(path, f"format version {version}; this Fiducial reads up to {FORMAT_VERSION}")
    generator_card = config.from_dict(GeneratorCard, values, str(path))
    generator = Generator(generator_card.spec, generator_card.points)
    weights = detectors.read_weights(folder / "generator.safetensors")
    wrong = detectors.differing(generator.state_dict(), weights)
    if wrong:
        raise UserError(
            folder / "generator.safetensors",
            f"{len(wrong)} tensors do not fit the network of generator.json, first {wrong[0]!r}",
        )
    generator.load_state_dict(weights)
    return detector, generator.eval().to(device), card


class System:
    """Runs a detector and the generator that makes images from its points."""

    def __init__(self, detector: Detector, generator: Generator, device: str = "cpu") -> None:
        self.detector, self.generator, self.device = detector, generator, device
        self.size, self.padding = detector.spec.size, detector.spec.padding

    @staticmethod
    def open(model: Path) -> System:
        """Loads a run folder with a generator, or a published checkpoint, onto this machine's accelerator or CPU.

        UserError where there is nothing that animates."""
        if runtime.is_exported(model):
            raise UserError(
                model,
                "an exported detector, which has no generator; give the folder of the run, of `fiducial fit VIDEOS --method "
                "motion`, or a published checkpoint of the First-Order-Motion model",
            )
        if not model.exists():
            raise UserError(model, "no such file or folder; expected a run folder with a generator")
        device = evaluate.device_name()
        if (model.parent / "generator.json").exists():  # a file of a run folder
            model = model.parent
        detector, generator = official.load(model, device) if model.is_file() else load(model, device)[:2]
        return System(detector, generator, device)

    @torch.inference_mode()
    def frames(self, crops: np.ndarray) -> Frames:
        """Finds points and local frames on uint8 RGB crops [n, h, w, 3] of the system's size."""
        head = self.detector.head
        assert isinstance(head, motion.Head)
        return head.frames(full_precision(self.detector(torch.from_numpy(crops).to(self.device))))

    def px(self, frames: Frames) -> np.ndarray:
        """Gives the points [n, k, 2] in px of the crops."""
        return geometry.corner_to_px(frames.xy_corner, self.size).float().cpu().numpy()

    @torch.inference_mode()
    def generate(self, source: np.ndarray, of_source: Frames, of_driving: Frames) -> np.ndarray:
        """Moves the source's crop [h, w, 3], whose local frames are `of_source` [1], to each of n driving ones: uint8
        [n, h, w, 3]."""
        count = len(of_driving.xy_corner)
        image = torch.from_numpy(source).to(self.device).permute(2, 0, 1)[None].float() / 255
        generated = self.generator(image.expand(count, -1, -1, -1), repeated(of_source, count), of_driving).prediction
        return (generated.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def repeated(frames: Frames, count: int) -> Frames:
    """Repeats the frames of the first image `count` times."""
    xy_corner, jacobian = frames.xy_corner[:1].expand(count, -1, -1), frames.jacobian
    return Frames(xy_corner, None if jacobian is None else jacobian[:1].expand(count, -1, -1, -1))
