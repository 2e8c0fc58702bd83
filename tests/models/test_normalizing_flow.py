"""The learnt likelihood: a density that integrates to one, and deviations that are those of the errors."""

from __future__ import annotations

import math

import pytest
import torch

from fiducial.models import normalizing_flow
from fiducial.models.normalizing_flow import Likelihood, RealNVP


@pytest.fixture
def bent() -> RealNVP:
    """A flow far from the identity."""
    torch.manual_seed(2)
    network = RealNVP()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def grid(reach: float, cells: int) -> torch.Tensor:
    axis = torch.linspace(-reach, reach, cells)
    return torch.cartesian_prod(axis, axis)


def test_the_density_integrates_to_one(bent: RealNVP):
    reach, cells = 40.0, 501
    with torch.no_grad():
        total = bent.log_probability(grid(reach, cells)).exp().sum() * (2 * reach / (cells - 1)) ** 2
    assert float(total) == pytest.approx(1, abs=5e-3)


def test_log_determinant_is_that_of_the_jacobian(bent: RealNVP):
    point = torch.tensor([[0.7, -1.3]])
    jacobian = torch.autograd.functional.jacobian(lambda xy: bent.latent(xy)[0], point)[0, :, 0]
    assert float(bent.latent(point)[1].detach()) == pytest.approx(math.log(abs(float(torch.det(jacobian)))), abs=1e-5)


@pytest.mark.parametrize("base", ["laplace", "gaussian"])
def test_deviations_are_those_of_the_errors_whatever_the_flow_makes_of_the_scale(base: normalizing_flow.Base):
    """Two kinds of points, one four times as uncertain as the other: the scale alone comes out wrong by any factor."""
    torch.manual_seed(0)
    likelihood = Likelihood(base)
    true = torch.tensor([[0.01, 0.02], [0.04, 0.01]])  # standard deviation of x and y of each kind
    noise = (
        torch.distributions.Laplace(0.0, 1 / math.sqrt(2))
        if base == "laplace"
        else torch.distributions.Normal(0.0, 1.0)
    )
    scale_logit = torch.full((2, 2), normalizing_flow.first_scale_logit(), requires_grad=True)
    optimizer = torch.optim.Adam([scale_logit, *likelihood.parameters()], lr=0.02)
    labelled = torch.ones(128, 2)
    for _ in range(250):
        target = 0.5 + noise.sample((128, 2, 2)) * true
        predicted = torch.full((128, 2, 2), 0.5)
        loss = likelihood.loss(predicted, scale_logit.expand(128, 2, 2), target, labelled)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = likelihood.deviation(scale_logit[None].detach())[0]
    torch.testing.assert_close(found, true, rtol=0.25, atol=0)
    assert likelihood.score(scale_logit[None].detach())[0, 0] > likelihood.score(scale_logit[None].detach())[0, 1]


def test_only_training_observes_and_only_what_is_labelled_and_finite():
    likelihood = Likelihood()
    predicted, logit = torch.zeros(2, 2, 2), torch.zeros(2, 2, 2)  # a scale of 1/2
    target = torch.full((2, 2, 2), 0.25)
    target[0, 0], target[0, 1] = torch.inf, 1e6
    labelled = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    likelihood.eval().loss(predicted, logit, target, labelled)
    assert likelihood.spread.tolist() == [1, 1]
    likelihood.train()
    for _ in range(2000):
        likelihood._observe(predicted - target, labelled)
    assert likelihood.spread.tolist() == pytest.approx([0.25 * math.sqrt(2)] * 2, rel=1e-3)
