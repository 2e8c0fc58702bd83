"""Augmentation: what is drawn for a sample, its geometry as one matrix, its colours on the finished crop.

What is drawn is a function of (seed, epoch, row) alone, so that any number of workers, ranks and resumptions see
identical crops. Geometry composes into the crop's matrix and the image is warped once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fiducial import geometry
from fiducial.errors import UserError
from fiducial.geometry import Matrix, Size
from fiducial.types import Skeleton

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_SAME = np.eye(3)  # colours as they are
_TILE_MARGIN = 64  # px by which the noise tile is larger than a crop, so that it can be shifted
_NOISE_SIGMA = 32.0  # of the tile, grey levels around 128


@dataclass(frozen=True, kw_only=True)
class AugmentSpec:
    """Says how much crops vary in training. The defaults suit faces and persons. Every amount at 0 leaves the plain
    crop."""

    shift: float = 0.08  # largest shift each way, fraction of the crop's side
    scale: tuple[float, float] = (0.75, 1.25)  # content is enlarged by a factor from this range, even in its logarithm
    rotation_degrees: float = 30.0  # largest turn either way
    rotation_probability: float = 0.6
    flip: float | None = None  # probability of mirroring; None = 0.5 where the skeleton's flip pairs are known, else 0
    brightness: float = 0.15  # largest change, fraction of the whole range
    contrast: float = 0.3  # largest relative change
    saturation: float = 0.4  # largest relative change
    cast: float = 0.08  # largest relative change of a single channel
    blur: float = 0.1  # probability
    blur_sigma: float = 1.5  # largest, px of the crop
    noise: float = 0.15  # probability
    noise_sigma: float = 10.0  # largest, grey levels
    occlusion: float = 0.15  # probability of a patch of one colour; points under it stay labelled
    occlusion_side: float = 0.35  # largest side of the patch, fraction of the crop's

    def __post_init__(self) -> None:
        for name in ("rotation_probability", "flip", "blur", "noise", "occlusion", "occlusion_side"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"augment.{name} is {value}: expected a number from 0 to 1")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise UserError(f"augment.scale is {self.scale}: expected two rising factors above 0, such as 0.75 1.25")

    @staticmethod
    def none() -> AugmentSpec:
        """Makes the spec of plain crops, in training's order."""
        return AugmentSpec(
            shift=0,
            scale=(1, 1),
            rotation_degrees=0,
            rotation_probability=0,
            flip=0,
            brightness=0,
            contrast=0,
            saturation=0,
            cast=0,
            blur=0,
            blur_sigma=0,
            noise=0,
            noise_sigma=0,
            occlusion=0,
            occlusion_side=0,
        )


def flip_probability(spec: AugmentSpec, skeleton: Skeleton) -> float:
    """Says how often to mirror. Raises the skeleton's UserError where mirroring was asked for and its pairs are
    unknown."""
    if spec.flip is None:
        return 0.0 if skeleton.flip_pairs is None else 0.5
    if spec.flip > 0:
        _ = skeleton.flip_order  # raises
    return spec.flip


def generator_of(seed: int, epoch: int, row: int) -> np.random.Generator:
    """Makes random numbers that depend on nothing else. Philox takes the three as its key, which costs a fraction of
    seeding."""
    mixed = (seed * 0x9E3779B97F4A7C15 + epoch) % 2**64
    return np.random.Generator(np.random.Philox(key=np.array([mixed, row], dtype=np.uint64)))


def crop_map(box_xywh: np.ndarray, size: Size, padding: float) -> Matrix:
    """Makes the map of the padded box, widened to the crop's aspect, onto the crop."""
    return geometry.crop(geometry.fit_aspect(box_xywh, size, padding), size)


def sample_map(
    spec: AugmentSpec, box_xywh: np.ndarray, size: Size, *, padding: float, flip: float, generator: np.random.Generator
) -> tuple[Matrix, bool]:
    """Draws the map of an image onto an augmented crop, and says whether it mirrors (then points change names by
    `Skeleton.flip_order`).

    `flip` is the probability that `flip_probability` gave."""
    turn, how_far, grow, x, y, mirror = generator.random(6)
    centre = geometry.unit_to_px(np.array([0.5, 0.5]), size)
    about = (float(centre[0]), float(centre[1]))
    maps = [crop_map(box_xywh, size, padding)]
    low, high = math.log(spec.scale[0]), math.log(spec.scale[1])
    factor = math.exp(low + grow * (high - low))
    maps.append(geometry.scaling(factor, factor, about))
    if turn < spec.rotation_probability:
        maps.append(geometry.rotation(math.radians(spec.rotation_degrees) * (2 * how_far - 1), about))
    maps.append(geometry.translation(spec.shift * (2 * x - 1) * size.w, spec.shift * (2 * y - 1) * size.h))
    mirrors = bool(mirror < flip)
    if mirrors:
        maps.append(geometry.flip(size))
    return geometry.compose(*maps), mirrors


def recolour(spec: AugmentSpec, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Changes light, colours and sharpness of a uint8 RGB crop, adds noise and perhaps a patch; a new array or the
    same."""
    import cv2

    draws = generator.random(14)
    matrix = _colour_matrix(spec, draws[:6])
    if matrix is not None:
        image = cv2.transform(image, matrix)
    if draws[6] < spec.blur:
        image = cv2.GaussianBlur(image, (0, 0), 0.3 + draws[7] * max(spec.blur_sigma - 0.3, 0))
    height, width = image.shape[:2]
    if draws[8] < spec.noise:
        tile = _noise_tile(Size(width, height))
        top, left = (int(value) for value in generator.integers(0, _TILE_MARGIN, 2))
        amount = float(draws[9]) * spec.noise_sigma / _NOISE_SIGMA
        image = cv2.addWeighted(image, 1, tile[top : top + height, left : left + width], amount, -128 * amount)
    if draws[10] < spec.occlusion:
        across, down = (1 + spec.occlusion_side * draws[11:13] * (width - 1, height - 1)).astype(int)
        left, top = int(generator.integers(0, width - across + 1)), int(generator.integers(0, height - down + 1))
        image[top : top + down, left : left + across] = generator.integers(0, 256, 3)
    return image


def _colour_matrix(spec: AugmentSpec, draws: np.ndarray) -> np.ndarray | None:
    """[3, 4]: saturation around the grey of each pixel, then gain a channel, contrast around mid grey, brightness."""
    if not (spec.brightness or spec.contrast or spec.saturation or spec.cast):
        return None
    amounts = 2 * draws - 1
    saturation = 1 + spec.saturation * float(amounts[0])
    contrast = 1 + spec.contrast * float(amounts[1])
    gain = contrast * (1 + spec.cast * amounts[3:6])
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = gain[:, None] * (saturation * _SAME + (1 - saturation) * _LUMA)
    matrix[:, 3] = 128 * (1 - contrast) + 255 * spec.brightness * float(amounts[2])
    return matrix


@lru_cache(maxsize=4)
def _noise_tile(size: Size) -> np.ndarray:
    """uint8 noise around 128, the same in every process."""
    shape = (size.h + _TILE_MARGIN, size.w + _TILE_MARGIN, 3)
    noise = np.random.Generator(np.random.Philox(key=1)).standard_normal(shape, dtype=np.float32)
    return np.clip(np.rint(128 + _NOISE_SIGMA * noise), 0, 255).astype(np.uint8)
