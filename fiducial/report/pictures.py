"""Draws points and heatmaps on images: RGB uint8 in, a new RGB uint8 image out, numpy and OpenCV only.

Points are px of the image that is passed in and are drawn to a fraction of a pixel. To draw on an enlarged or
cropped image, map the points by the matrix that made it (`geometry.resize`, `geometry.crop`) and draw on that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from fiducial import files, geometry
from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.types import Keypoints, Skeleton

Colour = tuple[int, int, int]  # RGB, 0..255

TRUTH: Colour = (60, 235, 120)
PREDICTION: Colour = (255, 70, 170)
ERROR: Colour = (255, 225, 60)
OUTLINE: Colour = (15, 15, 20)
GROUND: Colour = (34, 35, 40)  # around tiles and outside the image
TEXT: Colour = (235, 235, 235)

# Told apart by colour-blind readers too (after Okabe and Ito, lightened for photographs).
GROUP_COLOURS: tuple[Colour, ...] = (
    (86, 190, 245),
    (255, 165, 20),
    (50, 220, 150),
    (250, 235, 80),
    (255, 95, 60),
    (235, 130, 205),
    (150, 140, 255),
)

FEW = 12  # points of which each is shown by itself: with its error's line, or its heatmap
FLAT = 0.05  # of the largest value: maps that differ by less say nothing of where a point is
MARKED = 6  # of more points, the farthest off, with their lines
NUMBERED = 2  # the farthest off, with a number that a caption explains: names would cover each other

_SHIFT = 6  # OpenCV's drawing takes fixed point numbers with this many bits after the point
_FARTHEST = 1e6  # px; beyond it those numbers would overflow


PLACE: Colour = (255, 212, 0)  # of boxes that a model found


def point_colours(skeleton: Skeleton) -> np.ndarray:
    """Gives each point's colour, [k, 3] uint8: one a group, white outside all groups; without groups one hue a point."""
    count = len(skeleton.points)
    if not skeleton.groups:
        return hues(count)
    colours = np.full((count, 3), 255, np.uint8)
    for i, members in enumerate(skeleton.groups.values()):
        colours[list(members)] = GROUP_COLOURS[i % len(GROUP_COLOURS)]
    return colours


def hues(count: int) -> np.ndarray:
    """Gives bright colours around the wheel, [count, 3] uint8."""
    wheel = np.full((1, count, 3), (0, 165, 255), np.uint8)
    wheel[0, :, 0] = np.arange(count) * 180 // max(count, 1)  # OpenCV counts hues in 2 degrees
    return cv2.cvtColor(wheel, cv2.COLOR_HSV2RGB)[0]


def draw_keypoints(
    image: np.ndarray,
    points: Keypoints,
    skeleton: Skeleton | None = None,
    hide_below: float = 0.0,
    numbers: Sequence[int] = (),
) -> np.ndarray:
    """Draws all instances that were found on a copy of the image, without points of a score lower than `hide_below`; points
    without names get no lines. `numbers` [n] say who each is, below 0 nobody; they stand above them."""
    count = points.xy.shape[-2]
    skeleton = skeleton or points.skeleton or Skeleton("points", tuple(map(str, range(count))))
    drawing = np.ascontiguousarray(image).copy()
    if points.box_score is not None:  # where the model itself found them
        for box in np.asarray(points.box_xywh).reshape(-1, 4):
            drawing = draw_outline(drawing, geometry.box_corners(box), PLACE)
    for one in points:
        shown = ~(one.score < hide_below) & one.owned
        drawing = draw_points(drawing, one.xy, skeleton, score=one.score, labelled=shown)
    for one, number in zip(points, numbers, strict=False):
        xy = one.xy[_drawable(one.xy)]
        if number >= 0 and len(xy):
            height = int(np.clip(image.shape[1] // 28, 11, 40))
            _outlined(drawing, str(number), xy[xy[:, 1].argmin()] + np.array([-height / 3, -height / 2]), height, TEXT)
    return drawing


def draw_points(
    image: np.ndarray,
    xy: np.ndarray,
    skeleton: Skeleton,
    *,
    score: np.ndarray | None = None,
    labelled: np.ndarray | None = None,
    colour: Colour | None = None,
    least: float = 0.0,
) -> np.ndarray:
    """Draws the points xy [k, 2] of one instance and the skeleton's edges on a copy of the image.

    `score` [k] in 0..1 darkens points the lower it is; points not `labelled` [k] are left out, as are points that
    are NaN or outside the image. `colour` is one for all; the default is `point_colours`. `least`: of the dots'
    radius, px."""
    canvas = np.ascontiguousarray(image).copy()
    colours = point_colours(skeleton) if colour is None else _same(colour, len(xy))
    if score is not None:
        certainty = np.clip(np.nan_to_num(score), 0, 1)[:, None]
        colours = _to_bytes(colours * (0.3 + 0.7 * certainty))
    wanted = np.ones(len(xy), bool) if labelled is None else np.asarray(labelled, bool)
    radius = dot_radius(_size(image), xy, wanted, least)
    ends = wanted & _drawable(xy)
    edges = [(a, b) for a, b in skeleton.edges if ends[a] and ends[b]]
    width = max(1, round(radius * 0.6))
    if width > 1:  # an outline around a line of one px would be all that is seen
        for a, b in edges:
            _line(canvas, xy[a], xy[b], OUTLINE, width + 2)
    for a, b in edges:
        _line(canvas, xy[a], xy[b], colours[b], width)
    _dots(canvas, xy, colours, wanted, radius)
    return canvas


def draw_outline(image: np.ndarray, corners: np.ndarray, colour: Colour = ERROR) -> np.ndarray:
    """Draws a closed line through corners [c, 2] on a copy of the image, as far as it goes."""
    canvas = np.ascontiguousarray(image).copy()
    if _drawable(corners).all():
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            _line(canvas, start, end, colour, 1)
    return canvas


def enlarged(
    image: np.ndarray, side: int, xy: np.ndarray | None = None, skeleton: Skeleton | None = None
) -> np.ndarray:
    """Scales an image so that its longest side is `side` px, and draws the points xy [k, 2], px of `image`, if any.

    Without a skeleton all dots have one size however close they are: that many share a place is to be seen."""
    own = _size(image)
    scale = side / max(own)
    size = Size(max(1, round(own.w * scale)), max(1, round(own.h * scale)))
    matrix = geometry.resize(own, size)
    tile = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if scale > 1 else cut_out(image, matrix, size)
    if xy is None:
        return tile
    xy = geometry.transform(matrix, np.asarray(xy, np.float64))
    if skeleton is not None:
        # Points that a network puts into one place must be seen, too; spread over the crop they have more room than this.
        return draw_points(tile, xy, skeleton, least=side / 20 / math.sqrt(max(1, len(xy))))
    tile = np.ascontiguousarray(tile)
    _dots(tile, xy, hues(len(xy)), np.ones(len(xy), bool), side / 45)
    return tile


def crop_with_points(crop: np.ndarray, xy_unit: np.ndarray, skeleton: Skeleton, side: int = 208) -> np.ndarray:
    """Scales a crop so that its longest side is `side` px, and draws the points xy_unit [k, 2], 0..1 from edge to edge."""
    return enlarged(crop, side, geometry.unit_to_px(np.asarray(xy_unit, np.float64), _size(crop)), skeleton)


def truth_and_prediction(
    image: np.ndarray,
    truth: np.ndarray,
    labelled: np.ndarray,
    predicted: np.ndarray,
    skeleton: Skeleton,
    *,
    numbered: bool = True,
) -> np.ndarray:
    """Draws truth [k, 2] in `TRUTH`, prediction [k, 2] in `PREDICTION`, each with its edges, lines in `ERROR` between.

    Of more than `FEW` points the `MARKED` farthest off alone have such a line. The `NUMBERED` farthest off are `numbered`
    from 1.
    Points that are not labelled [k] are left out on both sides: there is nothing to compare them with. A line
    leads to a prediction outside the image as far as the image goes."""
    canvas = np.ascontiguousarray(image).copy()
    labelled = np.asarray(labelled, bool)
    radius = max(1.0, dot_radius(_size(image), truth, labelled) * 0.7)  # two dots share the place of one
    width = max(1, round(radius * 0.6))
    bare = canvas.copy()
    for xy, colour in ((truth, TRUTH), (predicted, PREDICTION)):
        ends = labelled & _drawable(xy)
        for a, b in skeleton.edges:
            if ends[a] and ends[b]:
                _line(canvas, xy[a], xy[b], colour, max(1, width // 2))
    canvas = cv2.addWeighted(canvas, 0.6, bare, 0.4, 0)  # faint edges: the points are what is compared
    far_off = farthest(truth, labelled, predicted)
    for i in far_off if len(far_off) <= FEW else far_off[:MARKED]:
        _line(canvas, truth[i], predicted[i], ERROR, width)
    _dots(canvas, truth, _same(TRUTH, len(truth)), labelled, radius)
    _dots(canvas, predicted, _same(PREDICTION, len(truth)), labelled, radius)
    for number, i in enumerate(far_off[:NUMBERED] if numbered else (), 1):
        _number(canvas, predicted[i], number, radius)
    return canvas


def farthest(truth: np.ndarray, labelled: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Sorts the labelled points [k] by how far the prediction [k, 2] is from the truth [k, 2], the farthest first."""
    known = np.flatnonzero(np.asarray(labelled, bool) & _drawable(truth) & _drawable(predicted))
    return known[np.argsort(-np.linalg.norm(predicted[known] - truth[known], axis=-1), kind="stable")]


def dot_radius(size: Size, xy: np.ndarray, wanted: np.ndarray, least: float = 0.0) -> float:
    """Chooses a radius in px: a fifth of the usual distance to the nearest point, so that dots stay apart, or `least`.

    It is never too small to see when the whole image fits a screen, nor clumsy. wanted [k]: points that count."""
    points = xy[wanted & _drawable(xy)]
    smallest, largest = max(1.0, max(size) / 800), math.sqrt(max(size)) / 4
    if len(points) < 2:
        return max(smallest, largest)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    apart = float(np.sort(distances.min(0))[len(distances) // 2]) / 5
    return max(smallest, min(largest, max(least, apart)))


def overlay_heatmaps(
    crop: np.ndarray, maps: np.ndarray, *, colours: np.ndarray | None = None, peak: float | None = None
) -> np.ndarray:
    """Draws all maps [k, h, w] on the dimmed crop, each in its colour ([k, 3], default `hues`).

    The strongest map of a pixel decides how much of the crop is covered. `peak` is the value shown at full strength,
    the default is the largest of all maps; negative and NaN values show nothing."""
    strength = _strength(maps, _size(crop), peak)
    tints = (hues(len(maps)) if colours is None else colours).astype(np.float32)
    # Squared, so that the nearest point's colour wins where maps overlap.
    mixed = np.tensordot(strength**2, tints, axes=(0, 0)) / np.maximum((strength**2).sum(0), 1e-9)[..., None]
    cover = strength.max(0, initial=0)[..., None]
    return _to_bytes(_dimmed(crop) * (1 - cover) + mixed * cover)


def separate_heatmaps(
    crop: np.ndarray,
    maps: np.ndarray,
    names: Sequence[str],
    columns: int,
    *,
    tile_width: int = 128,
    peak: float | None = None,
) -> np.ndarray:
    """Draws a grid of tiles, one a point: its map of maps [k, h, w] on the dimmed crop, its name below.

    The map's largest value stands in the corner. `peak` as in `overlay_heatmaps`: weak maps look weak beside strong."""
    size = _of_width(crop, tile_width)
    small = _dimmed(cv2.resize(crop, size, interpolation=cv2.INTER_AREA))
    tiles = []
    for values, strength in zip(maps, _strength(maps, size, peak), strict=True):
        heat = cv2.applyColorMap(_to_bytes(strength * 255), cv2.COLORMAP_INFERNO)[..., ::-1]
        cover = np.minimum(strength * 2, 1)[..., None]
        tile = _to_bytes(small * (1 - cover) + heat * cover)
        height = _text_height(size.w)
        cv2.putText(tile, f"{_largest(values):.2g}", (2, height), TEXT, cv2.FontFace("sans"), height, 450)
        tiles.append(tile)
    return contact_sheet(tiles, names, columns)


def heatmap_panel(
    crop: np.ndarray,
    truth_maps: np.ndarray,
    predicted_maps: np.ndarray,
    names: Sequence[str],
    *,
    colours: np.ndarray | None = None,
    chosen: Sequence[int] | None = None,
    width: int = 768,
) -> np.ndarray:
    """Draws image | truth's maps merged | prediction's merged; below them single predicted maps of [k, h, w].

    Truth and prediction are each scaled by their own largest value, which the caption gives; maps that are the same
    everywhere are called flat. `chosen` are the points
    whose maps stand below, by default the first `FEW`. About `width` px wide."""
    merged = {"truth": truth_maps, "prediction": predicted_maps}
    size = _of_width(crop, width // 3)
    image = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    tiles = [image, *(overlay_heatmaps(image, maps, colours=colours) for maps in merged.values())]
    captions = ["image", *(f"{name}, {_peak(maps)}" for name, maps in merged.items())]
    top = contact_sheet(tiles, captions, len(tiles))
    single = list(range(len(names)))[:FEW] if chosen is None else list(chosen)
    columns = 6 if len(single) > 4 else 4
    peak = _largest(predicted_maps)
    below = separate_heatmaps(
        crop, predicted_maps[single], [names[i] for i in single], columns, tile_width=width // columns, peak=peak
    )
    full_width = max(top.shape[1], below.shape[1])
    return np.concatenate([_padded(part, Size(full_width, part.shape[0])) for part in (top, below)])


def contact_sheet(tiles: Sequence[np.ndarray], captions: Sequence[str], columns: int) -> np.ndarray:
    """Lays tiles side by side, `columns` a row, each centred in a cell as large as the largest, its caption below.

    Captions too long for the cell end in dots. Without tiles it is an image of one dark pixel."""
    if len(tiles) != len(captions) or columns < 1:
        raise ValueError(f"{len(tiles)} tiles, {len(captions)} captions, {columns} columns: expected a caption a tile")
    if not tiles:
        return np.full((1, 1, 3), GROUND, np.uint8)
    cell = Size(max(tile.shape[1] for tile in tiles), max(tile.shape[0] for tile in tiles))
    cells = [
        np.concatenate([_padded(tile, cell), _caption(caption, cell.w)])
        for tile, caption in zip(tiles, captions, strict=True)
    ]
    columns = min(columns, len(cells))
    cells += [np.full_like(cells[0], GROUND)] * (-len(cells) % columns)
    gap = max(2, cell.w // 64)
    cells = [cv2.copyMakeBorder(each, 0, gap, 0, gap, cv2.BORDER_CONSTANT, value=GROUND) for each in cells]
    rows = [np.concatenate(cells[i : i + columns], axis=1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows)


def cut_out(image: np.ndarray, matrix: geometry.Matrix, size: Size) -> np.ndarray:
    """Cuts out what `matrix` (image px -> tile px) maps onto a tile of `size`.

    As `geometry.warp`, and free of aliasing where it shrinks much: warped onto a canvas some whole times larger, then
    averaged."""
    finer = int(np.clip(1 / geometry.scale_of(matrix), 1, 8))
    canvas = Size(size.w * finer, size.h * finer)
    warped = geometry.warp(image, geometry.compose(matrix, geometry.resize(size, canvas)), canvas, border=GROUND[0])
    return cv2.resize(warped, size, interpolation=cv2.INTER_AREA)


def jpeg_bytes(image: np.ndarray, quality: int = 92) -> bytes:
    """Encodes an image [h, w, 3] as JPEG. Colours keep their full resolution, else thin coloured lines would fade."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1, *sampling]
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not encoded:
        raise UserError(
            f"an image of {image.shape[1]}x{image.shape[0]} px can't be written as JPEG (at most 65535 a side)"
        )
    return data.tobytes()


def write(path: Path, image: np.ndarray) -> None:
    """Writes an image [h, w, 3] as JPEG or PNG, by the ending of its name, whole or not at all; folders are made."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        data = jpeg_bytes(image)
    else:
        encoded, buffer = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise UserError(f"{path}: an image of {image.shape[1]}x{image.shape[0]} px can't be written as PNG")
        data = buffer.tobytes()
    files.write_bytes(path, data)


def _size(image: np.ndarray) -> Size:
    return Size(image.shape[1], image.shape[0])


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Rounded to uint8; the values lie in 0..255."""
    return np.rint(values).astype(np.uint8)


def _same(colour: Colour, count: int) -> np.ndarray:
    return np.tile(np.array(colour, np.uint8), (count, 1))


def _of_width(image: np.ndarray, width: int) -> Size:
    return Size(width, max(1, round(width * image.shape[0] / image.shape[1])))


def _drawable(xy: np.ndarray) -> np.ndarray:
    """[k] bool: neither NaN nor absurdly far away."""
    return np.all(np.abs(np.nan_to_num(xy, nan=np.inf)) < _FARTHEST, axis=-1)


def _fixed(xy: np.ndarray) -> tuple[int, int]:
    x, y = (round(float(value) * 2**_SHIFT) for value in xy)
    return x, y


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Sequence[int], width: int) -> None:
    cv2.line(canvas, _fixed(start), _fixed(end), [int(value) for value in colour], width, cv2.LINE_AA, _SHIFT)


def _dots(canvas: np.ndarray, xy: np.ndarray, colours: np.ndarray, wanted: np.ndarray, radius: float) -> None:
    """Draws outlined dots at those points that are wanted and on the image; outlines first, so that none covers a dot."""
    unit = geometry.px_to_unit(np.asarray(xy, np.float64), _size(canvas))
    shown = np.flatnonzero(wanted & _drawable(xy) & ((unit >= 0) & (unit <= 1)).all(-1))
    places, count = np.asarray(xy, np.float64)[shown], len(shown)
    _discs(canvas, places, radius + max(0.6, radius / 4), np.tile(OUTLINE, (count, 1)))
    _discs(canvas, places, radius, colours[shown])


def _discs(canvas: np.ndarray, xy: np.ndarray, radius: float, colours: np.ndarray) -> None:
    """Covers each pixel by how far it reaches into the disc; OpenCV's own small discs are diamonds."""
    corner = np.floor(xy - radius).astype(np.int64)
    across = corner[..., None] + np.arange(math.ceil(2 * radius) + 2) - xy[..., None]  # [n, 2, side]
    cover = np.clip(radius + 0.5 - np.hypot(across[:, 0, None, :], across[:, 1, :, None]), 0, 1)[..., None]
    rest, ink = 1 - cover, cover * colours[:, None, None]
    for (left, top), share, own in zip(corner.tolist(), rest, ink, strict=True):
        x, y = max(0, -left), max(0, -top)  # what is cut off by the edge of the canvas
        patch = canvas[top + y : top + share.shape[0], left + x : left + share.shape[1]]
        inside = slice(y, y + patch.shape[0]), slice(x, x + patch.shape[1])
        patch[:] = _to_bytes(patch * share[inside] + own[inside])


def _number(canvas: np.ndarray, xy: np.ndarray, number: int, radius: float) -> None:
    """Writes a number beside a point, dark around it, inside the image: 1 above it, 2 below, so that both are seen where
    two points share a place."""
    height = int(np.clip(_size(canvas).w // 14, 9, 20))
    up = -radius if number % 2 else radius + 0.7 * height
    _outlined(canvas, str(number), xy + np.array([radius, up]), height, ERROR)


def _outlined(canvas: np.ndarray, text: str, xy: np.ndarray, height: int, colour: Colour) -> None:
    """Writes a short text from a place on, dark around it, inside the image."""
    size, font = _size(canvas), cv2.FontFace("sans")
    x = int(np.clip(xy[0], 2, max(2, size.w - height)))
    y = int(np.clip(xy[1], height, max(height, size.h - 4)))
    for dx, dy in ((-2, 0), (2, 0), (0, -2), (0, 2), (-1, -1), (1, -1), (-1, 1), (1, 1)):
        cv2.putText(canvas, text, (x + dx, y + dy), OUTLINE, font, height, 700)
    cv2.putText(canvas, text, (x, y), colour, font, height, 700)


def _strength(maps: np.ndarray, size: Size, peak: float | None) -> np.ndarray:
    """[k, size.h, size.w] float32 in 0..1: the maps enlarged (outer edges coincide) and divided by `peak`."""
    values = np.maximum(np.nan_to_num(np.asarray(maps, np.float32), posinf=0, neginf=0), 0)
    peak = _largest(values) if peak is None else peak
    enlarged = [cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in values]
    return np.clip(np.reshape(enlarged, (len(values), size.h, size.w)) / (peak if peak > 0 else 1), 0, 1)


def _peak(maps: np.ndarray) -> str:
    """Says how strong maps are, or that they point nowhere."""
    largest = _largest(maps)
    spread = float(np.nan_to_num(np.ptp(np.asarray(maps, np.float64), axis=(-2, -1))).max(initial=0))
    return "flat everywhere" if spread <= FLAT * abs(largest) else f"peak {largest:.2g}"


def _largest(maps: np.ndarray) -> float:
    finite = maps[np.isfinite(maps)]
    return float(finite.max()) if finite.size else math.nan


def _dimmed(image: np.ndarray) -> np.ndarray:
    """Grey and half as bright, so that colours on it are seen; [h, w, 3] float32."""
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] * np.float32(0.6), 3, axis=2)


def _padded(image: np.ndarray, size: Size) -> np.ndarray:
    right, below = size.w - image.shape[1], size.h - image.shape[0]
    sides = (below // 2, below - below // 2, right // 2, right - right // 2)
    return cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=GROUND)


def _text_height(width: int) -> int:
    """px of text for a tile of `width` px."""
    return int(np.clip(width / 14, 11, 40))


def _caption(text: str, width: int) -> np.ndarray:
    """A strip of `width` px with the text, shortened to fit."""
    font, height = cv2.FontFace("sans"), _text_height(width)

    def fits(words: str) -> bool:
        return cv2.getTextSize((width, height), words, (0, 0), font, height, 450)[2] <= width

    if not fits(text):
        length = next((n for n in range(len(text), 0, -1) if fits(text[:n] + "...")), 0)
        text = text[:length] + "..."
    strip = np.full((round(height * 1.5), width, 3), GROUND, np.uint8)
    cv2.putText(strip, text, (0, round(height * 1.05)), TEXT, font, height, 450)
    return strip
