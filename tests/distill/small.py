"""Teachers and students of a few thousand weights, 64 px or less."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quick import ALONE
from torch import nn

from fiducial import config, files
from fiducial.card import Card, DetectorSpec
from fiducial.distillation import recipes
from fiducial.distillation import teacher as teachers
from fiducial.distillation.teacher import Teacher
from fiducial.geometry import Size
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.motion.clips import FRAMES, INDEX, ClipIndex, Clips
from fiducial.training.recipe import Recipe
from fiducial.types import Batch, Skeleton

POINTS = ("a", "b", "c")
SIZE = Size(64, 48)
HOURGLASS = "hourglass_w8_b2_m16_s2"
SMALL = {"epochs": 2, "batch_size": 8}
SETTINGS = [*ALONE, "pretrained=no"]


def detector_of(
    method: str = "motion",
    backbone: str = HOURGLASS,
    size: Size = SIZE,
    points: tuple[str, ...] = POINTS,
    seed: int = 0,
    **head: Any,
) -> Detector:
    """Random, in eval mode; its points depend on the picture, its norms have seen one."""
    torch.manual_seed(seed)
    skeleton = Skeleton("three", points, edges=((0, 1),))
    detector = detectors.build(DetectorSpec(backbone, method, head, size, skeleton, padding=1.0))
    for parameter in detector.head.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.05)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    detector.train()(crops(16, size, seed=9).image)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return detector.eval()


def crops(count: int, size: Size = SIZE, seed: int = 0) -> Batch:
    """Smooth noise, nothing labelled."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 8, generator=generator)
    image = nn.functional.interpolate(coarse, (size.h, size.w), mode="bilinear") * 255
    zeros = torch.zeros(count, len(POINTS))
    return Batch(
        image.to(torch.uint8).permute(0, 2, 3, 1).contiguous(),
        torch.zeros(count, len(POINTS), 2),
        zeros,
        torch.eye(3).expand(count, 3, 3),
        torch.arange(count),
    )


def saved(detector: Detector, folder: Path) -> Teacher:
    detectors.save(detector, folder, Card(detector.spec))
    return teachers.load(folder)


def twin(detector: Detector) -> Detector:
    return copy.deepcopy(detector).requires_grad_(True)


def recipe_of(
    teacher: Teacher,
    *settings: str,
    loss: str = "L1",
    student: str = "hourglass_w8_b2_m8_s2",
    method: str | None = None,
    **options: Any,
) -> Recipe:
    return recipes.recipe_of(teacher, student, loss, method, {**SMALL, **options}, [*SETTINGS, *settings])


def clips_in(folder: Path) -> Clips:
    """What a run has kept in its folder of frames."""
    index = config.from_dict(ClipIndex, files.read_json(folder / INDEX), str(folder))
    frames = np.fromfile(folder / FRAMES, np.uint8).reshape(index.shape)
    return Clips(index, frames, np.concatenate([[0], np.cumsum(index.counts)]))
