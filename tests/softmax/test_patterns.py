"""Patterns: orthogonal, of the stated norm, uniformly random; out of domain with the stated coefficient sums."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.patterns import (
    PatternConfig,
    Patterns,
    build_patterns,
    draw_patterns,
    ood_mixing,
    orthonormal,
    out_of_domain,
    stack_patterns,
)
from icl_lib.validate import ConfigError


def close(a: Tensor, b: Tensor | float, atol: float = 2e-6) -> bool:
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), atol=atol, rtol=0)


@given(
    st.integers(3, 6), st.integers(1, 6), st.floats(0.1, 5), st.integers(0, 5), st.integers(1, 4), st.integers(0, 99)
)
@settings(max_examples=40)
def test_gram_matrix(n_idr: int, n_idi: int, beta: float, spare: int, d_y: int, seed: int) -> None:
    """All patterns are orthogonal to each other and of norm beta; q has norm 1 and its own coordinates."""
    config = PatternConfig(n_idr, n_idi, beta, n_idr + n_idi + spare, d_y)
    patterns = draw_patterns(config, seed)
    n, d = n_idr + n_idi + 1, config.d_x + d_y
    assert patterns.basis.shape == (n, d) and patterns.counts == (n_idr, n_idi)
    expected = torch.eye(n) * beta**2
    expected[-1, -1] = 1
    assert close(patterns.basis @ patterns.basis.T, expected, 1e-5 * max(1, beta**2))
    assert not patterns.basis[:-1, config.d_x :].any() and not patterns.basis[-1, : config.d_x].any()


def test_blocks() -> None:
    relevant, irrelevant, label = torch.randn(3, 7), torch.randn(4, 7), torch.randn(2)
    patterns = build_patterns(relevant, irrelevant, label)
    assert torch.equal(patterns.relevant, relevant)
    assert torch.equal(patterns.irrelevant, irrelevant)
    assert torch.equal(patterns.label, label)
    both = stack_patterns([patterns, build_patterns(2 * relevant, irrelevant, label)])
    assert both.basis.shape == (2, 8, 9) and both.counts == (3, 4)
    assert torch.equal(both.relevant[1], 2 * relevant) and torch.equal(both.label[1], label)


def test_a_frame_per_seed() -> None:
    config = PatternConfig()
    frames = torch.stack([draw_patterns(config, seed).basis for seed in range(12)])
    overlap = torch.einsum("aid,bid->abi", frames[:, :-1], frames[:, :-1]) / config.beta**2
    off = overlap[~torch.eye(12, dtype=torch.bool)]
    assert off.abs().max() < 0.8  # no pattern of one seed is that of another
    assert torch.equal(draw_patterns(config, 3).basis, frames[3])
    labels = frames[:, -1, config.d_x :]
    assert ((labels @ labels.T).fill_diagonal_(0).abs() < 0.8).all()


def test_frames_are_uniform() -> None:
    """Under Haar measure entries of an orthonormal frame have mean 0, variance 1/d, fourth moment 3/(d(d+2))."""
    d, n = 5, 4000
    frames = torch.stack([orthonormal(3, d, generator(seed, "x"), torch.float64) for seed in range(n)])
    assert close(frames @ frames.mT, torch.eye(3).expand(n, 3, 3), 1e-12)
    variance = 1 / d
    square = math.sqrt(3 / (d * (d + 2)) - variance**2)
    assert (frames.mean(0).abs() < 4.5 * math.sqrt(variance / n)).all()
    assert ((frames**2).mean(0) - variance).abs().max() < 4.5 * square / math.sqrt(n)
    # the law does not change under a fixed rotation: the same moments after one
    turned = frames @ orthonormal(d, d, generator(1, "turn"), torch.float64)
    assert (turned.mean(0).abs() < 4.5 * math.sqrt(variance / n)).all()
    assert ((turned**2).mean(0) - variance).abs().max() < 4.5 * square / math.sqrt(n)
    # E[f_1i f_2j] = 0 and E[f_1i^2 f_2j^2] = 1/(d(d+2)) for i = j
    pair = frames[:, 0] ** 2 * frames[:, 1] ** 2
    assert (pair.mean(0) - 1 / (d * (d + 2))).abs().max() < 4.5 * float(pair.std(0).max()) / math.sqrt(n)


def test_square_frame_has_both_orientations() -> None:
    signs = [float(torch.linalg.det(orthonormal(3, 3, generator(s, "x"), torch.float64))) for s in range(400)]
    assert abs(sum(sign > 0 for sign in signs) - 200) < 4.5 * 10


@given(st.integers(3, 12), st.floats(-1, 1), st.integers(0, 99), st.data())
@settings(deadline=None)
def test_ood_rows(n_idr: int, share: float, seed: int, data: st.DataObject) -> None:
    """Orthonormal rows that sum to S1, over the whole feasible range."""
    n_odr = data.draw(st.integers(1, n_idr - 1))
    s1 = share * math.sqrt(n_idr / n_odr)
    mixing = ood_mixing(n_odr, n_idr, s1, seed)
    assert mixing.shape == (n_odr, n_idr)
    assert close(mixing @ mixing.T, torch.eye(n_odr))
    assert close(mixing.sum(1), s1, 5e-6)
    scaled = ood_mixing(n_odr, n_idr, s1, seed, "scaled")
    assert close(scaled.sum(1), s1, 5e-6)
    assert close(scaled @ scaled.T, s1**2 * torch.eye(n_odr), 1e-5)


@pytest.mark.parametrize(("n_odr", "n_idr"), [(3, 6), (1, 4), (5, 6), (2, 8)])
def test_ood_bound(n_odr: int, n_idr: int) -> None:
    """At sqrt(M1/M1') the rows exist and span the mean pattern; above, none do (Cauchy-Schwarz on their sum)."""
    bound = math.sqrt(n_idr / n_odr)
    for s1 in (bound, -bound):
        mixing = ood_mixing(n_odr, n_idr, s1, 0)
        assert close(mixing @ mixing.T, torch.eye(n_odr), 1e-5)
        assert close(mixing.sum(1), s1, 1e-5)
        assert close(mixing.sum(0) * s1, torch.ones(n_idr), 1e-5)  # sum_j S1 c_j = 1, the only solution
    for s1 in (bound + 1e-6, -1.01 * bound, 10.0):
        with pytest.raises(ConfigError, match=rf"s1={s1}: must be at most .* = {bound:.4g} in size"):
            ood_mixing(n_odr, n_idr, s1, 0)
    assert close(ood_mixing(n_odr, n_idr, 2 * bound, 0, "scaled").sum(1), 2 * bound, 1e-5)  # any size, longer patterns


@pytest.mark.parametrize("norm", ["kept", "scaled"])
@pytest.mark.parametrize("s1", [0.0, 0.7, 1.0, 1.4])
def test_out_of_domain(s1: float, norm: str) -> None:
    config = PatternConfig(n_idr=6, n_idi=8, d_x=20, d_y=5, beta=3.0)
    patterns = draw_patterns(config, 1)
    ood = out_of_domain(patterns, 3, 5, s1, 1, norm)
    assert ood.counts == (3, 5) and torch.equal(ood.label, patterns.label)
    coefficients = ood.relevant @ patterns.relevant.T / 9
    assert close(coefficients @ patterns.relevant, ood.relevant, 1e-5)  # mu' in span(mu)
    assert close(coefficients.sum(1), s1, 1e-5)
    length = 9 * (1 if norm == "kept" else s1**2)
    assert close(ood.relevant @ ood.relevant.T, length * torch.eye(3), 5e-5)
    on_nu = ood.irrelevant @ patterns.irrelevant.T / 9
    assert close(on_nu @ patterns.irrelevant, ood.irrelevant, 1e-5)  # nu' in span(nu), and not the nu themselves
    assert close(ood.irrelevant @ ood.irrelevant.T, 9 * torch.eye(5), 5e-5)
    assert close(ood.relevant @ ood.irrelevant.T, 0.0, 5e-5)
    assert on_nu.abs().max() < 0.999


def test_out_of_domain_by_seed() -> None:
    patterns = draw_patterns(PatternConfig(), 0)
    one, two = (out_of_domain(patterns, 3, 24, 1.0, seed).basis for seed in (0, 1))
    assert not close(one, two, 0.1)
    assert torch.equal(one, out_of_domain(patterns, 3, 24, 1.0, 0).basis)


@given(st.integers(-3, 2))
def test_too_few_patterns(n_idr: int) -> None:
    with pytest.raises(ConfigError, match=rf"n_idr={n_idr}: must be an integer >= 3 \(.*no third pattern.*training"):
        PatternConfig(n_idr=n_idr)


@given(st.floats(max_value=0) | st.just(math.nan) | st.just(math.inf))
def test_norm_above_zero(beta: float) -> None:
    with pytest.raises(ConfigError, match=r"beta=.*: must be a finite number above 0"):
        PatternConfig(beta=beta)


@given(st.integers(3, 9), st.integers(1, 9), st.integers(1, 9))
def test_dimensions_too_small(n_idr: int, n_idi: int, missing: int) -> None:
    need = n_idr + n_idi
    with pytest.raises(ConfigError, match=rf"d_x={need - missing}: must be an integer >= n_idr \+ n_idi = {need}"):
        PatternConfig(n_idr=n_idr, n_idi=n_idi, d_x=need - missing)
    PatternConfig(n_idr=n_idr, n_idi=n_idi, d_x=need, d_y=1)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_idr": 6.0},
        {"n_idr": "6"},
        {"n_idi": 0},
        {"n_idi": None},
        {"d_y": 0},
        {"d_x": 30.5},
        {"beta": "2"},
        {"beta": True},
    ],
)
def test_refuses(bad: dict) -> None:
    ((field, value),) = bad.items()
    with pytest.raises(ConfigError, match=f"^{field}={value!r}: must be "):
        PatternConfig(**bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ((0, 6, 1.0, 0), "n_odr=0: must be an integer between 1 and n_idr - 1 = 5"),
        ((6, 6, 1.0, 0), "n_odr=6: must be"),
        ((1.5, 6, 1.0, 0), "n_odr=1.5: must be an integer"),
        ((3, 6, math.nan, 0), "s1=nan: must be a finite number"),
        ((3, 6, math.inf, 0, "scaled"), "s1=inf: must be a finite number"),
        ((3, 6, 1.0, 0, "long"), "norm='long': must be one of 'kept', 'scaled'"),
    ],
)
def test_mixing_refuses(call: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ood_mixing(*call)


def test_out_of_domain_refuses() -> None:
    patterns: Patterns = draw_patterns(PatternConfig(n_idi=4, d_x=10), 0)
    for n_odi in (0, 5, 2.0):
        with pytest.raises(ConfigError, match=f"n_odi={n_odi}: must be an integer between 1 and .* 4"):
            out_of_domain(patterns, 3, n_odi, 1.0, 0)  # type: ignore[arg-type]
