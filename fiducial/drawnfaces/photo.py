"""What a camera and a video coder do to a image: colours, blur, few pixels, noise, blocks. Nothing moves."""

from __future__ import annotations

import cv2
import numpy as np

from fiducial.drawnfaces.curves import even


def photograph(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Makes a worse photograph of a scene [h, w, 3] uint8."""
    if random.random() < 0.3:
        image = _shadowed(image, random)
    image = cv2.LUT(image, _tones(random))
    if random.random() < 0.12:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    elif random.random() < 0.5:
        image = _saturated(image, random.uniform(0.3, 1.5))
    if random.random() < 0.25:
        image = _sharpened(image, random.uniform(0.3, 1.5), random.uniform(1, 6))
    if random.random() < 0.15:
        image = _coarse(image, random.uniform(1.2, 3.0))
    if random.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 1.2) * min(image.shape[:2]) / 128)
    if random.random() < 0.1:
        image = _moved(image, random)
    if random.random() < 0.4:
        image = _noisy(image, random)
    if random.random() < 0.3:
        image = _coded(image, int(random.integers(15, 80)))
    return image


def _shadowed(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Light and shade of things outside of the image: leaves, a hat's brim, a window frame."""
    height, width = image.shape[:2]
    cells = random.integers(2, 7, 2)
    field = cv2.resize(random.standard_normal(cells, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    sharp, depth = np.float32(random.uniform(1, 8)), np.float32(random.uniform(0.15, 0.6))
    light = 1 - depth / (1 + np.exp(-sharp * (field - np.float32(0.3))))
    return cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U)


def _tones(random: np.random.Generator) -> np.ndarray:
    """Exposure, contrast, gamma and a colour cast as a table, [256, 1, 3]."""
    level = even(0, 1, 256)[:, None]
    gamma = np.exp(random.normal(0, 0.25)) * np.exp(random.normal(0, 0.05, 3))
    gain = np.exp(np.clip(random.normal(0.0, 0.25), -0.9, 0.45)) * np.exp(random.normal(0, 0.06, 3))
    haze = random.uniform(0, 0.2) if random.random() < 0.12 else 0.0
    table = haze + (1 - haze) * gain * level**gamma
    return np.clip(255 * table, 0, 255).astype(np.uint8)[:, None]


def _saturated(image: np.ndarray, amount: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, amount, grey, 1 - amount, 0)


def _sharpened(image: np.ndarray, amount: float, sigma: float) -> np.ndarray:
    """More contrast between near places, as cameras and people who like it add."""
    return cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), sigma), -amount, 0)


def _coarse(image: np.ndarray, factor: float) -> np.ndarray:
    """As if taken with fewer pixels. Both resizes keep the outer edges, so nothing moves."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(int(width / factor), 8), max(int(height / factor), 8)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _moved(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Motion blur, symmetric about each pixel."""
    length = 2 * int(random.integers(1, 3)) + 1
    kernel = np.zeros((length, length), np.float32)
    middle = length // 2
    angle = random.uniform(0, np.pi)
    for step in np.linspace(-middle, middle, 2 * length):
        kernel[round(middle + step * np.sin(angle)), round(middle + step * np.cos(angle))] = 1
    kernel = kernel + kernel[::-1, ::-1]
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def _noisy(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    grain = random.standard_normal((*image.shape[:2], 3), np.float32) * random.uniform(1, 12)
    return cv2.add(image, grain, dtype=cv2.CV_8U)


def _coded(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded
