"""A picture moved as others do: how points are carried over from them, and what the generator of a run without labels, or
of a published file, makes of it (First order motion model: Siarohin et al., NeurIPS 2019, section 3.3).

Only `System` needs torch, which is imported when one is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.evaluation import evaluate
from fiducial.runtime import runtime

if TYPE_CHECKING:
    from fiducial.models.detector import Detector
    from fiducial.models.heads.motion import Frames
    from fiducial.motion.generator import Generator


class Moved(NamedTuple):
    """Some driving frames and what was made of them."""

    generated: np.ndarray  # [n, h, w, 3] uint8
    driving_xy: np.ndarray  # [n, k, 2] px of the crops
    xy: np.ndarray  # [n, k, 2] where the source's points were moved to


# ----------------------------------------------------------------------------------------------------------- points


def hull_area(xy: np.ndarray) -> float:
    """Of the convex hull of points [k, 2]; 0 of fewer than three, and of points on a line."""
    hull = cv2.convexHull(np.asarray(xy, np.float32))[:, 0].astype(np.float64)
    x, y = hull[:, 0], hull[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def hull_scale(source_xy: np.ndarray, driving_xy: np.ndarray) -> float:
    """How much larger the source's points [k, 2] are spread than the driving ones: the root of the ratio of their convex
    hulls' areas (`adapt_movement_scale` of the published code); 1 where one of them has none."""
    own, other = hull_area(source_xy), hull_area(driving_xy)
    return (own / other) ** 0.5 if own > 0 and other > 0 else 1.0


def relative(source: Frames, first: Frames, driving: Frames, scale: float) -> Frames:
    """The source's points, each moved as the driving one has moved since the first frame, times `scale`, and its frames
    turned likewise: J_d J_d0^-1 J_s. So differences of build between source and driving picture do not matter."""
    from fiducial.models.heads.motion import Frames
    from fiducial.motion import grids

    xy_corner = source.xy_corner + scale * (driving.xy_corner - first.xy_corner)
    if source.jacobian is None or first.jacobian is None or driving.jacobian is None:
        return Frames(xy_corner, None)
    return Frames(xy_corner, driving.jacobian @ grids.inverse(first.jacobian) @ source.jacobian)


def _repeated(frames: Frames, count: int) -> Frames:
    """Those of the first picture, `count` times."""
    from fiducial.models.heads.motion import Frames

    xy_corner, jacobian = frames.xy_corner[:1].expand(count, -1, -1), frames.jacobian
    return Frames(xy_corner, None if jacobian is None else jacobian[:1].expand(count, -1, -1, -1))


class System:
    """A detector and a generator, and the source that is to move."""

    def __init__(self, detector: Detector, generator: Generator, device: str = "cpu") -> None:
        self.detector, self.generator, self.device = detector, generator, device
        self.size, self.padding = detector.spec.size, detector.spec.padding

    def frames(self, cut: np.ndarray) -> Frames:
        """Of crops [n, h, w, 3]."""
        import torch

        from fiducial.models.detector import full_precision
        from fiducial.models.heads import motion

        with torch.inference_mode():
            head = self.detector.head
            assert isinstance(head, motion.Head)
            return head.frames(full_precision(self.detector(torch.from_numpy(cut).to(self.device))))

    def px(self, frames: Frames) -> np.ndarray:
        """[n, k, 2]: their points on the crops."""
        return geometry.corner_to_px(frames.xy_corner, self.size).float().cpu().numpy()

    def generate(self, source: np.ndarray, of_source: Frames, of_driving: Frames) -> np.ndarray:
        """[n, h, w, 3]: the source's crop [h, w, 3] with its points at those n places."""
        import torch

        count = len(of_driving.xy_corner)
        with torch.inference_mode():
            picture = torch.from_numpy(source).to(self.device).permute(2, 0, 1)[None].float() / 255
            pictures = picture.expand(count, -1, -1, -1)
            made = self.generator(pictures, _repeated(of_source, count), of_driving).prediction
            return (made.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def load(model: Path) -> System:
    """A run folder with a generator, or a published checkpoint, on this machine's accelerator or CPU. UserError where there
    is nothing that animates."""
    if runtime.is_exported(model):
        raise UserError(
            f"{model}: an exported detector, which has no generator; give the folder of the run, of `fiducial fit VIDEOS "
            "--method motion`, or a published checkpoint of the First-Order-Motion model"
        )
    from fiducial.motion import official, system

    if not model.exists():
        raise UserError(f"{model}: no such file or folder; expected a run folder with a generator")
    device = evaluate.device_name()
    if (model.parent / "generator.json").exists():  # a file of a run folder
        model = model.parent
    detector, generator = official.load(model, device) if model.is_file() else system.load(model, device)[:2]
    return System(detector, generator, device)


class Puppet:
    """The source, moved batch by batch; the first driving frame of all is what motion is measured against."""

    def __init__(self, system: System, source: np.ndarray, absolute: bool) -> None:
        self.system, self.source, self.absolute = system, source, absolute
        self.of_source = system.frames(source[None])
        self.scale: float | None = None
        self._first: Frames | None = None

    def __call__(self, driving: np.ndarray) -> Moved:
        """Driving crops [n, h, w, 3], in order."""
        system, of_driving = self.system, self.system.frames(driving)
        target = of_driving
        if not self.absolute:
            if self._first is None:
                self._first = _repeated(of_driving, 1)
                own, other = (system.px(frames)[0] for frames in (self.of_source, self._first))
                self.scale = hull_scale(own, other)
            target = relative(self.of_source, self._first, of_driving, self.scale or 1.0)
        generated = system.generate(self.source, self.of_source, target)
        return Moved(generated, system.px(of_driving), system.px(target))
