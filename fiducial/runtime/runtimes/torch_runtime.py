"""torch: run folders, and other projects' files of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fiducial.card import FINDER, USABLE, Card, DetectorSpec
from fiducial.types import Found, Keypoints

if TYPE_CHECKING:
    from fiducial.models.detector import Detector

NAME, TITLE, TARGET = "torch", "PyTorch", None
FILES = ()
EXPORT, INT8 = None, None
LAYERS = "fiducial.profiling.torch_modules:of_network"
SUFFIXES = {".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar"}


def matches(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or (path.is_dir() and (path / "model.safetensors").exists())


def load(path: Path, threads: int | None = None, flip_test: bool = False) -> TorchNetwork:
    """On this machine's accelerator or CPU."""
    import torch

    from fiducial.models import detector as detectors

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are filled
        detector, card = detectors.load(path, device)
        has_finder = path.is_dir() and (path / FINDER / "model.json").is_file()
        finder, about = detectors.load(path / FINDER, device) if has_finder else (None, None)
        finder = finder if about is not None and about.metrics.get(USABLE, True) else None
    return TorchNetwork(detector, card, path, flip_test, threads, finder)


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Lets torch compute on so many threads inside, None = as many as before; they are the whole process's."""
    import torch

    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchNetwork:
    """A detector in eval mode, on the device where it is; `card` and `path` where it has them."""

    runtime = NAME

    def __init__(
        self,
        detector: Detector,
        card: Card | None = None,
        path: Path | None = None,
        flip_test: bool = False,
        threads: int | None = None,
        finder: Detector | None = None,
    ) -> None:
        self.threads, self.finder = threads, None if finder is None else finder.eval()
        self.detector, self.flip_test = detector.eval(), flip_test
        self.card, self.path = card or Card(detector.spec), path or Path("memory")
        if flip_test:
            _ = self.card.spec.skeleton.flip_order  # refused at once where it is unknown

    def predict(self, crops: np.ndarray) -> Keypoints:
        import torch

        device = self.detector.get_buffer("mean").device
        with on_threads(self.threads):
            return self.detector.predict(torch.from_numpy(crops).to(device), self.flip_test).numpy()

    @property
    def finds(self) -> DetectorSpec | None:
        return None if self.finder is None else self.finder.spec

    def find(self, scenes: np.ndarray) -> Found:
        import torch

        assert self.finder is not None
        with on_threads(self.threads):
            found = self.finder.find(torch.from_numpy(scenes).to(self.finder.get_buffer("mean").device))
        return Found(*(part.cpu().numpy() for part in (found.box_xywh, found.score, found.kind)))

    def heatmaps(self, crops: np.ndarray) -> np.ndarray | None:
        """[n, k, h, w] in 0..1, for pictures; None where the method has no maps."""
        import torch

        device = self.detector.get_buffer("mean").device
        with torch.inference_mode():
            maps = self.detector.head.heatmaps(self.detector(torch.from_numpy(crops).to(device)))
        return None if maps is None else maps.float().cpu().numpy()
