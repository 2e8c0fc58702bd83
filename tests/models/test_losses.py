"""Losses: closed forms, and laws that hold for every one of them, found by walking the module."""

from __future__ import annotations

import inspect
import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from fiducial.models import heatmaps, losses
from fiducial.models.losses import weighted_mean
from fiducial.reference import losses as others

BATCH, POINTS, HEIGHT, WIDTH, BINS_X, BINS_Y = 3, 4, 5, 6, 7, 9
NO_LOSSES = {"weighted_mean", "hardest", "finite", "shortfall", "bone_lengths"}
# Ours, and those of other projects.
LOSSES = {
    name: member
    for module in (losses, others)
    for name, member in inspect.getmembers(module, inspect.isfunction)
    if member.__module__ == module.__name__ and name not in NO_LOSSES and not name.startswith("_")
}
NAMES = list(LOSSES)


class Inputs(NamedTuple):
    """What a loss is called with: tensors [b, k, ..] of the network and of the truth, and the rest by name."""

    predicted: list[Tensor]
    target: list[Tensor]
    rest: dict


def inputs_of(name: str) -> Inputs:
    """Random ones, float64. A new loss needs a line here."""
    generator = torch.Generator().manual_seed(7)

    def real(*shape: int) -> Tensor:
        return torch.randn(BATCH, POINTS, *shape, generator=generator, dtype=torch.float64)

    def share(*shape: int) -> Tensor:
        return real(*shape).flatten(2).softmax(-1).reshape(BATCH, POINTS, *shape)

    def peaked() -> Tensor:
        """Maps in 0..1 with a cell of exactly 1."""
        maps = real(HEIGHT, WIDTH).sigmoid()
        return maps / maps.amax((-2, -1), keepdim=True)

    cells = (HEIGHT, WIDTH)
    area = torch.tensor([3.0, 5.0, 2.0], dtype=torch.float64)
    sigmas = torch.tensor([0.3, 0.5, 0.4, 0.6], dtype=torch.float64)
    special = {
        "oks": lambda: Inputs([real(2)], [real(2)], {"area": area, "sigmas": sigmas}),
        "oks_similarity": lambda: Inputs([real(2)], [real(2)], {"area": area, "sigmas": sigmas}),
        "map_mse": lambda: Inputs([real(*cells)], [real(*cells)], {}),
        "combined": lambda: Inputs([real(3, *cells)], [real(3, *cells)], {}),
        "adaptive_wing": lambda: Inputs([real(*cells)], [peaked()], {}),
        "focal": lambda: Inputs([real(*cells).sigmoid()], [peaked()], {}),
        "binary_cross_entropy": lambda: Inputs([real(*cells)], [peaked()], {"positive_weight": 3.0}),
        "kl": lambda: Inputs([share(*cells)], [share(*cells)], {}),
        "js": lambda: Inputs([share(*cells)], [share(*cells)], {}),
        "map_cross_entropy": lambda: Inputs([real(*cells)], [share(*cells)], {}),
        "variance": lambda: Inputs([share(*cells)], [], {"sigma_cells": 1.2}),
        "vector_kl": lambda: Inputs([real(BINS_X)], [share(BINS_X)], {"beta": 2.0, "target_beta": 3.0}),
        "mlecc": lambda: Inputs([share(BINS_X), share(BINS_Y)], [share(BINS_X), share(BINS_Y)], {}),
    }
    return special.get(name, lambda: Inputs([real(2)], [real(2)], {}))()


def each_of(name: str, inputs: Inputs, weight: Tensor) -> Tensor:
    rest = inputs.rest | ({"weight": weight} if name == "oks" else {})
    return LOSSES[name](*inputs.predicted, *inputs.target, **rest)


def reduced(name: str, inputs: Inputs, weight: Tensor) -> Tensor:
    each = each_of(name, inputs, weight)
    if name == "oks":
        return each.sum()
    return weighted_mean(each, weight)


def with_gradients(name: str, inputs: Inputs, weight: Tensor) -> tuple[Tensor, list[Tensor]]:
    leaves = [values.clone().requires_grad_() for values in inputs.predicted]
    value = reduced(name, inputs._replace(predicted=leaves), weight)
    return value.detach(), list(torch.autograd.grad(value, leaves))


@pytest.fixture
def weight() -> Tensor:
    """One point and one whole sample are not labelled, one point counts half."""
    weight = torch.ones(BATCH, POINTS, dtype=torch.float64)
    weight[0, 1] = weight[2] = 0
    weight[1, 3] = 0.5
    return weight


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 0.0])
@pytest.mark.parametrize("where", ["predicted", "target", "both"])
def test_points_of_weight_zero_do_not_exist_whatever_they_hold(name, junk, where, weight):
    clean = inputs_of(name)
    value, gradients = with_gradients(name, clean, weight)

    def spoilt(values: Tensor) -> Tensor:
        values = values.clone()
        values[weight == 0] = junk
        return values

    predicted = [spoilt(values) if where != "target" else values for values in clean.predicted]
    target = [spoilt(values) if where != "predicted" else values for values in clean.target]
    found, own = with_gradients(name, Inputs(predicted, target, clean.rest), weight)
    torch.testing.assert_close(found, value)
    for gradient, expected in zip(own, gradients, strict=True):
        torch.testing.assert_close(gradient, expected)
        assert (gradient[weight == 0] == 0).all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_labelled_point_that_is_not_finite_shows_and_spoils_no_other(name):
    clean, ones = inputs_of(name), torch.ones(BATCH, POINTS, dtype=torch.float64)
    expected = each_of(name, clean, ones)
    predicted = [values.clone() for values in clean.predicted]
    predicted[0][1, 2].flatten()[0] = math.nan
    found = each_of(name, clean._replace(predicted=predicted), ones)
    broken = torch.zeros_like(expected, dtype=torch.bool)
    broken[1 if name == "oks" else (1, 2)] = True
    assert found[broken].isnan().all()
    torch.testing.assert_close(found[~broken], expected[~broken])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name, weight):
    inputs = inputs_of(name)
    leaves = [values.clone().requires_grad_() for values in inputs.predicted]
    assert torch.autograd.gradcheck(lambda *own: each_of(name, inputs._replace(predicted=list(own)), weight), leaves)


@pytest.mark.parametrize("name", ["mse", "l1", "euclidean", "smooth_l1", "wing", "soft_wing"])
def test_distances_are_zero_where_points_coincide_and_gradients_are_too(name, weight):
    inputs = inputs_of(name)
    inputs = inputs._replace(predicted=inputs.target)
    assert (each_of(name, inputs, weight) == 0).all()
    assert all((gradient == 0).all() for gradient in with_gradients(name, inputs, weight)[1])


@pytest.mark.parametrize("name", ["oks", "oks_similarity"])
@pytest.mark.parametrize("area", [0.0, math.nan])
def test_a_sample_without_labels_needs_no_area(name, area, weight):
    clean = inputs_of(name)
    areas = clean.rest["area"].clone()
    areas[2] = area
    found = with_gradients(name, clean._replace(rest=clean.rest | {"area": areas}), weight)
    torch.testing.assert_close(found, with_gradients(name, clean, weight))


@pytest.mark.parametrize("kind", ["linear", "square", "log"])
def test_oks_of_points_beyond_reach_is_finite(kind: others.Shortfall):
    predicted = torch.full((1, 2, 2), 1e4, requires_grad=True)
    value = others.oks(predicted, torch.zeros(1, 2, 2), torch.ones(1, 2), torch.ones(1), torch.ones(2) / 2, kind)
    (gradient,) = torch.autograd.grad(value.sum(), predicted)
    assert torch.isfinite(value).all()
    assert (gradient == 0).all()


# ------------------------------------------------------------------------------------------------ reduction


def test_weighted_mean():
    each = torch.tensor([[1.0, 2.0], [math.nan, math.inf]])
    assert weighted_mean(each, torch.tensor([[1.0, 0.5], [0.0, 0.0]])) == pytest.approx(2 / 1.5)
    assert weighted_mean(each, torch.tensor([[0.25, 0.5], [0.0, 0.0]])) == 1.25  # the divisor is at least 1
    assert weighted_mean(each, torch.zeros(2, 2)) == 0
    assert weighted_mean(each, torch.ones(2, 2)).isnan()


def test_hardest_keeps_the_largest_losses_of_labelled_points():
    each = torch.tensor([[1.0, 5.0, 3.0, 9.0], [math.nan, 1.0, 2.0, math.inf], [4.0, 3.0, 2.0, 1.0]])
    weight = torch.tensor([[1.0, 1.0, 0.5, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.0, 1.0, 0.5, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    assert torch.equal(losses.hardest(each, weight, 2), expected)
    assert torch.equal(losses.hardest(each, weight, 99), weight)


# -------------------------------------------------------------------------------------- coordinates, closed forms


def at(dx: float, dy: float = 0.0) -> tuple[Tensor, Tensor]:
    """One point that is wrong by (dx, dy)."""
    target = torch.tensor([[[3.0, -2.0]]], dtype=torch.float64)
    return target + torch.tensor([dx, dy], dtype=torch.float64), target


LN = math.log


@pytest.mark.parametrize(
    ("loss", "offset", "expected"),
    [
        (losses.mse, (3, -4), 25),
        (losses.l1, (3, -4), 7),
        (losses.euclidean, (3, -4), 5),
        (losses.smooth_l1, (0.5, -3), 0.125 + 2.5),
        (lambda p, t: losses.smooth_l1(p, t, beta=4), (2, -6), 0.5 + 4),
        (losses.wing, (2, -4), 10 * LN(2) + 10 * LN(3)),
        (losses.wing, (20, 0), 20 - (10 - 10 * LN(6))),
        (lambda p, t: losses.wing(p, t, omega=5, epsilon=0.5), (1, 0), 5 * LN(3)),
        (losses.soft_wing, (1, -1.5), 2.5),
        (losses.soft_wing, (10, 0), 20 * LN(21) + 2 - 20 * LN(5)),
    ],
)
def test_coordinate_losses_at_a_point(loss, offset, expected):
    assert loss(*at(*offset)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("loss", "joint"),
    [(losses.wing, 10.0), (losses.soft_wing, 2.0), (lambda p, t: losses.smooth_l1(p, t, beta=3.0), 3.0)],
)
def test_pieces_meet(loss, joint):
    below, above = (loss(*at(joint + sign * 1e-9)).item() for sign in (-1, 1))
    assert below == pytest.approx(above, abs=1e-7)
    assert loss(*at(joint + 0.1)).item() > above + 1e-3, "not constant, so that the two could differ"


def test_oks_is_cocos():
    """At two sigmas times the root of the area a point's similarity is exp(-1/2)."""
    sigmas, area = torch.tensor([0.1, 0.05]), torch.tensor([900.0])
    predicted = torch.tensor([[[0.1 * 2 * 30, 0.0], [0.0, 0.0]]])
    target = torch.zeros(1, 2, 2)
    similarity = others.oks_similarity(predicted, target, area, sigmas)
    torch.testing.assert_close(similarity, torch.tensor([[math.exp(-0.5), 1.0]]))
    share = (math.exp(-0.5) + 3) / 4
    weight = torch.tensor([[1.0, 3.0]])
    shortfalls: dict[others.Shortfall, float] = {"linear": 1 - share, "square": 1 - share**2, "log": -LN(share)}
    for kind, expected in shortfalls.items():
        assert others.oks(predicted, target, weight, area, sigmas, kind).item() == pytest.approx(expected, abs=1e-6)
        light = others.oks(predicted, target, weight / 10, area, sigmas, kind)
        assert light.item() == pytest.approx(expected, abs=1e-6), "only the ratios of the weights count"
        assert others.oks(predicted, target, weight * 0, area, sigmas, kind).item() == 0


def test_bone_lengths_are_distances_of_their_ends():
    xy = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [3.0, 9.0]]])
    edges = torch.tensor([[0, 1], [1, 2], [2, 2]])
    torch.testing.assert_close(others.bone_lengths(xy, edges), torch.tensor([[5.0, 5.0, 0.0]]))


# --------------------------------------------------------------------------------------------- maps, closed forms


def one_cell(value: float, target: float) -> tuple[Tensor, Tensor]:
    maps, truth = torch.tensor([value, target], dtype=torch.float64).view(2, 1, 1, 1, 1)
    return maps, truth


def test_map_mse_is_the_mean_over_cells():
    maps = torch.zeros(1, 1, 2, 3)
    maps[..., 0, 1], maps[..., 1, 2] = 3, 2
    assert losses.map_mse(maps, torch.zeros_like(maps)).item() == pytest.approx(13 / 6)
    cell_weight = torch.zeros_like(maps)
    cell_weight[..., 1, 2] = 6
    assert losses.map_mse(maps, torch.zeros_like(maps), cell_weight).item() == pytest.approx(4)


def test_combined_asks_for_offsets_only_where_the_label_is():
    maps, target = torch.zeros(1, 1, 3, 1, 2, requires_grad=True), torch.zeros(1, 1, 3, 1, 2)
    target[0, 0, :, 0, 0] = torch.tensor([1.0, 3.0, 5.0])
    target[0, 0, 1:, 0, 1] = 99  # of no matter: the label is 0 there
    loss = others.combined(maps, target)
    assert loss.item() == pytest.approx(0.5 * (1 + 9 + 25) / 2)
    (gradient,) = torch.autograd.grad(loss.sum(), maps)
    assert (gradient[..., 1] == 0).all()


@pytest.mark.parametrize("target", [0.0, 0.4, 1.0])
def test_adaptive_wing(target):
    """Its formula below the joint; value and slope go on at the joint, and the slope stays from there."""
    alpha, omega, epsilon, theta = 2.1, 14.0, 0.8, 0.5

    def value_and_slope(distance: float) -> tuple[float, float]:
        maps, truth = one_cell(target + distance, target)
        maps = maps.clone().requires_grad_()
        loss = losses.adaptive_wing(maps, truth, alpha, omega, epsilon, theta)
        return loss.item(), torch.autograd.grad(loss.sum(), maps)[0].item()

    value, _ = value_and_slope(0.3)
    assert value == pytest.approx(omega * LN(1 + (0.3 / epsilon) ** (alpha - target)))
    (below, slope_below), (above, slope_above) = value_and_slope(theta - 1e-9), value_and_slope(theta + 1e-9)
    assert below == pytest.approx(above, abs=1e-6)
    assert slope_below == pytest.approx(slope_above, rel=1e-6)
    far, slope_far = value_and_slope(2.0)
    assert far == pytest.approx(above + 1.5 * slope_above)
    assert slope_far == pytest.approx(slope_above)
    assert value_and_slope(0.0) == (0.0, 0.0)
    assert value_and_slope(1e300)[1] == pytest.approx(slope_above)


def test_focal():
    probability = torch.tensor([0.8, 0.3, 0.9]).view(1, 1, 1, 3)
    target = torch.tensor([1.0, 0.0, 0.5]).view(1, 1, 1, 3)
    expected = -(0.2**2 * LN(0.8)) - 0.3**2 * LN(0.7) - 0.5**4 * 0.9**2 * LN(0.1)
    assert others.focal(probability, target).item() == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy():
    logits, target = torch.zeros(1, 1, 1, 4), torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 4)
    assert losses.binary_cross_entropy(logits, target).item() == pytest.approx(LN(2))
    assert losses.binary_cross_entropy(logits, target, 5.0).item() == pytest.approx(LN(2) * 8 / 4)
    torch.testing.assert_close(
        losses.binary_cross_entropy(torch.zeros(2, 3), torch.ones(2, 3)), torch.full((2, 3), LN(2))
    )


# ---------------------------------------------------------------------------------------- distributions, closed forms


def test_divergences_of_equal_and_of_disjoint_maps():
    p, q = inputs_of("kl").predicted[0], inputs_of("kl").target[0]
    zero = torch.zeros(BATCH, POINTS, dtype=torch.float64)
    torch.testing.assert_close(losses.kl(p, p), zero)
    torch.testing.assert_close(losses.js(p, p), zero)
    assert (losses.kl(p, q) > 0).all()
    assert not torch.allclose(losses.kl(p, q), losses.kl(q, p))
    torch.testing.assert_close(losses.js(p, q), losses.js(q, p))
    assert ((losses.js(p, q) > 0) & (losses.js(p, q) < LN(2))).all()
    left, right = torch.zeros(2, 1, 1, 2, 4, dtype=torch.float64)
    left[..., 0], right[..., 2] = 0.5, 0.5
    assert losses.js(left, right).item() == pytest.approx(LN(2))
    assert math.isfinite(losses.kl(left, right).item())
    half = (left + right) / 2
    assert losses.kl(left, half).item() == pytest.approx(LN(2))


def test_cross_entropy_of_maps_is_least_at_the_target():
    target = inputs_of("map_cross_entropy").target[0]
    entropy = -(target * target.log()).sum((-2, -1))
    torch.testing.assert_close(losses.map_cross_entropy(target.log() + 3, target), entropy)
    q = inputs_of("map_cross_entropy").predicted[0]
    torch.testing.assert_close(
        losses.map_cross_entropy(q, target), entropy + losses.kl(target, heatmaps.spatial_softmax(q))
    )


def test_variance():
    """A single cell has none; two cells d apart have d^2 / 4."""
    single, pair = torch.zeros(2, 1, 1, 5, 7, dtype=torch.float64)
    single[..., 2, 3] = 1
    pair[..., 1, 2] = pair[..., 1, 6] = 0.5
    assert losses.variance(single, 1.5).item() == pytest.approx(2 * 1.5**4)
    assert losses.variance(pair, 1.5).item() == pytest.approx((4 - 1.5**2) ** 2 + 1.5**4)
    centre = torch.tensor([[[20.3, 17.8]]], dtype=torch.float64)
    gaussian = heatmaps.normalised(heatmaps.draw_gaussians(centre, heatmaps.Size(41, 37), 2.0))
    assert losses.variance(gaussian, 2.0).item() == pytest.approx(0, abs=1e-8)


def test_vector_kl():
    target = inputs_of("vector_kl").target[0]
    one_hot = torch.zeros_like(target)
    one_hot[..., 3] = 1
    count = torch.full((BATCH, POINTS), float(BINS_X), dtype=torch.float64)
    torch.testing.assert_close(losses.vector_kl(torch.zeros_like(target), one_hot), count.log())
    torch.testing.assert_close(losses.vector_kl(target.log(), target), 0 * count)
    torch.testing.assert_close(losses.vector_kl(target.log() / 5, target, beta=5.0), 0 * count)
    torch.testing.assert_close(losses.vector_kl(target * 3, target, beta=2.0, target_beta=6.0), 0 * count)


def test_mlecc():
    """Even axes give one pair of bins a probability of 1 / (n m)."""
    x, y = torch.full((1, 1, 4), 1 / 4), torch.full((1, 1, 5), 1 / 5)
    target_x, target_y = torch.eye(4)[None, 2:3], torch.eye(5)[None, 1:2]
    assert others.mlecc(x, y, target_x, target_y).item() == pytest.approx(-LN(1 / 20 + 1e-4), rel=1e-5)
    assert others.mlecc(x, y, target_x, target_y, "linear").item() == pytest.approx(1 - 1 / 20)
    assert others.mlecc(target_x, target_y, target_x, target_y, "square").item() == 0
