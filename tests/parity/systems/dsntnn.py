"""DSNT: expectation, Gaussian targets, divergences, and its losses. Its coordinates run from -1 to 1 between the outer
edges: twice our unit less one."""

from __future__ import annotations

import torch
from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import heatmaps, losses

TOLERANCE = {"grad*": Tolerance(relative=1e-4, of_largest=1e-4), "*": Tolerance(absolute=1e-5, relative=1e-5)}


def run(case: Case) -> dict[str, Tensor]:
    mu, mask, sigma = case.given["mu"], case.given["mask"], case.config["sigma"]
    logits = case.given["logits"].clone().requires_grad_()
    grid = Size(logits.shape[-1], logits.shape[-2])
    mu_grid = geometry.unit_to_px((mu + 1) / 2, grid)
    peaks = heatmaps.draw_gaussians(mu_grid, grid, sigma)
    target = heatmaps.normalised(peaks)

    probability = heatmaps.spatial_softmax(logits)
    xy_grid = heatmaps.expectation(probability)
    coords = 2 * geometry.px_to_unit(xy_grid, grid) - 1
    weight = case.config.first("reg_coeff", "js_weight", "loss_weight", default=1.0)
    euclidean, js, kl = losses.euclidean(coords, mu), losses.js(probability, target), losses.kl(probability, target)
    variance = losses.variance(probability, sigma)
    total = losses.weighted_mean(euclidean + weight * js, mask)

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    return {
        "probs": probability,
        "coords": coords,
        "coords_px": xy_grid,
        "mu_px": mu_grid,
        "gauss": target,
        "gauss_raw": peaks,
        "euclidean_losses": euclidean,
        "js_losses": js,
        "kl_losses": kl,
        "variance_losses": variance,
        "l1_losses": losses.l1(coords, mu) / 2,
        "mse_losses": losses.mse(coords, mu) / 2,
        "total": total,
        "total_nomask": losses.weighted_mean(euclidean, torch.ones_like(mask)),
        "grad_total": gradient(total),
        "grad_kl": gradient(kl.mean()),
        "grad_var": gradient(variance.mean()),
    }
