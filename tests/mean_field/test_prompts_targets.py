"""Targets of a stated linear share: covariance, share against regression on samples, the two ends."""

from dataclasses import replace

import pytest
import torch

from icl_lib.mean_field.kernels import activation, gaussian_inputs, network
from icl_lib.mean_field.measure import TeacherConfig, covariance, teachers
from icl_lib.mean_field.moments import mean_feature
from icl_lib.mean_field.prompts import MixConfig, mixed_teachers
from icl_lib.rng import generator
from icl_lib.validate import ConfigError
from studies.K1 import linear_map, linear_share

D, K, N, SEEDS = 4, 2, 8, (1000, 1001)
G = TeacherConfig("nonlinear", N, D, K, 3.0, (1.0,) * K)
X = gaussian_inputs(100_000, D, generator(0, "inputs"))
NAMES = ["sigmoid", "tanh", "erf", "relu"]


def mixed(name: str, share: float):
    return mixed_teachers([MixConfig(share, replace(G, seed=s)) for s in SEEDS], activation(name).kernel())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_covariance_mean_and_share(name: str, share: float) -> None:
    """C = 1, E f° = 0 and the share is near the one asked for; the share is that of a regression on 100 000 inputs."""
    act, f = activation(name), mixed(name, share)
    eye = torch.eye(K, dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(covariance(act.kernel(), f, f), eye, atol=1e-9, rtol=0)
    assert mean_feature(act, f).abs().max() < 1e-9
    found = linear_share(act, f)
    assert (found - share).abs().max() < 0.02
    for e in range(2):
        y = network(act, (f.a * f.p[..., None])[e], f.w[e], X)
        slope = torch.linalg.lstsq(X, y).solution
        explained = (X @ slope).square().sum() / (y - y.mean(0)).square().sum()
        assert abs(float(explained - found[e])) < 0.01
        assert (slope.mT - linear_map(act, f)[e]).abs().max() < 0.05


def test_share_of_a_teacher_with_a_mean() -> None:
    """Of its variance, not of its second moment: a regression with an intercept on 100 000 inputs."""
    act = activation("relu")
    f = teachers([TeacherConfig("random", N, D, K, 2.0, seed=s) for s in SEEDS], act.kernel())
    found = linear_share(act, f)
    for e in range(2):
        y = network(act, (f.a * f.p[..., None])[e], f.w[e], X)
        centred = y - y.mean(0)
        assert y.mean(0).square().sum() > 0.1 * centred.square().mean(0).sum(), "a mean that matters"
        slope = torch.linalg.lstsq(X, centred).solution
        explained = (X @ slope).square().sum() / centred.square().sum()
        assert abs(float(explained - found[e])) < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_ends(name: str) -> None:
    """s = 0 is the nonlinear teacher of the same seed; s = 1 is linear, exactly so for ReLU, less so for longer weights."""
    act, f = activation(name), mixed(name, 0.0)
    g = teachers([replace(G, seed=s) for s in SEEDS], act.kernel())
    torch.testing.assert_close(
        *(network(act, (m.a * m.p[..., None])[1], m.w[1], X[:50]) for m in (f, g)), atol=1e-6, rtol=0
    )
    assert linear_share(act, f).max() < 1e-9
    rest = 1 - linear_share(act, mixed(name, 1.0))
    assert rest.max() < (1e-9 if name == "relu" else 0.005 if name != "sigmoid" else 1 / 5000)
    if name != "relu":
        longer = MixConfig(1.0, replace(G, seed=1000), short=2.0)
        assert 1 - linear_share(act, mixed_teachers([longer], act.kernel()))[0] > 10 * rest[0]


def test_a_random_teacher_is_mostly_linear() -> None:
    """The control: without the projection the share is large."""
    drawn = teachers([TeacherConfig("random", N, D, K, 2.0, (1.0,) * K, s) for s in SEEDS], activation("tanh").kernel())
    assert linear_share(activation("tanh"), drawn).min() > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear": 1.5}, r"linear=1\.5"),
        ({"short": 0.0}, r"short=0\.0"),
        ({"nonlinear": TeacherConfig("random", N, D, K, 3.0, (1.0,) * K)}, r"nonlinear\.kind='random'"),
        ({"nonlinear": replace(G, spectrum=(1.0, 0.5))}, r"nonlinear\.spectrum=\(1\.0, 0\.5\)"),
        ({"nonlinear": TeacherConfig("nonlinear", 9, 2, 3, 3.0, (1.0,) * 3)}, r"nonlinear\.k=3"),
    ],
)
def test_refuses(change, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixConfig(**{"linear": 0.5, "nonlinear": G} | change)
