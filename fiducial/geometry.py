"""Coordinates: the only place in Fiducial that does arithmetic on them.

Frames, pictured on a row of four pixels:

    xy          px      |  0  |  1  |  2  |  3  |       pixel centres at integers (the default; bare `xy` is this)
    xy_unit     unit    0 .125  .375  .625  .875  1     outer *edges* of the image at 0 and 1
    xy_corner   corner    -1   -1/3  +1/3   +1          first and last pixel *centres* at -1 and +1 (FOMM)
    xy_grid     cells   px of a heatmap, same rule: cell centres at integers
    xy_share    share     0   .25   .5   .75            first pixel centre at 0, a px is 1/W (regression as MMPose has it)

Cells and px can lie on each other in three ways, `Align`, pictured for 8 px under 2 cells, with the px of each cell's
centre: `edge` (ours: outer edges coincide) 1.5 5.5; `stride` (SimpleBaseline, HRNet, H3R, SimCC: cell i is px i x
stride) 0 4; `corner` (UDP: first and last centres coincide) 0 7. Only `edge` and `corner` commute with flipping.

A box is `box_xywh` as COCO writes it: measured from the image's outer edge, so (0, 0, W, H) is the whole
image and its left edge lies at px -0.5.

A map is a 3x3 matrix acting on homogeneous px, image -> image. Maps compose by `compose`, are undone by
`invert`, and an image is warped by one of them once. Functions that take points work on numpy arrays and on
torch tensors alike: they use operators only, and importing this file imports no framework.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

Array = TypeVar("Array", bound=Any)  # numpy.ndarray or torch.Tensor
Matrix = np.ndarray  # [3, 3] float64, or [..., 3, 3]
Align = Literal["edge", "stride", "corner"]  # how the cells of a heatmap lie on the px of its image
Frame = Literal["unit", "share"]  # in which regression gives its points: both are shares of the picture's sides


EIGHTHS = 8  # of a px, to which found boxes are rounded


class Size(NamedTuple):
    """Holds width and height, px, always in this order; tensors are [..., h, w]."""

    w: int
    h: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Reads `WxH`, or one number for a square. Raises ValueError for anything else."""
        match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", text.strip())
        if match is None or int(match[1]) == 0 or match[2] == "0":
            raise ValueError(f"size {text!r}: expected WIDTHxHEIGHT in px, such as 192x256")
        return cls(int(match[1]), int(match[2] or match[1]))

    def __str__(self) -> str:
        return f"{self.w}x{self.h}"


# ---------------------------------------------------------------------------------------------- conversions


def _pair(size: Any, like: Any, offset: float = 0) -> Any:
    """Makes (w, h) + offset as an array of the same kind, dtype and device as `like` ([..., 2])."""
    if isinstance(like, np.ndarray):
        return np.asarray([size[0] + offset, size[1] + offset], dtype=like.dtype)
    return like.new_tensor([size[0] + offset, size[1] + offset])


def px_to_unit(xy: Array, size: Size) -> Array:
    """Converts px to unit. The left edge of pixel 0 becomes 0, the right edge of the last pixel 1."""
    return (xy + 0.5) / _pair(size, xy)


def unit_to_px(xy_unit: Array, size: Size) -> Array:
    """Converts unit to px, the inverse of `px_to_unit`."""
    return xy_unit * _pair(size, xy_unit) - 0.5


def px_to_box(xy: Array, box_xywh: Array) -> Array:
    """Converts px [..., k, 2] to shares of the sides of boxes [..., 4]: 0 at the left and upper edges, 1 at the
    others."""
    return (xy + 0.5 - box_xywh[..., None, :2]) / box_xywh[..., None, 2:]


def box_to_px(xy_box: Array, box_xywh: Array) -> Array:
    """Converts shares of the sides of boxes to px, the inverse of `px_to_box`."""
    return xy_box * box_xywh[..., None, 2:] + box_xywh[..., None, :2] - 0.5


def mirror_unit(xy_unit: Array) -> Array:
    """Mirrors points in unit left to right: x -> 1 - x."""
    return xy_unit * _pair((-1, 1), xy_unit) + _pair((1, 0), xy_unit)


def px_to_corner(xy: Array, size: Size) -> Array:
    """Converts px to corner. The centre of the first pixel becomes -1, of the last +1. Needs at least 2 px a side."""
    return xy * 2 / _pair(size, xy, -1) - 1


def corner_to_px(xy_corner: Array, size: Size) -> Array:
    """Converts corner to px, the inverse of `px_to_corner`."""
    return (xy_corner + 1) * _pair(size, xy_corner, -1) / 2


def corner_linear_to_px(linear_corner: Array, size: Size) -> Array:
    """Converts 2x2 maps of displacements [..., 2, 2] from corner to px: the identity stays the identity, and on an
    image that is not square a turn in the one is a shear in the other."""
    sides = _pair(size, linear_corner[..., 0], -1)
    return linear_corner * sides[:, None] / sides


def px_to_share(xy: Array, size: Size) -> Array:
    """Converts px to share: x / W and y / H. The centre of the first pixel becomes 0, of the last (W - 1) / W."""
    return xy / _pair(size, xy)


def share_to_px(xy_share: Array, size: Size) -> Array:
    """Converts share to px, the inverse of `px_to_share`."""
    return xy_share * _pair(size, xy_share)


def mirror_share(xy_share: Array, size: Size) -> Array:
    """Mirrors points in share left to right: x -> (W - 1) / W - x."""
    last = _pair(size, xy_share, -1) / _pair(size, xy_share)
    return xy_share * _pair((-1, 1), xy_share) + last * _pair((1, 0), xy_share)


def px_to_frame(xy: Array, size: Size, frame: Frame) -> Array:
    """Converts px to unit or to share, as `frame` says."""
    return px_to_unit(xy, size) if frame == "unit" else px_to_share(xy, size)


def frame_to_px(xy_frame: Array, size: Size, frame: Frame) -> Array:
    """Converts unit or share to px, the inverse of `px_to_frame`."""
    return unit_to_px(xy_frame, size) if frame == "unit" else share_to_px(xy_frame, size)


def mirror_frame(xy_frame: Array, size: Size, frame: Frame) -> Array:
    """Mirrors points in unit or share left to right."""
    return mirror_unit(xy_frame) if frame == "unit" else mirror_share(xy_frame, size)


def spread_to_px(spread_frame: Array, size: Size) -> Array:
    """Converts lengths along x and y [..., 2] from unit or share to px."""
    return spread_frame * _pair(size, spread_frame)


def inside(xy: Array, size: Size) -> Array:
    """Says whether points lie on an image of `size` (or a map of so many cells), outer edges included: [..., 2] ->
    bool [...]."""
    return ((xy >= -0.5) & (xy <= _pair(size, xy, -0.5))).all(-1)


def mean_spread(spread_xy: Array) -> Array:
    """Averages spreads along x and y [..., 2] into one of any direction, [...]: the root of their mean square."""
    return ((spread_xy[..., 0] ** 2 + spread_xy[..., 1] ** 2) / 2) ** 0.5


def covariance_of(spread_xy: Array, correlation: Array | None = None) -> Array:
    """Makes covariances [..., 2, 2] of standard deviations along x and y [..., 2] and how the two go together [..., k] in -1..1;
    None: not at all. In the square of the spreads' unit."""
    x, y = spread_xy[..., 0], spread_xy[..., 1]
    mixed = x * y * (0 if correlation is None else correlation)
    square = spread_xy[..., :, None] * spread_xy[..., None, :]
    square[..., 0, 1], square[..., 1, 0] = mixed, mixed
    return square


def spread_of(covariance: Array) -> tuple[Array, Array]:
    """Reads what `covariance_of` puts together: spreads [..., 2] and correlations [...], 0 where there is no spread."""
    variance_x, variance_y = covariance[..., 0, 0], covariance[..., 1, 1]
    spread = covariance[..., 0, :] * 0
    spread[..., 0], spread[..., 1] = variance_x**0.5, variance_y**0.5
    product = spread[..., 0] * spread[..., 1]
    return spread, covariance[..., 0, 1] / (product + (product == 0))


def transform_covariance(matrix: Array, covariance: Array) -> Array:
    """Moves covariances of points by a map: matrix [..., 3, 3], covariance [..., k, 2, 2] -> [..., k, 2, 2]."""
    linear = matrix[..., None, :2, :2]
    return linear @ covariance @ linear.mT


def px_to_grid(xy: Array, size: Size, grid: Size, align: Align = "edge") -> Array:
    """Converts px of an image of `size` to cells of a heatmap of `grid` cells over the same area."""
    if align == "edge":
        return unit_to_px(px_to_unit(xy, size), grid)
    less = -1 if align == "corner" else 0
    return xy / (_pair(size, xy, less) / _pair(grid, xy, less))


def grid_to_px(xy_grid: Array, size: Size, grid: Size, align: Align = "edge") -> Array:
    """Converts cells of a heatmap to px, the inverse of `px_to_grid`."""
    return px_to_grid(xy_grid, grid, size, align)


# ----------------------------------------------------------------------------------------------------- maps


def identity() -> Matrix:
    """Makes the map that moves nothing."""
    return np.eye(3)


def translation(dx: float, dy: float) -> Matrix:
    """Makes the map that moves content by (dx, dy) px."""
    return np.array([[1.0, 0, dx], [0, 1, dy], [0, 0, 1]])


def scaling(sx: float, sy: float, about_xy: tuple[float, float] = (0.0, 0.0)) -> Matrix:
    """Makes the map that enlarges content by (sx, sy) while `about_xy` stays."""
    x, y = about_xy
    return np.array([[sx, 0, x - sx * x], [0, sy, y - sy * y], [0, 0, 1.0]])


def rotation(radians: float, about_xy: tuple[float, float] = (0.0, 0.0)) -> Matrix:
    """Makes the map that turns content clockwise as seen on the screen (y points down): +x turns towards +y, and
    `about_xy` stays."""
    c, s = math.cos(radians), math.sin(radians)
    x, y = about_xy
    return np.array([[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y], [0, 0, 1]])


def resize(from_size: Size, to_size: Size) -> Matrix:
    """Makes the map of a whole image onto a whole image of another size: outer edges coincide, not pixel centres."""
    sx, sy = to_size[0] / from_size[0], to_size[1] / from_size[1]
    return np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])


def flip(size: Size) -> Matrix:
    """Makes the map that mirrors an image left to right: x -> W - 1 - x. Names of points must change too
    (`Skeleton.flip_order`)."""
    return np.array([[-1.0, 0, size[0] - 1], [0, 1, 0], [0, 0, 1]])


def crop(box_xywh: np.ndarray, size: Size, align: Align = "edge") -> Matrix:
    """Makes the map of a box onto the whole of an image of `size`; aspect is not kept (see `fit_aspect`), and for a
    turned crop `rotation` about the box's centre comes first.

    Published top-down code measures boxes between px, not between edges: from px (x, y) to px (x + w, y + h). Of such a
    box `stride` (SimpleBaseline, HRNet) brings these ends to 0 and W, one px further than the last one, and `corner`
    (UDP) to 0 and W - 1, the first and last centres."""
    x, y, w, h = (float(value) for value in box_xywh)
    if align == "edge":
        sx, sy = size[0] / w, size[1] / h
        # Left edge of the box: px x - 0.5. It must land on px -0.5.
        return np.array([[sx, 0, -0.5 - sx * (x - 0.5)], [0, sy, -0.5 - sy * (y - 0.5)], [0, 0, 1]])
    less = 1 if align == "corner" else 0
    sx, sy = (size[0] - less) / w, (size[1] - less) / h
    return np.array([[sx, 0, -sx * x], [0, sy, -sy * y], [0, 0, 1]])


def compose(*maps: Matrix) -> Matrix:
    """Joins maps into one that does them in the order in which they are written.

    >>> matrix = compose(flip(Size(4, 3)), resize(Size(4, 3), Size(8, 6)))
    >>> transform(matrix, np.array([[0.0, 0.0]])).tolist()  # the first px centre, mirrored, then on twice the size
    [[6.5, 0.5]]"""
    first, *others = maps
    for matrix in others:
        first = matrix @ first
    return first


def invert(matrix: Array) -> Array:
    """Inverts a map. Closed form for affine maps, so that numpy and torch agree; [..., 3, 3]."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2]
    d, e, f = matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2]
    determinant = a * e - b * d
    inverse = matrix * 0
    inverse[..., 0, 0] = e / determinant
    inverse[..., 0, 1] = -b / determinant
    inverse[..., 0, 2] = (b * f - c * e) / determinant
    inverse[..., 1, 0] = -d / determinant
    inverse[..., 1, 1] = a / determinant
    inverse[..., 1, 2] = (c * d - a * f) / determinant
    inverse[..., 2, 2] = 1
    return inverse


def transform(matrix: Array, xy: Array) -> Array:
    """Moves points by a map: matrix [..., 3, 3], xy [..., k, 2] -> [..., k, 2]. NaN stays NaN."""
    return xy @ matrix[..., :2, :2].mT + matrix[..., None, :2, 2]


def transform_vectors(matrix: Array, vectors: Array) -> Array:
    """Moves displacements by a map, without its translation: [..., k, 2] -> [..., k, 2]."""
    return vectors @ matrix[..., :2, :2].mT


def scale_of(matrix: Array) -> Array:
    """Measures by how much a map enlarges lengths: the root of its determinant; [...]."""
    return abs(matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]) ** 0.5


def similarity(from_xy: np.ndarray, to_xy: np.ndarray, weight: np.ndarray) -> Matrix:
    """Fits the maps that turn, scale and shift points onto others with the least squares, without mirroring (Umeyama, IEEE
    TPAMI 1991, in closed form for the plane): [..., k, 2] twice, weight [..., k] of each point -> [..., 3, 3]. NaN where
    the points that count are fewer than two or all lie on one place."""
    weight = weight[..., None] / np.maximum(weight.sum(-1), 1e-12)[..., None, None]
    from_centre, to_centre = (weight * from_xy).sum(-2), (weight * to_xy).sum(-2)
    x, y = np.moveaxis(from_xy - from_centre[..., None, :], -1, 0)
    u, v = np.moveaxis(to_xy - to_centre[..., None, :], -1, 0)
    share = weight[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        length = (share * (x * x + y * y)).sum(-1)
        c, s = (share * (x * u + y * v)).sum(-1) / length, (share * (x * v - y * u)).sum(-1) / length
    matrix = np.zeros((*c.shape, 3, 3))
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 2, 2] = c, -s, s, c, 1
    matrix[..., :2, 2] = to_centre - (matrix[..., :2, :2] @ from_centre[..., None])[..., 0]
    return matrix


def mirrors(matrix: Array) -> Array:
    """Says whether a map mirrors: its determinant is below 0; [...]."""
    return matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0] < 0


def turn_of(matrix: Array) -> Array:
    """Measures by how much a map turns, radians clockwise as seen on the screen, as `rotation` takes it; [...]."""
    return np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0])


# ---------------------------------------------------------------------------------------------------- boxes


def whole_image_box(size: Size) -> np.ndarray:
    """Makes the box of the whole image, [4]."""
    return np.array([0.0, 0.0, size[0], size[1]])


def box_of_points(xy: np.ndarray, labelled: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Makes the tight `box_xywh` [4] around the labelled points (xy [k, 2], labelled [k] bool), each side enlarged by
    `margin` of the box. At least one px wide and high; NaN where no point is labelled."""
    points = xy[labelled]
    if len(points) == 0:
        return np.full(4, np.nan)
    low, high = points.min(0), points.max(0)
    extent = np.maximum(high - low, 1.0)
    centre = (low + high) / 2 + 0.5  # + 0.5: from px to the box's edge frame
    extent = extent * (1 + 2 * margin)
    return np.concatenate([centre - extent / 2, extent])


def box_corners(box_xywh: np.ndarray) -> np.ndarray:
    """Lists the corners of a box in px, clockwise from top left: [4, 2]."""
    x, y, w, h = (float(value) for value in box_xywh)
    x, y = x - 0.5, y - 0.5
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])


def fit_aspect(box_xywh: np.ndarray, size: Size, padding: float = 1.0) -> np.ndarray:
    """Enlarges a box by `padding`, then in one direction to the aspect of `size`; the centre stays."""
    x, y, w, h = (float(value) for value in box_xywh)
    centre_x, centre_y = x + w / 2, y + h / 2
    w, h = w * padding, h * padding
    aspect = size[0] / size[1]
    w, h = max(w, h * aspect), max(h, w / aspect)
    return np.array([centre_x - w / 2, centre_y - h / 2, w, h])


def jitter_box(box_xywh: np.ndarray, amount: float, generator: np.random.Generator) -> np.ndarray:
    """Makes a box as imperfect as a detector's: centre shifted and sides scaled by up to +-`amount` of the sides,
    uniform."""
    x, y, w, h = (float(value) for value in box_xywh)
    dx, dy, sw, sh = generator.uniform(-amount, amount, 4)
    new_w, new_h = w * (1 + sw), h * (1 + sh)
    return np.array([x + w / 2 + dx * w - new_w / 2, y + h / 2 + dy * h - new_h / 2, new_w, new_h])


def box_overlap(box_xywh: np.ndarray, size: Size) -> float:
    """Measures the area, px^2, of the part of the box that lies in an image of `size`; 0 for a box outside or of no
    area."""
    x, y, w, h = (float(value) for value in box_xywh)
    return max(0.0, min(x + w, size[0]) - max(x, 0.0)) * max(0.0, min(y + h, size[1]) - max(y, 0.0))


def box_iou(one_xywh: np.ndarray, other_xywh: np.ndarray) -> np.ndarray:
    """Computes the intersection over union of boxes with sides above 0, pair by pair: [..., 4] each -> [...]."""
    low = np.maximum(one_xywh[..., :2], other_xywh[..., :2])
    high = np.minimum(one_xywh[..., :2] + one_xywh[..., 2:], other_xywh[..., :2] + other_xywh[..., 2:])
    both = np.maximum(high - low, 0).prod(-1)
    return both / (one_xywh[..., 2:].prod(-1) + other_xywh[..., 2:].prod(-1) - both)


def box_share(one_xywh: Array, other_xywh: Array) -> Array:
    """Computes what boxes with sides above 0 have in common as a share of the smaller one's area, pair by pair: [..., 4] each,
    which broadcast -> [...]."""
    low = _larger(one_xywh[..., :2], other_xywh[..., :2])
    high = -_larger(-(one_xywh[..., :2] + one_xywh[..., 2:]), -(other_xywh[..., :2] + other_xywh[..., 2:]))
    both = _larger(high - low, 0 * low)
    areas = one_xywh[..., 2] * one_xywh[..., 3], other_xywh[..., 2] * other_xywh[..., 3]
    return both[..., 0] * both[..., 1] / -_larger(-areas[0], -areas[1])


def _larger(one: Array, other: Array) -> Array:
    return (one + other + abs(one - other)) / 2


def box_middle(box_xywh: Array) -> Array:
    """Gives the middle of boxes in px, [..., 4] -> [..., 2]."""
    return box_xywh[..., :2] + box_xywh[..., 2:] / 2 - 0.5


def sides_from(xy: Array, box_xywh: Array) -> tuple[Array, Array]:
    """Measures the way from points to the left and top sides of boxes, and to the right and bottom ones, px; negative where
    a point lies beyond a side. xy [..., 2] and boxes [..., 4], which broadcast -> two of [..., 2]."""
    low = xy + 0.5 - box_xywh[..., :2]
    return low, box_xywh[..., 2:] - low


def box_of_sides(xy: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Makes the boxes whose sides lie so far from points, the inverse of `sides_from`: the first two and the last two
    numbers of `box_xywh`."""
    return xy + 0.5 - low, low + high


def map_boxes(matrix: Matrix, box_xywh: np.ndarray) -> np.ndarray:
    """Maps boxes [n, 4] to the upright boxes around the ellipses that fill them: exact for maps that do not turn or turn by
    right angles, and tighter than the corners' where they do."""
    middle = box_xywh[:, :2] + box_xywh[:, 2:] / 2 - 0.5
    half = box_xywh[:, 2:] / 2
    linear = matrix[:2, :2]
    extent = 2 * np.sqrt((linear[None] ** 2 * half[:, None] ** 2).sum(-1))
    return np.concatenate([transform(matrix, middle) + 0.5 - extent / 2, extent], axis=-1)


def boxes_meet(one_xywh: np.ndarray, other_xywh: np.ndarray) -> np.ndarray:
    """Says whether boxes have a part in common, pair by pair: [..., 4] each -> bool [...]."""
    low = np.maximum(one_xywh[..., :2], other_xywh[..., :2])
    high = np.minimum(one_xywh[..., :2] + one_xywh[..., 2:], other_xywh[..., :2] + other_xywh[..., 2:])
    return np.asarray((high > low).all(-1))


def rounded_boxes(box_xywh: np.ndarray) -> np.ndarray:
    """Rounds boxes to whole eighths of a px, halves up: what a network finds differs in its last digits from runtime to
    runtime, and a crop of the same box is the same to the byte."""
    return np.floor(box_xywh * EIGHTHS + 0.5) / EIGHTHS


def clip_boxes(box_xywh: np.ndarray, size: Size) -> np.ndarray:
    """Cuts boxes [..., 4] at the edges of an image; those outside keep no area."""
    low = np.clip(box_xywh[..., :2], 0, size)
    high = np.clip(box_xywh[..., :2] + box_xywh[..., 2:], 0, size)
    return np.concatenate([low, high - low], axis=-1)


def box_from_corners(corners: np.ndarray) -> np.ndarray:
    """Converts (x_min, y_min, x_max, y_max) to `box_xywh`, both in the edge frame; [..., 4]."""
    low, high = corners[..., :2], corners[..., 2:]
    return np.concatenate([low, high - low], axis=-1)


def square_box(centre_xy: np.ndarray, side: float) -> np.ndarray:
    """Makes the square `box_xywh` around a point, px."""
    return np.concatenate([centre_xy + 0.5 - side / 2, [side, side]])


def box_to_corners(box_xywh: np.ndarray) -> np.ndarray:
    """Converts `box_xywh` to (x_min, y_min, x_max, y_max), the inverse of `box_from_corners`."""
    return np.concatenate([box_xywh[..., :2], box_xywh[..., :2] + box_xywh[..., 2:]], axis=-1)


def box_from_shares(box_shares: np.ndarray, size: Any) -> np.ndarray:
    """Converts (left, top, w, h), shares of the image's sides, to `box_xywh` [..., 4]."""
    return box_shares * np.tile(np.asarray(size, dtype=np.float64), 2)


def box_to_shares(box_xywh: np.ndarray, size: Any) -> np.ndarray:
    """Converts `box_xywh` to (left, top, w, h) as shares of the image's sides, the inverse of `box_from_shares`."""
    return box_xywh / np.tile(np.asarray(size, dtype=np.float64), 2)


def box_from_unit(box_unit: np.ndarray, size: Any) -> np.ndarray:
    """Converts (centre x, centre y, w, h) in unit, as YOLO writes it, to `box_xywh` [..., 4]; `size` is [..., 2] or a
    Size."""
    size = np.asarray(size, dtype=np.float64)
    extent = box_unit[..., 2:] * size
    return np.concatenate([box_unit[..., :2] * size - extent / 2, extent], axis=-1)


def box_to_unit(box_xywh: np.ndarray, size: Any) -> np.ndarray:
    """Converts `box_xywh` to (centre x, centre y, w, h) in unit, the inverse of `box_from_unit`."""
    size = np.asarray(size, dtype=np.float64)
    return np.concatenate([(box_xywh[..., :2] + box_xywh[..., 2:] / 2) / size, box_xywh[..., 2:] / size], axis=-1)


def clip_unit(box_unit: np.ndarray) -> np.ndarray:
    """Cuts boxes (centre x, centre y, w, h) in unit at the edges of the image."""
    low = np.clip(box_unit[..., :2] - box_unit[..., 2:] / 2, 0, 1)
    high = np.clip(box_unit[..., :2] + box_unit[..., 2:] / 2, 0, 1)
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def source_region(matrix: Matrix, image: Size, crop: Size, block: int = 1) -> tuple[int, int, int, int]:
    """Finds the part of an image that a map onto a crop can see, as (left, top, right, bottom) px, ends exclusive;
    empty where the crop lies outside. It starts and ends on a grid of `block` px, one block further than the crop's
    outer edges, but not outside the image."""
    spans = []
    for row, length in zip(invert(matrix).tolist(), image, strict=False):
        ends = [sorted((-0.5 * slope, (side - 0.5) * slope)) for slope, side in zip(row, crop, strict=False)]
        low, high = (sum(pair) + row[2] + 0.5 for pair in zip(*ends, strict=True))  # to edges
        last = math.ceil(length / block)
        first = min(max(math.floor(low / block) - 1, 0), last)
        after = min(max(math.ceil(high / block) + 1, first), last)
        spans.append((min(first * block, length), min(after * block, length)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


# ---------------------------------------------------------------------------------------------------- warps


def warp(image: np.ndarray, matrix: Matrix, size: Size, border: int = 0) -> np.ndarray:
    """Warps `image` [h, w, c] or [h, w] by `matrix` onto a canvas of `size`, bilinear; outside is `border`.

    Shrinking by more than two aliases with bilinear weights alone, so callers that shrink much should start
    from a reduced image (the loader decodes JPEGs at half or quarter size and composes that resize)."""
    import cv2

    return cv2.warpAffine(
        image,
        matrix[:2],
        (size[0], size[1]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(border, border, border, border),
    )


FRACTIONS = 32  # of a px: the grid that `warp_upright` rounds places to
# Places halfway between two of the grid's go up, those too that rounding has put a little below.
HALF_UP = 0.5 + 1 / 1024


def is_upright(matrix: Matrix) -> bool:
    """Says whether a map neither turns nor shears nor mirrors."""
    return bool(matrix[0, 1] == 0 == matrix[1, 0] and matrix[0, 0] > 0 and matrix[1, 1] > 0)


def warp_upright(image: np.ndarray, matrix: Matrix, size: Size) -> np.ndarray:
    """Warps by an upright map with black outside, to the byte alike wherever it is computed: places in the image are
    rounded half up to 1/32 px, so that every product is exact, in integers or in float32, and the result is rounded
    half up. Sides of `image` are below 32,000 px; `matrix` maps px of `image` to px of the result."""
    import cv2

    inverse, (height, width) = invert(matrix), image.shape[:2]
    columns, rows = (
        # Further out than the two cells that count nothing changes, and OpenCV's maps are 16 bits wide.
        np.clip(
            np.floor((inverse[axis, axis] * np.arange(count) + inverse[axis, 2]) * FRACTIONS + HALF_UP),
            -2 * FRACTIONS,
            (length + 1) * FRACTIONS,
        ).astype(np.int32)
        for axis, count, length in ((0, size[0], width), (1, size[1], height))
    )
    # OpenCV's form: whole px as pairs of int16, written here as one number each, the lower half first; then the fractions.
    whole = (rows >> 5 << 16)[:, None] | (columns >> 5 & 0xFFFF)
    fraction = ((rows & 31) << 5).astype(np.uint16)[:, None] | (columns & 31).astype(np.uint16)
    whole = whole.astype("<i4", copy=False).view("<i2").reshape(size[1], size[0], 2)
    return cv2.remap(image, whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0))
