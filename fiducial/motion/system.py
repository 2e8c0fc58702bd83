"""Detector and generator of one run, as files: the detector's as of any run, beside it `generator.safetensors` and
`generator.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fiducial import config, files
from fiducial.card import Card
from fiducial.errors import UserError
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.motion.generator import Generator, GeneratorSpec

FORMAT_VERSION = 1


@dataclass(frozen=True)
class GeneratorCard:
    """What must be known to build the generator anew."""

    spec: GeneratorSpec
    points: int
    format_version: int = FORMAT_VERSION


def save(generator: Generator, points: int, folder: Path) -> None:
    """Each file written beside and renamed, the card last."""
    from safetensors.torch import save_file

    temporary = folder / ".generator.safetensors.partial"
    save_file({name: tensor.contiguous() for name, tensor in generator.state_dict().items()}, str(temporary))
    temporary.replace(folder / "generator.safetensors")
    config.write_json(folder / "generator.json", GeneratorCard(generator.spec, points))


def load(folder: Path, device: str = "cpu") -> tuple[Detector, Generator, Card]:
    """Both, in eval mode. UserError where the folder holds a detector alone."""
    detector, card = detectors.load(folder, device)
    path = folder / "generator.json"
    if not path.exists():
        raise UserError(
            f"{folder}: has no generator (no generator.json), so nothing can be animated; expected the folder of a run of "
            "`fiducial fit VIDEOS --method motion`"
        )
    values = files.read_json(path)
    if values.get("format_version", 0) > FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {values['format_version']}; this Fiducial reads up to {FORMAT_VERSION}"
        )
    own = config.from_dict(GeneratorCard, values, str(path))
    generator = Generator(own.spec, own.points)
    weights = detectors.read_weights(folder / "generator.safetensors")
    wrong = detectors.differing(generator.state_dict(), weights)
    if wrong:
        raise UserError(
            f"{folder / 'generator.safetensors'}: {len(wrong)} tensors do not fit the network of generator.json, first "
            f"{wrong[0]!r}"
        )
    generator.load_state_dict(weights)
    return detector, generator.eval().to(device), card
