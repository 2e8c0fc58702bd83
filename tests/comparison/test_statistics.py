"""The bootstrap, the spread and the front against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fiducial.comparison import statistics
from fiducial.comparison.statistics import Spread, paired_bootstrap, pareto_front
from fiducial.evaluation import bootstrap


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(11)


def test_spread_of_three_seeds() -> None:
    spread = Spread.of(np.array([[1.0, 3.0], [4.0, math.nan], [9.0, 9.0]]))
    assert (spread.mean, spread.low, spread.high) == (5, 2, 9)
    assert spread.standard_deviation == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert math.isnan(Spread.of(np.array([[3.0]])).standard_deviation)


def test_the_interval_is_that_of_a_normal_distribution(generator: np.random.Generator) -> None:
    """Means of many draws are normal: their standard error is the standard deviation over the root of n."""
    count = 900
    other = generator.gamma(3, 0.02, (1, count))
    first = other + generator.normal(0.004, 0.03, (1, count))
    apart = (first - other)[0]
    half = 1.959964 * apart.std() / math.sqrt(count)
    found = paired_bootstrap(first, other, resamples=20_000)
    assert found.mean == pytest.approx(apart.mean())
    assert found.low == pytest.approx(apart.mean() - half, abs=0.04 * half)
    assert found.high == pytest.approx(apart.mean() + half, abs=0.04 * half)
    share = 0.5 * math.erfc(apart.mean() / (apart.std() / math.sqrt(count)) / math.sqrt(2))
    assert found.share_better == pytest.approx(share, abs=0.01)


def test_two_instances_by_hand() -> None:
    """Of two instances with differences -1 and +3 a resample has the means -1, 1 and 3 with odds 1:2:1."""
    found = paired_bootstrap(np.array([[0.0, 5.0]]), np.array([[1.0, 2.0]]), resamples=40_000)
    assert (found.mean, found.low, found.high) == (1, -1, 3)
    assert found.share_better == pytest.approx(0.25, abs=0.01)


def test_pairing_takes_out_what_instances_have_in_common(generator: np.random.Generator) -> None:
    """Hard instances are hard for both: unpaired, this difference would drown in their spread."""
    hard = generator.gamma(1, 0.1, (1, 60))
    found = paired_bootstrap(hard + generator.normal(0.003, 0.001, (1, 60)), hard)
    assert 0 < found.low < 0.003 < found.high < 0.004
    assert not found.within_noise


def test_seeds_are_averaged_within_instances() -> None:
    first, second = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), np.array([[2.5, 2.5, 2.5]])
    found = paired_bootstrap(first, second)
    assert (found.mean, found.low, found.high, found.share_better) == (-0.5, -0.5, -0.5, 1)
    assert found.seeds == 1


@pytest.mark.parametrize(("second_seed", "noise"), [(0.052, True), (0.048, False)])
def test_ranges_over_seeds_that_touch_are_noise(second_seed: float, noise: bool) -> None:
    """Every instance speaks for the first method, but another seed of it might not have."""
    first = np.array([[0.04] * 50, [second_seed] * 50])
    other = np.array([[0.05] * 50, [0.06] * 50])
    found = paired_bootstrap(first, other)
    assert found.share_better == 1
    assert found.within_noise is noise


@pytest.mark.parametrize(("apart", "noise"), [(3e-8, True), (-3e-8, True), (1e-4, False), (-1e-4, False)])
def test_rounding_is_noise_though_every_instance_has_it(apart: float, noise: bool) -> None:
    errors = np.linspace(0.03, 0.09, 40)[None]
    found = paired_bootstrap(errors + apart, errors)
    assert found.share_better in (0, 1)
    assert found.within_noise is noise


def test_unmeasured_instances_do_not_count() -> None:
    nan = math.nan
    found = paired_bootstrap(np.array([[1.0, nan, 4.0]]), np.array([[2.0, 7.0, 5.0]]))
    assert (found.mean, found.share_better) == (-1, 1)
    nothing = paired_bootstrap(np.array([[nan]]), np.array([[1.0]]))
    assert math.isnan(nothing.mean)
    same = paired_bootstrap(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]))
    assert (same.share_better, same.within_noise) == (0.5, True)


def test_draws_are_the_same_for_all_pairs_and_bounded_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(30.0)
    means = bootstrap.resampled_means(values, 100)
    assert np.array_equal(means, bootstrap.resampled_means(values, 100))
    assert np.allclose(2 * means, bootstrap.resampled_means(2 * values, 100))
    assert len(bootstrap.resampled_means(np.ones(1_500_000), 5)) == 5


def test_front_by_hand() -> None:
    nan = math.nan
    error = np.array([5.0, 4.0, 4.0, 6.0, 3.0, nan, 3.0])
    cost = np.array([1.0, 2.0, 2.0, 1.5, 9.0, 0.1, nan])
    # The two equal ones are both in it; 6 at 1.5 ms is beaten by 5 at 1 ms; what is not measured is out, and beats none.
    assert pareto_front(error, cost).tolist() == [True, True, True, False, True, False, False]


def test_frames_of_one_video_widen_the_interval_as_so_many_images_would_not() -> None:
    """Of ten videos with ten equal frames each, the interval is that of ten images."""
    videos = np.random.default_rng(0).normal(0, 1, 10)
    frames, groups = np.repeat(videos, 10)[None], np.repeat(np.arange(10), 10)
    nothing = np.zeros_like(frames)
    whole = statistics.paired_bootstrap(frames, nothing, groups=groups)
    alone = statistics.paired_bootstrap(videos[None], nothing[:, :10])
    assert (whole.low, whole.high) == pytest.approx((alone.low, alone.high))
    assert (
        whole.high - whole.low > 2 * np.diff([(one := statistics.paired_bootstrap(frames, nothing)).low, one.high])[0]
    )
    single = statistics.paired_bootstrap(frames, nothing, groups=np.arange(100))
    assert single == statistics.paired_bootstrap(frames, nothing)
