"""Solids -> image: a z-buffer with the texture's place and the light at every pixel, then the colours.

The rasteriser is OpenCV 5's `triangleRasterize`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from fiducial import geometry
from fiducial.drawnfaces.curves import even
from fiducial.drawnfaces.meshes import Mesh, all_triangles
from fiducial.drawnfaces.scene import View
from fiducial.drawnfaces.skin import Canvas
from fiducial.errors import UserError
from fiducial.geometry import Size

LIGHT_RANGE = 2.5  # light is stored in 0..1 of it
GAIN = 160.0  # the byte that leaves a colour as it is
SHADOW_MAP = 72  # px a side
SHADOW_EXTENT = 5.0  # eye-corner distances a side
SHADOW_BIAS = 0.1  # nearer than that to the lit surface is not in its shadow
AROUND = np.array([(-0.7, -0.7), (0.7, -0.7), (-0.7, 0.7), (0.7, 0.7)], np.float32)  # px where shadow is looked for
LAMP = 10.0  # distance of the lamp
FAR = 100.0


@dataclass(frozen=True)
class Light:
    """Describes a lamp far away, and light from everywhere."""

    direction: np.ndarray  # [3] unit, from the head to the lamp, turned head frame
    key: float
    ambient: float
    sky: float  # how much more of the ambient light comes from above
    gloss: float
    key_colour: np.ndarray  # [3] about 1
    ambient_colour: np.ndarray


def draw_light(random: np.random.Generator) -> Light:
    """Draws a light: mostly from above and in front, sometimes from the side."""
    azimuth, height = random.normal(0, 0.75), random.normal(0.45, 0.4)
    direction = np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)])
    balance = random.uniform(0.25, 0.8)
    total = random.uniform(0.85, 1.3)
    warm = random.normal(0, 0.06)
    return Light(
        direction=direction,
        key=total * balance,
        ambient=total * (1 - balance),
        sky=random.uniform(0.0, 0.5),
        gloss=random.uniform(0, 0.6),
        key_colour=np.array([1 + warm, 1.0, 1 - warm]),
        ambient_colour=np.array([1 - warm, 1.0, 1 + warm]) * random.uniform(0.9, 1.05, 3),
    )


def shade(meshes: list[Mesh], texture: Canvas, view: View, light: Light, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Renders the solids, [h, w, 3] uint8, and says where they are, [h, w] uint8, 0 = not. `view` projects to px of `size`."""
    vertices = np.concatenate([mesh.vertices.reshape(-1, 3) for mesh in meshes], dtype=np.float32)
    skin = np.concatenate([mesh.skin.reshape(-1, 2) for mesh in meshes], dtype=np.float32)
    faces = all_triangles(meshes)
    brightness = _brightness(meshes, vertices, faces, light)
    painted = Size(texture.image.shape[1], texture.image.shape[0])
    place = np.asfortranarray(geometry.transform(texture.placed, skin))  # long columns are quicker than pairs
    place = np.clip(geometry.px_to_unit(place, painted), 0, 1)
    values = np.column_stack([geometry.unit_to_px(place, painted), brightness / LIGHT_RANGE]).astype(np.float32)
    away = np.float32(view.distance) - vertices[:, 2]
    xy = geometry.transform(view.placed, vertices[:, :2] * (np.float32(view.distance) / away)[:, None])
    colours, depth = rasterize(xy, away, faces, values, size)
    x, y, share = cv2.split(colours)
    four = cv2.cvtColor(texture.image, cv2.COLOR_RGB2RGBA)  # channels, which OpenCV moves twice as fast as three
    albedo = cv2.remap(four, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _lit(cv2.cvtColor(albedo, cv2.COLOR_RGBA2RGB), share, light), (depth < FAR).view(np.uint8)


def check_opencv() -> None:
    """Says so where OpenCV is too old to draw triangles."""
    if not hasattr(cv2, "triangleRasterize"):
        raise UserError(
            f"procedural faces need OpenCV 5, found {cv2.__version__}: pip install 'opencv-python-headless>=5'"
        )


@cache
def keep_memory() -> None:
    """Frees a large block, once: from then on glibc keeps what pictures leave, which it else gives back to the system and
    takes anew, a tenth of the time of a small picture."""
    np.empty(2**25 - 2**16, np.uint8)


def rasterize(
    xy: np.ndarray, away: np.ndarray, faces: np.ndarray, values: np.ndarray, size: Size
) -> tuple[np.ndarray, np.ndarray]:
    """Spreads values [n, 3] of vertices at xy [n, 2], px, and distances `away` [n], over the triangles
    `faces` [m, 3]: [h, w, 3] float32, and the z-buffer [h, w], `FAR` where there is nothing."""
    points = _camera_points(xy, away, size)
    colours = np.zeros((size.h, size.w, 3), np.float32)
    depth = np.full((size.h, size.w), FAR, np.float32)
    cv2.triangleRasterize(points, faces, values, colours, depth, np.eye(4)[:3], np.pi / 2, 0.5, FAR, _settings())
    return colours, depth


def _camera_points(xy: np.ndarray, away: np.ndarray, size: Size) -> np.ndarray:
    """Points [n, 3] float32 that OpenCV's camera, of a right angle's view, sees at xy [n, 2], px, and distance
    `away` [n]. It looks along -z, y up, and what it sees is twice as high as it is far."""
    plane = (geometry.px_to_unit(np.asfortranarray(xy), size) - np.float32(0.5)) * np.array(
        [2 * size.w / size.h, -2], np.float32
    )
    points = np.empty((len(xy), 3), np.float32)
    points[:, :2], points[:, 2] = plane * away[:, None], -away
    return points


def _brightness(meshes: list[Mesh], vertices: np.ndarray, faces: np.ndarray, light: Light) -> np.ndarray:
    """Light at every vertex [n]: Lambert's law, half-shadows, gloss, more from above."""
    normal = np.concatenate([mesh.normals.reshape(-1, 3) for mesh in meshes], dtype=np.float32)
    facing = normal @ light.direction.astype(np.float32)
    lit = np.clip((facing + 0.15) / 1.15, 0, None) * _shadow(vertices, faces, light.direction)
    halfway = light.direction + np.array([0.0, 0, 1])
    halfway = (halfway / np.linalg.norm(halfway)).astype(np.float32)
    gloss = light.gloss * np.clip(normal @ halfway, 0, 1) ** 14
    ambient = light.ambient * (1 - light.sky * 0.5 * (1 + normal[:, 1]))
    return np.clip(ambient + light.key * (1.2 * lit + gloss), 0, LIGHT_RANGE)


def _shadow(vertices: np.ndarray, faces: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Share of the lamp that reaches each vertex [n], by a depth map seen from the lamp."""
    across = np.cross([0.0, 1.0, 0.0], direction)
    across /= np.linalg.norm(across) + 1e-9
    down = np.cross(direction, across)
    away = LAMP - vertices @ direction.astype(np.float32)
    size = Size(SHADOW_MAP, SHADOW_MAP)
    seen = np.asfortranarray(vertices @ np.stack([across, down], -1).astype(np.float32))
    px = geometry.unit_to_px(seen / np.float32(SHADOW_EXTENT) + np.float32(0.5), size)
    near = np.full((SHADOW_MAP, SHADOW_MAP), FAR, np.float32)
    points = _camera_points(px, away, size)
    cv2.triangleRasterizeDepth(points, faces, near, np.eye(4)[:3], np.pi / 2, 0.5, FAR, _settings())
    x, y = px.T[:, None] + AROUND.T[..., None]  # [4, n]: long rows are quick
    found = cv2.remap(near, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    hidden = np.clip((away - found - SHADOW_BIAS) / SHADOW_BIAS, 0, 1)
    return 1 - 0.22 * hidden.sum(0)


def _settings() -> cv2.TriangleRasterizeSettings:
    settings = cv2.TriangleRasterizeSettings()
    settings.setCullingMode(cv2.RASTERIZE_CULLING_CCW)
    settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
    return settings


def _lit(albedo: np.ndarray, share: np.ndarray, light: Light) -> np.ndarray:
    """Colours under a light of `share` [h, w] of LIGHT_RANGE; what is brighter than white goes towards white."""
    brightness = even(0, LIGHT_RANGE, 256)[:, None]
    lamp = brightness / (light.key + light.ambient)
    tint = lamp * light.key_colour + (1 - lamp) * light.ambient_colour
    gain = np.clip(np.minimum(brightness, 1.25) * tint * GAIN, 0, 255).astype(np.uint8)
    glare = np.repeat(60 * np.maximum(brightness - 1.25, 0), 3, 1).astype(np.uint8)
    level = cv2.convertScaleAbs(share, alpha=255)
    colours = cv2.multiply(albedo, cv2.applyColorMap(level, gain[:, None]), scale=1 / GAIN)
    return cv2.add(colours, cv2.applyColorMap(level, glare[:, None]))
