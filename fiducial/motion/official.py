"""Published checkpoints of the First-Order-Motion model (Siarohin et al., NeurIPS 2019), such as vox-cpk.pth.tar: detector
and generator of one file, which holds the states `generator`, `kp_detector`, `discriminator` and those of the optimizers.

What the networks are is read from their tensors' shapes: the files do not say it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.models import detector as detectors
from fiducial.models.checkpoints import _reader, fomm
from fiducial.models.checkpoints._plan import COUNTERS, Shapes
from fiducial.models.checkpoints._reader import Contents
from fiducial.models.detector import Detector
from fiducial.motion.dense_motion import DenseMotionSpec
from fiducial.motion.generator import Generator, GeneratorSpec

_DENSE_MOTION = "dense_motion_network."
_HOURGLASS = f"{_DENSE_MOTION}hourglass."
_COMPUTED = ("sums",)  # buffers that no file holds


def load(path: Path, device: str = "cpu") -> tuple[Detector, Generator]:
    """Loads detector and generator, in eval mode, with every weight of the file.

    A warning says what the detector was taken for. UserError where the file lacks one of them, or where they do not fit
    each other."""
    contents = generator_of(_reader.nested(path), path)
    spec, points = spec_of(contents)
    detector, _, report = detectors.load_checkpoint(path)
    logger.warning(report)
    found = len(detector.spec.skeleton.points)
    if found != points:
        raise UserError(path, f"its detector finds {found} points and its generator takes {points}; expected as many")
    generator = Generator(spec, points)
    generator.load_state_dict(_fitting(generator, contents), strict=False)  # what may be missing was looked at just now
    return detector.to(device), generator.eval().to(device)


def generator_of(loaded: dict[str, Any], path: Path) -> Contents:
    """Reads the generator's tensors by their published names; UserError for a file without it or without the detector."""
    missing = [name for name in ("generator", "kp_detector") if not isinstance(loaded.get(name), dict)]
    if missing:
        held = ", ".join(map(str, list(loaded)[:6])) or "nothing"
        raise UserError(
            f"{path}: has no {' and no '.join(missing)} (it holds {held}), so nothing can be animated; expected a checkpoint "
            "of the whole First-Order-Motion model, such as vox-cpk.pth.tar, or the folder of a run of `fiducial fit VIDEOS "
            "--method motion`"
        )
    contents = _reader.unwrapped(path, loaded["generator"])
    broken = next((name for name, tensor in contents.state.items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise UserError(path, f"generator: {broken} holds NaN or infinity; its training failed, take an earlier file")
    return contents


def spec_of(contents: Contents) -> tuple[GeneratorSpec, int]:
    """Reads from the tensors' shapes what the generator is and how many points it takes.

    A width that two blocks share is taken for the widest; the variance of the points' Gaussians, which no tensor shows, is
    the published one."""
    shapes = contents.shapes
    for name in (
        "first.conv.weight",
        "final.weight",
        "dense_motion_network.mask.weight",
        f"{_HOURGLASS}encoder.down_blocks.0.conv.weight",
    ):
        if name not in shapes:
            raise UserError(contents.path, f"generator: no tensor {name}; expected the First-Order-Motion model's")
    width, channels = shapes["first.conv.weight"][:2]
    if channels != 3:
        raise UserError(contents.path, f"generator: made for images of {channels} channels; expected 3, RGB")
    downs, widest = _growth(shapes, r"down_blocks\.(\d+)\.conv\.weight", width)
    # The names of the detector's hourglass are the same.
    of_dense_motion = {
        re.sub(r"^hourglass\.", "predictor.", name.removeprefix("dense_motion_network.")): shape
        for name, shape in shapes.items()
        if name.startswith("dense_motion_network.")
    }
    hourglass = fomm.spec_of(of_dense_motion)
    dense_motion = DenseMotionSpec(
        hourglass.width,
        hourglass.blocks,
        hourglass.widest,
        hourglass.reduction,
        occlusion="occlusion.weight" in of_dense_motion,
    )
    residuals = len({name.split(".")[1] for name in shapes if name.startswith("bottleneck.")})
    spec = GeneratorSpec(width, max(widest, width), downs, residuals, dense_motion=dense_motion)
    return spec, of_dense_motion["mask.weight"][0] - 1


def _growth(shapes: Shapes, pattern: str, width: int) -> tuple[int, int]:
    """How many blocks there are, and the widest that they may be: that of a block that did not double, else the usual."""
    widths = {int(found[1]): shape[0] for name, shape in shapes.items() if (found := re.fullmatch(pattern, name))}
    grown = [width, *(widths[i] for i in sorted(widths))]
    capped = next((after for before, after in itertools.pairwise(grown) if after != 2 * before), None)
    return len(widths), capped or max(GeneratorSpec().widest, grown[-1])


def _fitting(generator: Generator, contents: Contents) -> dict[str, Tensor]:
    """The tensors under our names. UserError where one is missing, too many or of another shape."""
    named = {our_generator_name(name): tensor for name, tensor in contents.state.items()}
    tensors = {name: tensor for name, tensor in named.items() if name is not None}
    wrong = [
        name
        for name in detectors.differing(generator.state_dict(), tensors)
        if not name.endswith((*COUNTERS, *_COMPUTED))
    ]
    if wrong:
        raise UserError(
            f"{contents.path}: generator: {len(wrong)} tensors do not fit the network that the others tell of, first "
            f"{wrong[0]!r}; expected the First-Order-Motion model as it was published"
        )
    return tensors


def our_generator_name(theirs: str) -> str | None:
    """Translates the name of a generator's tensor, those of its dense motion network included; None for one that is computed
    here. Those of the detector: `models/checkpoints/fomm.py`."""
    if theirs.startswith(_DENSE_MOTION):
        ours = our_dense_motion_name(theirs.removeprefix(_DENSE_MOTION))
        return None if ours is None else f"dense_motion.{ours}"
    name = re.sub(r"^(down|up)_blocks\.", r"\1.", theirs)
    return re.sub(r"^bottleneck\.r(\d+)\.", r"residuals.\1.", name)


def our_dense_motion_name(theirs: str) -> str | None:
    """Translates the name of a tensor of the dense motion network alone; None for one that is computed here, its filter."""
    if theirs == "down.weight":
        return None
    return re.sub(r"^hourglass\.(?:en|de)coder\.(down|up)_blocks\.", r"network.\1.", theirs)
