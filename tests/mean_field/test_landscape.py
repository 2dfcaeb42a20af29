"""Loss, first and second variation against samples, autograd and finite differences; symmetries; homotopy at saddles."""

import math

import pytest
import torch
from torch import Tensor

from icl_lib.mean_field import hessian
from icl_lib.mean_field.hessian import exact_loss, extreme_eigenvalues, hessian_kernel, hessian_product
from icl_lib.mean_field.kernels import Erf, Kernel, ReLU, Sampled, gaussian_inputs, sigmoid, tanh
from icl_lib.mean_field.landscape import covariances, first_variation, loss, loss_at, velocity
from icl_lib.mean_field.measure import (
    InitConfig,
    NonFinite,
    Particles,
    SingularCovariance,
    TeacherConfig,
    initial_particles,
    member,
    teachers,
)
from icl_lib.rng import generator
from icl_lib.validate import ConfigError
from studies.K3 import escape_rotation, homotopy

D, K, SPECTRUM = 6, 3, (2.0, 0.5, 1.0)
KERNELS: dict[str, Kernel] = {
    "erf": Erf(),
    "relu": ReLU(),
    "sigmoid": sigmoid(3),
    "tanh": tanh(3),
    "sampled": Sampled(torch.tanh, gaussian_inputs(300, D, generator(0, "inputs"))),
}
EACH = pytest.mark.parametrize("name", KERNELS)
SMOOTH = pytest.mark.parametrize("name", ["erf", "sigmoid", "sampled"])


def setting(
    kernel: Kernel, k: int = K, n: int = 8, members: int = 2, kind: str = "random"
) -> tuple[Particles, Particles]:
    """Teachers with K outputs, models with k, of unequal masses."""
    teacher = teachers([TeacherConfig(kind, 7, D, K, spectrum=SPECTRUM, seed=s) for s in range(members)], kernel)
    mu = initial_particles([InitConfig(n=n, d=D, k=k, seed=s) for s in range(members)])
    mass = 0.5 + torch.rand(members, n, generator=generator(0, "mass"), dtype=torch.float64)
    return teacher, mu._replace(p=mass / mass.sum(1, keepdim=True))


def saddle(missing: tuple[int, ...], mix: Tensor | None = None) -> tuple[Particles, Particles]:
    """The axes teacher, and a model that has its features except `missing`, where it looks at other axes."""
    teacher = teachers([TeacherConfig("axes", K, D, K, spectrum=SPECTRUM)], Erf())
    w = teacher.w.clone()
    for j in missing:
        w[0, j] = w[0, j].roll(K)
    a = teacher.a if mix is None else teacher.a @ mix.T
    return teacher, Particles(a, w, teacher.p)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_autograd(kernel: Kernel, teacher: Particles, mu: Particles) -> tuple[Tensor, Tensor]:
    a, w = mu.a.clone().requires_grad_(), mu.w.clone().requires_grad_()
    return torch.autograd.grad(exact_loss(kernel, teacher, Particles(a, w, mu.p)).sum(), (a, w))  # type: ignore[return-value]


def test_losses_are_those_of_the_features() -> None:
    """L_TF and L from h(x) and f°(x) written out on the sample that is the law of x."""
    x = gaussian_inputs(300, D, generator(0, "inputs"))
    teacher, mu = setting(KERNELS["sampled"], k=2)
    f, h = (torch.einsum("en,enk,ens->eks", m.p, m.a, (m.w @ x.T).tanh()) for m in (teacher, mu))
    cov, w = covariances(KERNELS["sampled"], teacher, mu), normal(2, 2, 2)
    for matrix, expected in ((w, loss_at(cov, w)), (cov.optimum, loss(cov))):
        error = f - (f @ h.mT / 300) @ matrix @ h
        assert torch.allclose(error.square().sum((1, 2)) / 600, expected, rtol=1e-11)
    best = torch.linalg.lstsq(h.mT, f.mT).solution
    assert torch.allclose((f.mT - h.mT @ best).square().sum((1, 2)) / 600, loss(cov), rtol=1e-11)
    assert torch.allclose(loss(cov), exact_loss(KERNELS["sampled"], teacher, mu), rtol=1e-11)


@EACH
@pytest.mark.parametrize("k", [2, 3, 5])
def test_velocity_against_autograd(name: str, k: int) -> None:
    """-p_i velocity is the gradient of the exact loss in particle i; also with a misspecified k."""
    kernel = KERNELS[name]
    teacher, mu = setting(kernel, k)
    found = velocity(kernel, teacher, mu)
    if name == "relu":  # autograd has no derivative at coinciding points: a large sample of x instead
        kernel = Sampled(torch.relu, gaussian_inputs(20_000, D, generator(1, "inputs")))
    for ours, exact in zip(found[:2], by_autograd(kernel, teacher, mu), strict=True):
        error = (-mu.p[..., None] * ours - exact).norm() / exact.norm()
        assert error < (0.1 if name == "relu" else 1e-10)
    assert torch.allclose(found.loss, exact_loss(kernel, teacher, mu), rtol=0.05 if name == "relu" else 1e-11)


@EACH
def test_velocity_against_finite_differences(name: str) -> None:
    """Five-point differences of L along random directions, 1e-9 relative."""
    kernel = KERNELS[name]
    teacher, mu = setting(kernel)
    found, h = velocity(kernel, teacher, mu), 2e-3 if name != "relu" else 1e-4
    for seed in range(3):
        u_a, u_w = normal(*mu.a.shape, seed=seed), normal(*mu.w.shape, seed=seed + 10)

        def at(s: float, u_a: Tensor = u_a, u_w: Tensor = u_w) -> Tensor:
            return loss(covariances(kernel, teacher, mu._replace(a=mu.a + s * u_a, w=mu.w + s * u_w)))

        numeric = (
            sum(c * (at(j * h) - at(-j * h)) / h for j, c in ((1, 8 / 5), (2, -2 / 5), (3, 8 / 105), (4, -1 / 140))) / 2
        )
        exact = -(mu.p * ((found.a * u_a).sum(-1) + (found.w * u_w).sum(-1))).sum(1)
        scale = (mu.p[..., None] * found.w).norm() * u_w.norm() + (mu.p[..., None] * found.a).norm() * u_a.norm()
        assert ((numeric - exact).abs() < (1e-9 if name != "relu" else 1e-6) * scale).all()


@EACH
def test_first_variation(name: str) -> None:
    """Mean 0 under mu; equal to the derivative of L towards an atom, also at neurons that mu does not have."""
    kernel = KERNELS[name]
    teacher, mu = setting(kernel)
    own = first_variation(kernel, teacher, mu, mu.a, mu.w)
    assert ((own * mu.p).sum(1).abs() < 1e-12 * own.abs().max()).all()
    a, w = normal(2, 1, K), normal(2, 1, D, seed=1)
    value, h = first_variation(kernel, teacher, mu, a, w)[:, 0], 1e-3

    def at(s: float) -> Tensor:
        mass = torch.cat([(1 - s) * mu.p, torch.full((2, 1), s, dtype=torch.float64)], dim=1)
        mixed = Particles(torch.cat([mu.a, a], 1), torch.cat([mu.w, w], 1), mass)
        return loss(covariances(kernel, teacher, mixed))

    numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    assert torch.allclose(numeric, value, rtol=1e-6, atol=1e-8)


@EACH
def test_linear_maps_of_a_change_nothing(name: str) -> None:
    """a -> G a: L stays, the velocity of w stays, that of a turns with G^{-T}."""
    kernel = KERNELS[name]
    teacher, mu = setting(kernel)
    g = normal(2, K, K, seed=5)
    before, after = velocity(kernel, teacher, mu), velocity(kernel, teacher, mu._replace(a=mu.a @ g.mT))
    assert torch.allclose(before.loss, after.loss, rtol=1e-9)
    assert torch.allclose(before.w, after.w, rtol=1e-7, atol=1e-8)
    assert torch.allclose(before.a @ torch.linalg.inv(g), after.a, rtol=1e-7, atol=1e-8)


@EACH
def test_second_moment_of_a_is_kept(name: str) -> None:
    """sum_i p_i (a_i v_i^T + v_i a_i^T) = 0: E[a a^T] is conserved."""
    teacher, mu = setting(KERNELS[name])
    change = (mu.a * mu.p[..., None]).mT @ velocity(KERNELS[name], teacher, mu).a
    assert float((change + change.mT).abs().max()) < 1e-12


def test_members_and_splitting() -> None:
    """A member of an ensemble is a solo run; two halves of a particle move as the whole; a given C is used."""
    teacher, mu = setting(Erf(), members=3)
    together = velocity(Erf(), teacher, mu)
    for e in range(3):
        alone = velocity(Erf(), member(teacher, e), member(mu, e))
        assert all(
            torch.allclose(x[0], y[e], rtol=1e-12, atol=1e-13) for x, y in zip(alone[:2], together[:2], strict=True)
        )
    halves = Particles(torch.cat([mu.a] * 2, 1), torch.cat([mu.w] * 2, 1), torch.cat([mu.p / 2] * 2, 1))
    assert torch.allclose(velocity(Erf(), teacher, halves).w[:, :8], together.w, rtol=1e-9, atol=1e-12)
    again = velocity(Erf(), teacher, mu, covariances(Erf(), teacher, mu).c)
    assert torch.allclose(again.w, together.w, rtol=1e-10, atol=1e-13)


@SMOOTH
def test_hessian_products_against_finite_differences(name: str) -> None:
    """Differences of the closed-form velocity, an independent route, 1e-9 relative."""
    kernel = KERNELS[name]
    teacher, mu = setting(kernel, k=2)
    u, h = normal(2, 8, 2 + D), 2e-3

    def slope(s: float) -> Tensor:
        moved = velocity(kernel, teacher, mu._replace(a=mu.a + s * u[..., :2], w=mu.w + s * u[..., 2:]))
        return -mu.p[..., None] * torch.cat(moved[:2], dim=2)

    steps = ((1, 8 / 5), (2, -2 / 5), (3, 8 / 105), (4, -1 / 140))
    numeric = sum((c * (slope(j * h) - slope(-j * h)) for j, c in steps), torch.zeros(())) / (2 * h)
    exact = hessian_product(kernel, teacher, mu)(u)
    assert (exact - numeric).norm() < 1e-9 * exact.norm()


@SMOOTH
def test_hessian_kernel_is_the_particle_hessian_off_the_diagonal(name: str) -> None:
    """Blocks i != j of d2L are p_i p_j H_mu(theta_i, theta_j); H_mu(theta, theta') = H_mu(theta', theta)^T."""
    kernel = KERNELS[name]
    teacher, mu = setting(kernel, k=2, n=4)
    theta = torch.cat([mu.a, mu.w], dim=2)
    h = hessian_kernel(kernel, teacher, mu, theta, theta[:, :3])
    assert h.shape == (2, 4, 3, 2 + D, 2 + D)
    turned = hessian_kernel(kernel, teacher, mu, theta[:, :3], theta)
    assert torch.allclose(h, turned.permute(0, 2, 1, 4, 3), atol=1e-12)
    product = hessian_product(kernel, teacher, mu)
    for j in range(3):
        for c in range(2 + D):
            u = torch.zeros_like(theta)
            u[:, j, c] = 1
            column = product(u)
            for i in set(range(4)) - {j}:
                expected = mu.p[:, i, None] * mu.p[:, j, None] * h[:, i, j, :, c]
                assert torch.allclose(column[:, i], expected, rtol=1e-9, atol=1e-12)


def test_extreme_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanczos = dense, member by member; a constructed saddle has a negative one, the teacher itself none."""
    teacher, mu = setting(Erf())
    dense = extreme_eigenvalues(Erf(), teacher, mu)
    monkeypatch.setattr(hessian, "DENSE", 0)
    assert torch.allclose(extreme_eigenvalues(Erf(), teacher, mu), dense, rtol=1e-8, atol=1e-10)
    monkeypatch.undo()
    low = {missing: float(extreme_eigenvalues(Erf(), *saddle(missing))[0, 0]) for missing in ((), (1,), (0, 2))}
    assert low[()] > -1e-12 and low[1,] < -1e-3 and low[0, 2] < -1e-3


@pytest.mark.parametrize("missing", [(0,), (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("mixed", [False, True])
def test_constructed_saddles(missing: tuple[int, ...], mixed: bool) -> None:
    """Zero velocity, L = 1/2 sum of what is missing, negative curvature along the homotopy, below the paper's form."""
    teacher, mu = saddle(missing, normal(K, K, seed=3) if mixed else None)
    if mixed:  # turning x as well makes what is 0 a rounding error
        turn = torch.linalg.qr(normal(D, D, seed=4))[0]
        teacher, mu = (nu._replace(w=nu.w @ turn) for nu in (teacher, mu))
    found = velocity(Erf(), teacher, mu)
    assert float(torch.cat(found[:2], 2).abs().max()) < 1e-12
    level = sum(SPECTRUM[j] for j in missing) / 2
    assert float(found.loss) == pytest.approx(level, abs=1e-11)
    cov = found.covariances
    first, second = homotopy(cov, escape_rotation(cov))
    assert abs(float(first)) < 1e-12 and float(second) < 0
    bound = -4 * level**2 / (K * float(torch.linalg.matrix_norm(cov.b, 2)))
    assert float(second) <= bound * (1 - 1e-9)
    closed = -((cov.residual @ escape_rotation(cov).mT) @ cov.optimum @ escape_rotation(cov) @ cov.residual)
    assert float(second) == pytest.approx(float(closed[0].trace()), rel=1e-9)
    values, vectors = torch.linalg.eigh(cov.residual[0])
    for seed in range(20):  # no other R into ker M does better
        turn = torch.linalg.qr(normal(len(missing), len(missing), seed=seed))[0]
        inside = torch.linalg.svd(cov.m[0])[2][K - len(missing) :].T
        other = inside @ turn @ vectors[:, values > 1e-6].T
        assert float(homotopy(cov, other[None])[1]) >= float(second) - 1e-9


def test_homotopy_against_finite_differences() -> None:
    """L of the mixture of measures itself, at points that are not critical; and no orthogonal R is steeper."""
    teacher, mu = setting(Erf(), k=3)
    cov, h = covariances(Erf(), teacher, mu), 1e-3
    r = torch.linalg.qr(normal(2, 3, K))[0]

    def at(s: float) -> Tensor:
        mixed = Particles(
            torch.cat([mu.a, teacher.a @ r.mT], 1),
            torch.cat([mu.w, teacher.w], 1),
            torch.cat([(1 - s) * mu.p, s * teacher.p], 1),
        )
        return loss(covariances(Erf(), teacher, mixed))

    first, second = homotopy(cov, r)
    one, two, zero = at(h) - at(-h), at(2 * h) - at(-2 * h), at(0)
    assert torch.allclose((8 * one - two) / (12 * h), first, rtol=1e-6, atol=1e-8)
    near, far = at(h) + at(-h) - 2 * zero, at(2 * h) + at(-2 * h) - 2 * zero
    assert torch.allclose((16 * near - far) / (12 * h * h), second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [2, K, 5])
def test_least_slope_over_rotations_is_a_nuclear_norm(k: int) -> None:
    teacher, mu = setting(Erf(), k=k)
    cov = covariances(Erf(), teacher, mu)
    u, _, vt = torch.linalg.svd(cov.residual @ cov.m, full_matrices=False)
    least = homotopy(cov, (u @ vt).mT)[0]
    assert torch.allclose(least, -torch.linalg.matrix_norm(cov.residual @ cov.m, "nuc"), rtol=1e-9)
    for seed in range(20 if k == K else 0):
        assert (homotopy(cov, torch.linalg.qr(normal(2, 3, K, seed=seed))[0])[0] >= least - 1e-12).all()


def test_refusals() -> None:
    teacher, mu = setting(Erf())
    same = mu._replace(a=mu.a[..., :1].expand(-1, -1, K).contiguous())
    for call in (velocity, hessian_product, lambda *args: loss(covariances(*args))):
        with pytest.raises(SingularCovariance, match="Sigma_mumu of member 0 is singular"):
            call(Erf(), teacher, same)
    with pytest.raises(SingularCovariance, match="Sigma_mumu of member 0 is not finite"):
        velocity(Erf(), teacher, mu._replace(w=mu.w * math.nan))
    with pytest.raises(NonFinite, match="Sigma_mu°mu of member 1 is NaN"):
        velocity(Erf(), teacher._replace(a=teacher.a * torch.tensor([1, math.nan]).double()[:, None, None]), mu)
    for call in (hessian_product, extreme_eigenvalues):
        with pytest.raises(ConfigError, match="kernel='ReLU': must be twice differentiable"):
            call(ReLU(), teacher, mu)
    cov = covariances(Erf(), teacher, mu)
    with pytest.raises(ValueError, match="member 0: Sigma_zeta has rank 3 and ker M dimension 0"):
        escape_rotation(cov)
    with pytest.raises(ValueError, match="rank 0"):
        escape_rotation(covariances(Erf(), *saddle(())))
