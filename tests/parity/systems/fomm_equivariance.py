"""The First-Order-Motion model's equivariance losses on its detector, gradient included, with both meanings of sampling."""

from __future__ import annotations

from parity.golden import Case, Tolerance
from parity.systems.fomm_dense_motion import VARIANTS, sampling
from parity.systems.fomm_kp_detector import build
from torch import Tensor

from fiducial.motion import warps
from fiducial.motion.warps import Warp

TOLERANCE = {
    "*.loss_*": Tolerance(absolute=1e-4, relative=1e-4),
    "*": Tolerance(absolute=1e-4),
}


def run(case: Case) -> dict[str, Tensor]:
    given, driving = case.given, case.given["driving"]
    affine, side = given["theta"], case.config.get("points_tps", 0)
    weights = given["control_params"] if side else affine.new_zeros(len(affine), 1, 0)
    warp = Warp(affine, weights, warps.control_points(side, affine))
    found = {
        "warp_of_test_points": warp.points(given["test_points"]),
        "jac_of_test_points": warp.jacobian(given["test_points"]),
    }
    for variant, align_corners in VARIANTS.items():
        with sampling(align_corners):
            warped = warp.image(driving)
        values = losses(case, warp, driving, warped)
        found |= {f"{variant}.{name}": value for name, value in values.items()}
    return found


def losses(case: Case, warp: Warp, driving: Tensor, transformed: Tensor) -> dict[str, Tensor]:
    backbone, head = build(case.config, driving, case.weights)
    backbone, head = backbone.eval(), head.eval()
    of_driving, of_transformed = (head.frames(head(backbone(image)[0])) for image in (driving, transformed))
    xy_corner = of_transformed.xy_corner
    value = case.config["w_value"] * warps.value_loss(of_driving.xy_corner, xy_corner, warp)
    found = {
        "transformed_frame": transformed,
        "kp_driving_value": of_driving.xy_corner,
        "kp_transformed_value": xy_corner,
        "warped": warp.points(xy_corner),
        "loss_value": value,
    }
    total = value
    if of_driving.jacobian is not None and of_transformed.jacobian is not None:
        loss = warps.jacobian_loss(of_driving.jacobian, of_transformed.jacobian, xy_corner, warp)
        loss = case.config["w_jacobian"] * loss
        total = value + loss
        found |= {
            "kp_driving_jacobian": of_driving.jacobian,
            "kp_transformed_jacobian": of_transformed.jacobian,
            "warp_jacobian": warp.jacobian(xy_corner),
            "loss_jacobian": loss,
        }
    total.backward()
    assert head.heatmap.weight.grad is not None
    return found | {"grad_kp_weight": head.heatmap.weight.grad}
