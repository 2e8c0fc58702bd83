"""What is answered, as JSON: the interface's description is made of these types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from fiducial.geometry import Size
from fiducial.types import Found, Keypoints


@dataclass(slots=True)
class Point:
    """Where one point is."""

    name: Annotated[str, Field(description="as in the skeleton of the model's card")]
    x: Annotated[
        float, Field(description="px of the upright image, to the right; the centre of its top left pixel is 0, 0")
    ]
    y: Annotated[float, Field(description="px, downwards")]
    score: Annotated[float, Field(description="0 to 1; what it means is the method's affair, higher is surer")]
    sigma: Annotated[
        tuple[float, float] | None,
        Field(description="standard deviation of x and y, px; null where it is not known"),
    ]
    radius_90: Annotated[
        float | None,
        Field(
            description="px from x, y within which the true point lies in 90 % of all cases; null where not measured"
        ),
    ]
    visibility: Annotated[
        dict[str, float] | None,
        Field(
            description="how likely it is visible, hidden or outside; null where the model's data did not tell these apart"
        ),
    ] = None
    correlation: Annotated[
        float | None,
        Field(description="of the errors in x and y, -1 to 1; null where it is not told, or told of each by itself"),
    ] = None


@dataclass(slots=True)
class Instance:
    """What is in one box."""

    points: Annotated[list[Point], Field(description="in the skeleton's order")]
    box: Annotated[
        tuple[float, float, float, float] | None,
        Field(description="where the model found it: x, y, width, height in px; null where boxes were given"),
    ] = None
    score: Annotated[float | None, Field(description="how sure the finder is of it, 0 to 1; null as for `box`")] = None
    category: Annotated[
        str | None, Field(description="what it is, where the model tells several apart; `points` are then those of it")
    ] = None


@dataclass(slots=True)
class Heatmap:
    """A picture of the highest of all points' maps, over the first crop."""

    png: Annotated[str, Field(description="grey, base64")]
    box: Annotated[
        tuple[float, float, float, float],
        Field(description="where it lies: x, y, width, height in px, from the image's outer edge"),
    ]


@dataclass(slots=True)
class Answer:
    """What is answered to one image."""

    model: Annotated[str, Field(description="skeleton, method, backbone and runtime")]
    size: Annotated[tuple[int, int], Field(description="width and height of the upright image, px")]
    instances: Annotated[
        list[Instance],
        Field(
            description="one a box, in the order of the boxes; of a model that finds instances itself the surest first"
        ),
    ]
    ms: Annotated[float, Field(description="from the request's last byte to the answer")]
    heatmap: Annotated[Heatmap | None, Field(description="null unless it was asked for and the model has one")] = None


@dataclass(slots=True)
class Answers:
    """What is answered to several images."""

    images: Annotated[list[Answer], Field(description="in the order of the images")]


@dataclass(slots=True)
class Refusal:
    """What a request got instead of an answer."""

    detail: Annotated[str, Field(description="what was wrong, what was expected")]


def answer(
    model: str, names: tuple[str, ...], size: Size, points: Keypoints, ms: float, found: Found | None = None
) -> Answer:
    """Makes the answer to one image of `size`; points are rounded to what is worth sending, 1/1000 px. `found`: the instances,
    where the model found them itself."""
    xy, score = _rounded(points.xy, 3), _rounded(points.score, 5)
    sigma: Any = [[None] * len(names)] * len(xy) if points.sigma is None else _rounded(points.sigma, 3)
    measured = points.spread is not None and points.spread.knows(0.9)
    radius: Any = _rounded(points.radius(0.9), 3) if measured else [[None] * len(names)] * len(xy)
    instances = [
        Instance([Point(name, x, y, s, *off) for name, (x, y), s, *off in zip(names, *columns, strict=True)])
        for columns in zip(xy, score, sigma, radius, strict=True)
    ]
    if found is not None:
        for instance, box, sure in zip(instances, _rounded(found.box_xywh, 3), _rounded(found.score, 5), strict=True):
            instance.box, instance.score = tuple(box), sure
    for state, share in points.visibility.items():
        for instance, own in zip(instances, _rounded(share, 4), strict=True):
            for point, value in zip(instance.points, own, strict=True):
                point.visibility = {**(point.visibility or {}), state: value}
    if points.correlation is not None:
        for instance, own in zip(instances, _rounded(points.correlation, 3), strict=True):
            for point, value in zip(instance.points, own, strict=True):
                point.correlation = value
    if points.kind is not None and points.skeleton is not None:
        kinds = list(points.skeleton.kinds)
        for instance, kind, owned in zip(instances, points.kind.tolist(), points.owned, strict=True):
            instance.category = kinds[kind]
            instance.points = [point for point, own in zip(instance.points, owned, strict=True) if own]
    return Answer(model, (size.w, size.h), instances, round(ms, 2))


def _rounded(values: np.ndarray, decimals: int) -> Any:
    return np.round(values.astype(np.float64), decimals).tolist()
