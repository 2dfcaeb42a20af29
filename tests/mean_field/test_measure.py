"""Teachers have the stated covariance, starts are by seed, bad values are refused by name."""

import math

import pytest
import torch

from icl_lib.mean_field.kernels import Erf, Kernel, ReLU, Sampled, gaussian_inputs, sigmoid, tanh
from icl_lib.mean_field.measure import (
    InitConfig,
    Particles,
    SingularCovariance,
    TeacherConfig,
    check_particles,
    covariance,
    initial_particles,
    inverse_root,
    stack,
    teachers,
    uniform,
)  # fmt: skip
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

KERNELS: list[Kernel] = [Erf(), ReLU(), sigmoid(), tanh()]
SPECTRUM = (2.0, 0.5, 1.0)


@pytest.mark.parametrize("kernel", KERNELS, ids=["erf", "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize(("kind", "n"), [("axes", 3), ("random", 9), ("nonlinear", 12)])
def test_whitened_teachers_have_the_stated_covariance(kind: str, n: int, kernel: Kernel) -> None:
    mu = teachers([TeacherConfig(kind, n, 6, 3, spectrum=SPECTRUM, seed=s) for s in range(2)], kernel)
    check_particles(mu)
    expected = torch.diag(torch.tensor(SPECTRUM, dtype=torch.float64))
    assert torch.allclose(covariance(kernel, mu, mu), expected, atol=1e-11)


def test_the_axes_teacher_is_erf_of_single_inputs() -> None:
    """Odd activation: the outputs are sqrt(lambda_j / K) erf(size x_j), nothing is mixed."""
    mu = teachers([TeacherConfig("axes", 3, 6, 3, 1.5, SPECTRUM)], Erf())
    assert torch.equal(mu.w[0], 1.5 * torch.eye(3, 6, dtype=torch.float64))
    own = float(Erf().gram(mu.w[:, :1], mu.w[:, :1]))
    outputs = [(value / own) ** 0.5 for value in SPECTRUM]
    assert torch.allclose((mu.p[..., None] * mu.a)[0], torch.tensor(outputs, dtype=torch.float64).diag(), atol=1e-12)


def test_covariance_is_that_of_the_features() -> None:
    """Against h(x) written out on a sample, masses included."""
    x = gaussian_inputs(100, 4, generator(0, "inputs"))
    mu = initial_particles([InitConfig(n=7, d=4, k=2, seed=s) for s in (0, 1)])
    mass = torch.rand(2, 7, generator=generator(0, "mass"), dtype=torch.float64)
    mu = mu._replace(p=mass / mass.sum(1, keepdim=True))
    nu = initial_particles([InitConfig(n=5, d=4, k=3, seed=s) for s in (2, 3)])
    h, g = (torch.einsum("en,enk,ens->eks", m.p, m.a, (m.w @ x.T).tanh()) for m in (mu, nu))
    assert torch.allclose(covariance(Sampled(torch.tanh, x), mu, nu), h @ g.mT / 100, atol=1e-13)


@pytest.mark.parametrize("kernel", KERNELS, ids=["erf", "relu", "sigmoid", "tanh"])
def test_nonlinear_teachers_have_no_affine_part(kernel: Kernel) -> None:
    """Nothing in E[f° x], where x_j is the difference of two very short neurons; a random teacher has that part."""
    short = 1e-4 * torch.eye(6, dtype=torch.float64)[None]

    def linear_part(kind: str) -> float:
        mu = teachers([TeacherConfig(kind, 20, 6, 3, spectrum=SPECTRUM)], kernel)
        weighted = mu.a * mu.p[..., None]
        constant = torch.zeros(1, 1, 6, dtype=torch.float64) + 1e-9
        if kind == "nonlinear" and not isinstance(kernel, ReLU):  # E[f°] = 0: a neuron at 0 is a constant
            assert float(kernel.products(constant, mu.w, weighted).abs().max()) < 1e-9
        odd = kernel.products(short, mu.w, weighted) - kernel.products(-short, mu.w, weighted)
        own = kernel.gram(short, short) - 2 * kernel.gram(short, -short) + kernel.gram(-short, -short)
        return float((odd / own.diagonal(dim1=1, dim2=2).sqrt()[..., None]).abs().max())

    assert linear_part("nonlinear") < 1e-6 and linear_part("random") > 0.1


def test_members_are_by_seed() -> None:
    together = initial_particles([InitConfig(n=30, seed=s) for s in (3, 4)])
    alone = initial_particles([InitConfig(n=30, seed=4)])
    assert all(torch.equal(x[1:], y) for x, y in zip(together, alone, strict=True))
    assert not torch.equal(together.w[0], together.w[1])
    teacher = [TeacherConfig("random", 30, spectrum=(1.0,) * 5, seed=s) for s in (3, 4)]
    both, one = teachers(teacher, Erf()), teachers(teacher[1:], Erf())
    assert all(torch.allclose(x[1:], y, atol=1e-13) for x, y in zip(both, one, strict=True))
    pieces = stack([one, one])
    assert pieces.w.shape == (2, 30, 20)


def test_starts() -> None:
    """Sizes as stated; "aligned" differs from "independent" by tanh(w_1..k)."""
    aligned, independent = (
        initial_particles([InitConfig(kind, 4000, size=3.0)]) for kind in ("aligned", "independent")
    )
    assert float(aligned.w.square().sum(-1).mean()) ** 0.5 == pytest.approx(3, rel=0.02)
    assert torch.equal(aligned.w, independent.w)
    assert torch.allclose(aligned.a - independent.a, aligned.w[..., :5].tanh(), atol=1e-12)
    assert torch.allclose(aligned.p.sum(1), torch.ones(1, dtype=torch.float64))


def test_a_start_on_some_axes() -> None:
    """Zero elsewhere, of the same size, the same draws; all axes is the isotropic start."""
    flat, whole, every = (
        initial_particles([InitConfig("aligned", 3000, 5, 2, 2.0, 1, axes)]) for axes in ((0, 3), None, tuple(range(5)))
    )
    assert flat.w[..., [1, 2, 4]].abs().max() == 0
    assert flat.w.square().sum(-1).mean().item() == pytest.approx(4.0, rel=0.05)
    assert torch.allclose(every.w, whole.w) and torch.allclose(every.a, whole.a)


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        (InitConfig, {"k": 7, "n": 6}, "k=7: must be at most n = 6"),
        (InitConfig, {"k": 21}, "d=20: must be at least k = 21"),
        (InitConfig, {"kind": "zero"}, "kind='zero': must be one of 'aligned', 'independent'"),
        (InitConfig, {"size": 0.0}, "size=0.0: must be a finite number above 0"),
        (InitConfig, {"size": math.nan}, "size=nan: must be"),
        (InitConfig, {"n": 2.0}, "n=2.0: must be an integer"),
        (InitConfig, {"axes": (0, 20)}, r"axes=\(0, 20\): must be None, or a tuple of different input numbers below d"),
        (InitConfig, {"axes": ()}, r"axes=\(\): must be None"),
        (InitConfig, {"axes": (1, 1)}, r"axes=\(1, 1\): must be None"),
        (InitConfig, {"seed": -1}, "seed=-1: must be an integer >= 0"),
        (TeacherConfig, {"k": 6}, "k=6: must be at most n = 5"),
        (TeacherConfig, {"d": 4}, "d=4: must be at least k = 5"),
        (TeacherConfig, {"n": 9}, "n=9: must be k = 5"),
        (TeacherConfig, {"kind": "nonlinear", "n": 25}, "n=25: must be at least d \\+ 1 \\+ k = 26"),
        (TeacherConfig, {"spectrum": (1.0, 1.0)}, "spectrum=.*must be 5 numbers"),
        (TeacherConfig, {"spectrum": (1.0, 1.0, 1.0, 1.0, 0.0)}, "spectrum=0.0: must be positive"),
        (TeacherConfig, {"spectrum": (1.0, 1.0, 1.0, 1.0, -2.0)}, "spectrum=-2.0: must be positive"),
        (TeacherConfig, {"spectrum": (1.0, 1.0, 1.0, 1.0, math.nan)}, "spectrum=nan: must be positive"),
        (TeacherConfig, {"spectrum": [1.0] * 5}, "spectrum=.*must be a tuple"),
        (TeacherConfig, {"kind": "whitened"}, "kind='whitened': must be one of"),
    ],
)
def test_refuses(kind: type, bad: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**bad)


def test_refuses_bad_particles() -> None:
    good = initial_particles([InitConfig(n=6, d=5, k=2)])
    check_particles(good)
    bad = [
        (good._replace(a=good.a * math.nan), "a: must be finite; 12 of 12"),
        (good._replace(w=good.w / 0), "w: must be finite"),
        (good._replace(p=2 * good.p), "p=.*: must be masses that sum to 1"),
        (good._replace(p=torch.tensor([[1.5, -0.5, 0, 0, 0, 0]], dtype=torch.float64)), "p=-0.5: must be positive"),
        (good._replace(w=good.w[:, :4]), "particles=.*must be of shapes"),
        (good._replace(w=good.w[0]), "particles=.*must be of shapes"),
        (Particles(good.a[:, :1], good.w[:, :1], uniform(1)), "k=2: must be at most N = 1"),
    ]
    for mu, message in bad:
        with pytest.raises(ConfigError, match=message):
            check_particles(mu)


def test_singular_covariances_raise() -> None:
    with pytest.raises(SingularCovariance, match="B of member 1 is singular: eigenvalues from 0 to 1"):
        inverse_root(torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, 0.0]))]).double(), "B")
    with pytest.raises(SingularCovariance, match="B of member 0 is singular: eigenvalues from 1e-16 to 1"):
        inverse_root(torch.diag(torch.tensor([1.0, 1e-16]).double())[None], "B")  # positive, but only by rounding
    with pytest.raises(SingularCovariance, match="B of member 0 is not finite"):
        inverse_root(torch.full((1, 2, 2), math.nan).double(), "B")
    sigma = covariance(Erf(), *[initial_particles([InitConfig(n=6, d=5, k=2)])] * 2)
    root = inverse_root(sigma, "B")
    assert torch.allclose(root @ sigma @ root, torch.eye(2, dtype=torch.float64), atol=1e-12)
