"""The solids of a scene as grids of vertices: head, ears, neck, shoulders, long hair. In the turned head frame: the
pivot at the origin, y down, z towards the viewer."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from fiducial import geometry
from fiducial.drawnfaces import head as heads
from fiducial.drawnfaces.curves import even
from fiducial.drawnfaces.head import Head
from fiducial.drawnfaces.looks import Hair, Looks
from fiducial.drawnfaces.skin import Canvas, patch_place

POLAR = np.concatenate([np.linspace(0.001, 1.1, 23), np.linspace(1.16, 1.75, 11), np.linspace(1.95, 3.1, 5)])


class Mesh(NamedTuple):
    """Holds a grid of vertices. Rows and columns run so that columns x rows points outwards, or `flipped`."""

    vertices: np.ndarray  # [rows, columns, 3]
    normals: np.ndarray  # [rows, columns, 3] unit, outwards
    skin: np.ndarray  # [rows, columns, 2] place on the unrolled skin, where its colour is painted
    closed: bool  # the last column meets the first
    flipped: bool = False
    sheet: bool = False  # seen from both sides


def triangles(mesh: Mesh) -> np.ndarray:
    """Lists two triangles a cell of the grid, all turning the same way as seen from outside, [n, 3] int32."""
    return all_triangles([mesh])


def all_triangles(meshes: list[Mesh]) -> np.ndarray:
    """Lists the triangles of several meshes whose vertices are one after the other."""
    return _all_triangles(tuple((*mesh.vertices.shape[:2], mesh.closed, mesh.flipped, mesh.sheet) for mesh in meshes))


@lru_cache(maxsize=32)
def _all_triangles(kinds: tuple[tuple[int, int, bool, bool, bool], ...]) -> np.ndarray:
    parts, start = [], 0
    for rows, columns, closed, flipped, sheet in kinds:
        found = _triangles(rows, columns, closed) + start
        start += rows * columns
        if sheet or not flipped:
            parts.append(found)
        if sheet or flipped:
            parts.append(found[:, ::-1])
    return np.concatenate(parts)


def _triangles(rows: int, columns: int, closed: bool) -> np.ndarray:
    index = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        index = np.concatenate([index, index[:, :1]], 1)
    a, b, c, d = (corner.ravel() for corner in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    return np.concatenate([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]).astype(np.int32)


def normals(vertices: np.ndarray, closed: bool, flipped: bool = False) -> np.ndarray:
    """Computes the unit normals of a grid's surface, [rows, columns, 3], outwards."""
    around = np.concatenate([vertices[:, -1:], vertices, vertices[:, :1]], 1)
    across = around[:, 2:] - around[:, :-2]
    if not closed:
        across[:, 0], across[:, -1] = vertices[:, 1] - vertices[:, 0], vertices[:, -1] - vertices[:, -2]
    down = np.empty_like(vertices)
    down[1:-1] = vertices[2:] - vertices[:-2]
    down[0], down[-1] = vertices[1] - vertices[0], vertices[-1] - vertices[-2]
    x = across[..., 1] * down[..., 2] - across[..., 2] * down[..., 1]
    y = across[..., 2] * down[..., 0] - across[..., 0] * down[..., 2]
    z = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
    length = np.sqrt(x * x + y * y + z * z) + 1e-9
    sign = -1.0 if flipped else 1.0
    unit = np.stack([x, y, z], -1) * (sign / length)[..., None]
    if closed:
        unit[0] = unit[1].mean(0)  # the pole, where columns meet
    return unit


def solids(head: Head, looks: Looks, turn: np.ndarray, canvas: Canvas, hair_mask: np.ndarray) -> list[Mesh]:
    """Builds everything of a person that is not flat."""
    meshes = [_head(head, looks, turn, canvas, hair_mask)]
    width = head.points[16, 0]
    meshes += [_ear(width, side, turn) for side in (-1.0, 1.0)]
    meshes += [_neck(width, turn), _shoulders()]
    if looks.hair is not None and looks.hair.length is not None:
        meshes.append(_curtain(looks.hair, looks.hair.length, width, turn))
    return meshes


def turned(points: np.ndarray, turn: np.ndarray) -> np.ndarray:
    return (points - heads.PIVOT) @ turn.T


def _head(head: Head, looks: Looks, turn: np.ndarray, canvas: Canvas, hair_mask: np.ndarray) -> Mesh:
    vertices, skin = heads.head_mesh(head, POLAR)
    if looks.hair is not None:
        px = geometry.transform(canvas.placed, skin).astype(np.float32)
        thick = cv2.remap(hair_mask, px[..., 0], px[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        thick = cv2.blur(thick, (5, 5)).astype(np.float64) * (looks.hair.volume / 255)
        outwards = vertices - np.array([0.0, -0.1, -0.95])
        x, y, z = np.moveaxis(outwards, -1, 0)
        outwards /= (np.sqrt(x * x + y * y + z * z) + 1e-9)[..., None]
        vertices = vertices + outwards * thick[..., None]
    vertices = turned(vertices, turn)
    return Mesh(vertices, normals(vertices, closed=True), skin, closed=True)


@lru_cache(maxsize=2)
def _ear_alone(side: float) -> Mesh:
    """Half an ellipsoid, tilted backwards, beside a head of no width."""
    polar, angle = even(0.05, np.pi / 2, 7)[:, None], np.arange(14)[None] * (2 * np.pi / 14)
    bulge = 1 - 0.35 * np.exp(-(((polar - 0.5) / 0.3) ** 2))  # the hollow inside the rim
    x = side * 0.13 * np.cos(polar) * bulge
    y = 0.13 + 0.3 * np.sin(polar) * np.sin(angle)
    z = -1.08 + 0.13 * np.sin(polar) * np.cos(angle) + 0.25 * (y - 0.1)
    part = np.stack([0.5 + 0.4 * np.sin(polar) * np.cos(angle), 0.5 + 0.4 * np.sin(polar) * np.sin(angle)], -1)
    vertices, flipped = np.stack(np.broadcast_arrays(x, y, z), -1), side > 0
    return Mesh(vertices, normals(vertices, True, flipped), patch_place(1, part), closed=True, flipped=flipped)


def _ear(face_width: float, side: float, turn: np.ndarray) -> Mesh:
    ear = _ear_alone(side)
    vertices = turned(ear.vertices + np.array([side * face_width, 0.0, 0.0]), turn)
    return ear._replace(vertices=vertices, normals=ear.normals @ turn.T)


def _rings(heights: np.ndarray, radius_x: np.ndarray, radius_z: np.ndarray, z: np.ndarray, columns: int) -> np.ndarray:
    """Ellipses around the y axis, [rows, columns, 3]; the first and last column meet at the back."""
    angle = even(-np.pi, np.pi, columns)
    rings = np.empty((len(heights), columns, 3))
    rings[..., 0] = radius_x[:, None] * np.sin(angle)
    rings[..., 1] = heights[:, None]
    rings[..., 2] = z[:, None] + radius_z[:, None] * np.cos(angle)
    return rings


@lru_cache(maxsize=8)
def _patch(number: int, rows: int, columns: int) -> np.ndarray:
    across, down = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    return patch_place(number, np.stack([across, down], -1))


def _neck(face_width: float, turn: np.ndarray) -> Mesh:
    """From inside the head, which it follows when that turns, down into the shoulders, which stay."""
    rows = 8
    down = even(0, 1, rows)
    wide = face_width * (0.6 + 0.2 * down**3)
    rings = _rings(0.5 + 1.6 * down, wide, 0.85 * wide, np.full(rows, -1.15), 22)
    share = np.minimum(1.3 * down, 1)[:, None, None]
    vertices = (1 - share) * turned(rings, turn) + share * (rings - heads.PIVOT)
    return Mesh(vertices, normals(vertices, closed=False), _patch(1, rows, 22), closed=False)


@cache
def _shoulders() -> Mesh:
    heights = np.array([1.62, 1.7, 1.85, 2.05, 2.3, 3.0, 5.0])
    wide = np.array([0.62, 0.85, 1.3, 1.75, 1.98, 2.1, 2.1])
    deep = np.array([0.6, 0.62, 0.66, 0.7, 0.75, 0.8, 0.8])
    vertices = _rings(heights, wide, deep, np.full(7, -1.2), 30) - heads.PIVOT
    return Mesh(vertices, normals(vertices, closed=False), _patch(2, 7, 30), closed=False)


def _curtain(hair: Hair, length: float, face_width: float, turn: np.ndarray) -> Mesh:
    """Long hair: a sheet around the back of the head, open at the face, hanging down."""
    rows, columns = 12, 28
    down = np.linspace(0, 1, rows)
    heights = -0.9 + (length + 0.9) * down
    swell = face_width * (
        0.98 + 0.35 * hair.volume + (0.25 * hair.volume + 0.1) * np.sin(np.pi * np.minimum(down * 1.2, 1))
    )
    swell[0] *= 0.85
    reach = np.pi * (0.54 + 0.24 * hair.closeness)  # half of the sheet's angle; pi/2 is beside the ears
    angle = np.linspace(-reach, reach, columns)[None]
    x = swell[:, None] * np.sin(angle)
    z = -1.05 - np.where(np.cos(angle) > 0, 1.05, 1.0) * swell[:, None] * np.cos(angle)
    y = np.broadcast_to(heights[:, None], x.shape)
    hanging = np.clip((heights - 0.9) * 1.2, 0, 1)[:, None, None] * 0.7
    ring = np.stack([x, y, z], -1)
    vertices = (1 - hanging) * turned(ring, turn) + hanging * (ring - heads.PIVOT)
    outwards = normals(vertices, closed=False, flipped=True)
    return Mesh(vertices, outwards, _patch(0, rows, columns), closed=False, flipped=True, sheet=True)
