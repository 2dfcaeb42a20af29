"""Finite width: cutting and repeating particles, what cancels, exponents of known laws, and the jackknife."""

import numpy as np
import pytest
import torch

from icl_lib.mean_field.coupling import distances, parts, trajectories
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, velocity
from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, stack, teachers
from icl_lib.stats import mean_interval
from icl_lib.validate import ConfigError
from studies.K8 import (
    Paths,
    bias,
    exponents,
    extrapolated,
    farthest,
    jackknife,
    measured,
    paths,
    repeated,
    repeated_paths,
    spread,
)

KERNEL, D, K = Erf(), 5, 2
TEACHER = teachers([TeacherConfig("axes", K, D, K, 2.0, (1.0, 0.5))], KERNEL)
POOLS = initial_particles([InitConfig("aligned", 48, D, K, 2.0, seed) for seed in range(3)])
CONFIG = FlowConfig("rk4", 0.1, 0.4, every=0.2)


def test_parts_are_the_pool_cut_up() -> None:
    cut = parts(POOLS, 12)
    assert cut.a.shape == (12, 12, K) and torch.equal(cut.w[5], POOLS.w[1, 12:24])
    covs = [covariances(KERNEL, stack([TEACHER] * len(mu.p)), mu) for mu in (POOLS, cut)]
    mean = covs[1].a.reshape(3, 4, K, K).mean(1)
    torch.testing.assert_close(mean, covs[0].a, msg="A is linear in mu, so the mean over parts is the pool's")
    assert (covs[1].b.reshape(3, 4, K, K).mean(1) - covs[0].b).abs().max() > 1e-3, "B is quadratic"


def test_repeated_particles_have_the_same_flow() -> None:
    mu = parts(POOLS, 12)
    of = repeated_paths(KERNEL, TEACHER, mu, [12, 24, 48], CONFIG)
    for width in (24, 48):
        np.testing.assert_allclose(of.losses[width], of.losses[12], rtol=1e-10)
    twice = repeated(mu, 24)
    assert torch.equal(twice.w[:, 1], mu.w[:, 0]) and twice.p.sum(1) == pytest.approx(1)
    flat = exponents(of, np.zeros((12, 3)), spread, [12, 24, 48])
    assert all(abs(x) < 1e-9 for interval in flat for x in interval[:3])


def test_paths_of_all_widths_in_order_of_the_pools() -> None:
    of = paths(KERNEL, TEACHER, POOLS, [12, 24], CONFIG)
    assert of.times == pytest.approx([0, 0.2, 0.4])
    assert {n: x.shape for n, x in of.losses.items()} == {12: (3, 4, 3), 24: (3, 2, 3), 48: (3, 1, 3)}
    alone = paths(KERNEL, TEACHER, parts(POOLS, 24), [], CONFIG)
    np.testing.assert_allclose(of.losses[24].reshape(6, 3), alone.losses[24][:, 0], rtol=1e-12)


def test_particles_are_compared_with_themselves() -> None:
    """By hand: two pools of four, moved by 1, 1, 3, 3 in the first of two coordinates."""
    pools = torch.arange(16, dtype=torch.float64).view(2, 1, 4, 2)
    moved = torch.zeros(2, 1, 4, 2)
    moved[..., 0] = torch.tensor([1.0, 1.0, 3.0, 3.0])
    found = distances((pools + moved).transpose(1, 2).reshape(4, 2, 1, 2).transpose(1, 2), pools)
    np.testing.assert_allclose(found, np.full((2, 1), 5**0.5))
    next_part = distances(pools.transpose(1, 2).reshape(4, 2, 1, 2).transpose(1, 2), pools, 2)
    np.testing.assert_allclose(next_part, np.full((2, 1), 32**0.5))


def test_coupled_distances_are_of_two_flows_from_one_place() -> None:
    of = paths(KERNEL, TEACHER, POOLS, [12, 24, 48], CONFIG)
    assert (of.distances[12][:, 0] == 0).all() and (of.distances[12][:, 1:] > 0).all()
    assert np.abs(of.distances[48]).max() < 1e-12, "a part that is the whole pool"
    assert (of.uncoupled[24] > 1).all(), "independent particles are apart from the start"
    times, _, places = trajectories(KERNEL, TEACHER, POOLS, CONFIG)
    last, _ = flow(KERNEL, stack([TEACHER] * 3), start(POOLS), CONFIG)
    assert places.shape == (3, len(times), 48, K + D) and torch.equal(places[:, -1], last.mu.theta)
    uneven = FlowConfig("euler", 0.15, 0.4, every=0.3)
    times, _, places = trajectories(KERNEL, TEACHER, POOLS, uneven)
    assert places.shape[1] == len(times) == 3


def test_distances_of_early_times_are_the_fluctuation_of_the_velocity() -> None:
    """r_t / t tends to |v_N - v|: the law N^{-1/2} is that of the velocity's sample mean (derived by us)."""
    config = FlowConfig("rk4", 1e-4, 1e-4, every=1e-4)
    of = paths(KERNEL, TEACHER, POOLS, [12], config)
    cut = parts(POOLS, 12)
    narrow, wide = (velocity(KERNEL, stack([TEACHER] * len(mu.p)), mu) for mu in (cut, POOLS))
    apart = [(x.reshape(y.shape) - y).square().sum(-1) for x, y in zip(narrow[:2], wide[:2], strict=True)]
    np.testing.assert_allclose(of.distances[12][:, -1] / 1e-4, sum(apart).mean(-1).sqrt(), rtol=1e-2)  # type: ignore[union-attr]


def known(rng: np.random.Generator) -> Paths:
    """Losses 1 + N^{-1/2} u + 2 / N in pools of 64, u linear in the particles."""
    draws = rng.standard_normal((40, 64))
    found = {n: 1 + 0.1 * draws.reshape(40, -1, n).mean(-1)[..., None] + 2 / n for n in (4, 8, 16, 64)}
    return Paths(np.zeros(1), found, {}, {})


def test_exponents_of_a_known_law() -> None:
    of = known(np.random.default_rng(0))
    reference = of.losses[64][:, 0]
    (s,) = exponents(of, reference, spread, [4, 8, 16])
    assert s.low < -0.5 < s.high and s.high - s.low < 0.2
    (exact,) = exponents(of, extrapolated(of, 16, 64), bias, [4, 8, 16])
    assert exact[:3] == pytest.approx((-1, -1, -1)), "linear terms cancel without noise, and 1/N is removed exactly"
    (raw,) = exponents(of, reference, bias, [4, 8, 16])
    assert raw.estimate < -1.05, "a reference with a bias of its own makes the slope steeper"
    (b,) = measured(of, reference, bias, 4)
    assert b[:3] == pytest.approx((2 / 4 - 2 / 64,) * 3)
    assert farthest(of.losses[4], reference).shape == (1,) and farthest(of.losses[4], reference)[0] > 0.4


def test_spread_is_that_of_a_sample() -> None:
    """Of two pools of two parts, by hand: squares of -3, -1, 1, 3 over n - 1 = 3."""
    values = np.array([[[2.0], [4.0]], [[6.0], [8.0]]])
    assert spread(values, np.zeros((2, 1))) == pytest.approx([(20 / 3) ** 0.5])


def test_jackknife_of_a_mean_is_the_t_interval() -> None:
    values = np.random.default_rng(1).standard_normal(12)
    (found,) = jackknife(lambda i: values[i].mean()[None], 12)
    assert found == pytest.approx(mean_interval(values))


def test_bad_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="width=7"):
        parts(POOLS, 7)
    with pytest.raises(ConfigError, match="width=1"):
        parts(POOLS, 1)
    with pytest.raises(ConfigError, match="width=50"):
        repeated(POOLS, 50)
    with pytest.raises(ConfigError, match="p='masses that differ'"):
        parts(POOLS._replace(p=POOLS.p * torch.rand_like(POOLS.p)), 12)
    with pytest.raises(ConfigError, match="teacher=2"):
        paths(KERNEL, stack([TEACHER] * 2), POOLS, [12], CONFIG)
    with pytest.raises(ConfigError, match="widths"):
        exponents(known(np.random.default_rng(0)), np.ones((40, 1)), spread, [4])
    with pytest.raises(ConfigError, match="n=1"):
        jackknife(lambda i: i[:1], 1)
