"""From a box to the crop and back, in the two conventions of published top-down code."""

from __future__ import annotations

import math

import numpy as np
import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Matrix, Size

TOLERANCE = {
    "crop_u8": Tolerance(absolute=1),  # one level
    "crop_*": Tolerance(absolute=2e-5),
    "M_*": Tolerance(absolute=1e-4, relative=1e-5),
    "*": Tolerance(absolute=1e-3),  # px
}
LEFT_OUT = {"crop_index": "says of which boxes the crops are"}


def run(case: Case) -> dict[str, Tensor]:
    given = {name: value.numpy() for name, value in case.given.items()}
    size = Size(*case.config["input_size"])
    plain = geometry.box_from_corners(given["boxes"].astype(np.float64))
    padded = np.array([grown(box, case.config["padding"]) for box in plain])
    fixed = np.array([geometry.fit_aspect(box, size, case.config["padding"]) for box in plain])
    turns = [math.radians(degrees) for degrees in given["rot"].tolist()]
    # The two conventions turn the picture in opposite directions for the same number.
    msra = np.array([turned_crop(box, size, -turn, "stride") for box, turn in zip(fixed, turns, strict=True)])
    udp = np.array([turned_crop(box, size, turn, "corner") for box, turn in zip(fixed, turns, strict=True)])
    noaspect = np.array([turned_crop(box, size, -turn, "stride") for box, turn in zip(padded, turns, strict=True)])
    upright = np.array([geometry.crop(box, size, "stride") for box in fixed])
    shown = case.expected["crop_index"]
    found = {
        "center": middle(plain),
        "scale": padded[:, 2:],
        "scale_fixed": fixed[:, 2:],
        "M_msra": msra[:, :2],
        "M_udp": udp[:, :2],
        "M_noaspect": noaspect[:, :2],
        "M_msra_inv": geometry.invert(msra)[:, :2],
        "kp_msra": geometry.transform(msra, given["keypoints"]),
        "kp_udp": geometry.transform(udp, given["keypoints"]),
        "crop_u8": crops(given["img_u8"], msra[shown], size),
        "crop_f": crops(given["img_f"], msra[shown], size),
        "crop_udp_f": crops(given["img_f"], udp[shown], size),
        # The reference's way back knows of no rotation.
        "back_msra": geometry.transform(geometry.invert(upright), given["decoded"]),
        "back_udp_exact": geometry.transform(geometry.invert(udp), given["decoded"]),
    }
    return {name: torch.from_numpy(value) for name, value in found.items()}


def grown(box_xywh: np.ndarray, padding: float) -> np.ndarray:
    """The box with each side `padding` times as long: brought to the aspect that it has."""
    return geometry.fit_aspect(box_xywh, Size(*box_xywh[2:]), padding)


def turned_crop(box_xywh: np.ndarray, size: Size, radians: float, align: geometry.Align) -> Matrix:
    x, y = middle(box_xywh).tolist()
    return geometry.compose(geometry.rotation(radians, (x, y)), geometry.crop(box_xywh, size, align))


def middle(box_xywh: np.ndarray) -> np.ndarray:
    """[..., 4] -> [..., 2]."""
    return box_xywh[..., :2] + box_xywh[..., 2:] / 2


def crops(image: np.ndarray, matrices: np.ndarray, size: Size) -> np.ndarray:
    return np.stack([geometry.warp(image, matrix, size) for matrix in matrices])
