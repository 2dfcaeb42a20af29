"""Kernels against quadrature to 50 digits, Monte Carlo and autograd; products against the kernel written out."""

import math

import mpmath
import pytest
import torch
from torch import Tensor
from torch.func import grad, jvp

from icl_lib.mean_field.kernels import (
    SIGMOID_ERRORS,
    Erf,
    ErfSum,
    Kernel,
    ReLU,
    Sampled,
    Terms,
    Zonal,
    gaussian_inputs,
    sigmoid,
    tanh,
)
from icl_lib.mean_field.kernels.base import check_pairs
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

ACTIVATIONS = {"erf": torch.erf, "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
X = gaussian_inputs(700, 4, generator(0, "inputs"))
KERNELS: dict[str, Kernel] = {
    "erf": Erf(),
    "relu": ReLU(),
    "sigmoid": sigmoid(),
    "tanh": tanh(),
    "sampled": Sampled(torch.tanh, X, block=300),
}
EACH = pytest.mark.parametrize("name", KERNELS)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(size_w: float, size_v: float, cosine: float) -> tuple[Tensor, Tensor]:
    """Two single vectors (1, 1, 2) of given norms and angle."""
    w = torch.tensor([[[size_w, 0.0]]], dtype=torch.float64)
    v = size_v * torch.tensor([[[cosine, math.sqrt(1 - cosine**2)]]], dtype=torch.float64)
    return w, v


POINTS = [(1.5, 2.0, 0.3), (4.0, 4.0, 0.999), (0.01, 3.0, -0.7), (2.0, 2.0, 1.0), (1.0, 5.0, -1.0), (20.0, 20.0, 0.0)]


@pytest.mark.parametrize("point", POINTS)
def test_erf_to_fifty_digits(point: tuple[float, float, float]) -> None:
    """One of the two Gaussian integrals is done by hand, E_n erf(a + b n) = erf(a / sqrt(1 + 2 b^2)), the other by mpmath."""
    with mpmath.workdps(50):
        a, b, c = map(mpmath.mpf, point)
        inner = c * b / mpmath.sqrt(1 + 2 * b**2 * (1 - c**2))
        cuts = [0, 0.02, 0.1, 0.5, 1, 2, 4, 8, 16]
        exact = 2 * mpmath.quad(lambda u: mpmath.npdf(u) * mpmath.erf(a * u) * mpmath.erf(inner * u), cuts)
    w, v = pair(*point)
    assert float(Erf().gram(w, v)) == pytest.approx(float(exact), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("point", POINTS)
def test_relu_to_fifty_digits(point: tuple[float, float, float]) -> None:
    """In polar coordinates the radius gives 2 and the angle is integrated where both are positive."""
    with mpmath.workdps(50):
        a, b, c = map(mpmath.mpf, point)
        t = mpmath.acos(c)
        both = [t - mpmath.pi / 2, mpmath.pi / 2]
        exact = a * b / mpmath.pi * mpmath.quad(lambda s: mpmath.cos(s) * mpmath.cos(s - t), both)
    w, v = pair(*point)
    assert float(ReLU().gram(w, v)) == pytest.approx(float(exact), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("terms", SIGMOID_ERRORS)
def test_errors_of_the_sums_of_erfs(terms: int) -> None:
    """The stated errors, of sigma on a grid and of its kernel by the trapezoid rule (exact to rounding here)."""
    of_sigma, of_kernel = SIGMOID_ERRORS[terms]
    z = torch.linspace(-50, 50, 200_001, dtype=torch.float64)
    f = sigmoid(terms)
    fitted = f.constant + sum(c * torch.erf(s * z) for c, s in zip(f.weights, f.scales, strict=True))
    assert 0.8 * of_sigma < float((fitted - z.sigmoid()).abs().max()) < of_sigma
    u = torch.linspace(-8.5, 8.5, 341, dtype=torch.float64)
    density = torch.exp(-u * u / 2) / math.sqrt(2 * math.pi) * (u[1] - u[0])
    weights = density[:, None] * density
    for kernel, activation, factor in ((f, torch.sigmoid, 1), (tanh(terms), torch.tanh, 4)):
        errors = []
        for a, b, c in [(a, b, c) for a in (0.1, 0.5, 1.5, 3.0) for b in (0.5, 4.0) for c in (-0.9, 0.0, 0.4, 1.0)]:
            if factor == 4:
                a, b = a / 2, b / 2  # tanh is steeper by two
            w, v = pair(a, b, c)
            second = b * (c * u[:, None] + math.sqrt(1 - c * c) * u)
            exact = (weights * activation(a * u)[:, None] * activation(second)).sum()
            errors.append(abs(float(kernel.gram(w, v) - exact)))
        assert 0.8 * of_kernel < max(errors) / factor < of_kernel


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_against_monte_carlo(name: str) -> None:
    """Also the general route: a large sample, within 4.5 standard errors everywhere."""
    w, v = normal(2, 3, 4), normal(2, 5, 4, seed=1)
    x, sigma = gaussian_inputs(200_000, 4, generator(0, "mc")), ACTIVATIONS[name]
    left, right = sigma(w @ x.T), sigma(v @ x.T)
    mean = left @ right.mT / len(x)
    spread = ((left**2) @ (right**2).mT / len(x) - mean**2).sqrt() / len(x) ** 0.5
    assert ((KERNELS[name].gram(w, v) - mean).abs() < 4.5 * spread + 1e-5).all()
    assert torch.allclose(Sampled(sigma, x).gram(w, v), mean, atol=1e-12)


@EACH
@pytest.mark.parametrize("same", [False, True])
def test_products_and_gradient_against_autograd(name: str, same: bool) -> None:
    """Also where w and v are one tensor: only the first argument is differentiated."""
    kernel, w = KERNELS[name], normal(2, 7, 4)
    v = w if same else normal(2, 5, 4, seed=1)
    left, right = normal(2, 7, 3, seed=2), normal(2, v.shape[1], 3, seed=3)
    assert torch.allclose(kernel.products(w, v, right), kernel.gram(w, v) @ right, rtol=1e-12, atol=1e-12)
    if name == "relu" and same:  # autograd is not finite at coinciding points: compare with nearby ones
        expected, tolerance = kernel.gradient(w, w * (1 + 1e-9), left, right), 1e-6
    else:
        moving = w.clone().requires_grad_()
        total = ((left @ right.mT) * kernel.gram(moving, v)).sum()
        expected, tolerance = torch.autograd.grad(total, moving)[0], 1e-10
    assert torch.allclose(kernel.gradient(w, v, left, right), expected, rtol=tolerance, atol=tolerance)


@EACH
def test_gradient_against_finite_differences(name: str) -> None:
    kernel, h = KERNELS[name], 1e-5
    w, v, left, right = normal(1, 3, 4), normal(1, 4, 4, seed=1), normal(1, 3, 2, seed=2), normal(1, 4, 2, seed=3)
    exact, numeric = kernel.gradient(w, v, left, right), torch.zeros_like(w)
    for c in range(4):
        step = h * torch.eye(4, dtype=torch.float64)[c]
        change = kernel.gram(w + step, v) - kernel.gram(w - step, v)
        numeric[..., c] = ((left @ right.mT) * change).sum(-1) / (2 * h)
    assert (exact - numeric).norm() < 1e-9 * exact.norm()


@pytest.mark.parametrize("kernel", [Erf(), ReLU()])
@pytest.mark.parametrize("n", [1, 7, 8, 63, 64, 65, 130])
@pytest.mark.parametrize("m", [None, 1, 9, 64, 129])
def test_sizes_around_a_block(kernel: Zonal, n: int, m: int | None) -> None:
    """Parts of a block and several blocks, and rows that are no multiple of what the processor takes at a time."""
    w = normal(2, n, 3)
    v = w if m is None else normal(2, m, 3, seed=1)
    left, right = normal(2, n, 2, seed=2), normal(2, v.shape[1], 2, seed=3)
    assert torch.allclose(kernel.products(w, v, right), kernel.gram(w, v) @ right, rtol=1e-12, atol=1e-12)
    one_by_one = torch.cat([kernel.gradient(w[:, i : i + 1], v, left[:, i : i + 1], right) for i in range(n)], 1)
    assert torch.allclose(kernel.gradient(w, v, left, right), one_by_one, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kernel", [Erf(), sigmoid(3)])
@pytest.mark.parametrize("n", [5, 70])
@pytest.mark.parametrize("same", [False, True])
def test_how_products_and_gradients_move(kernel: Erf | ErfSum, n: int, same: bool) -> None:
    """Against autograd's derivative along the same direction of the kernel written out."""
    m = n if same else 9
    w, left, d_w, d_left = normal(2, n, 3), normal(2, n, 2, seed=2), normal(2, n, 3, seed=4), normal(2, n, 2, seed=5)
    v, d_v = (w, d_w) if same else (normal(2, m, 3, seed=1), normal(2, m, 3, seed=6))
    right, d_right = normal(2, m, 2, seed=3), normal(2, m, 2, seed=7)

    def gradient(w: Tensor, v: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return grad(lambda moving: ((left @ right.mT) * kernel.gram(moving, v)).sum())(w)

    expected = jvp(lambda w, v, r: kernel.gram(w, v) @ r, (w, v, right), (d_w, d_v, d_right))[1]
    assert torch.allclose(kernel.d_products(w, v, right, d_w, d_v, d_right), expected, rtol=1e-11, atol=1e-11)
    expected = jvp(gradient, (w, v, left, right), (d_w, d_v, d_left, d_right))[1]
    found = kernel.d_gradient(Terms(w, v, left, right), Terms(d_w, d_v, d_left, d_right))
    assert torch.allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_single_precision_is_refused() -> None:
    w = normal(1, 3, 4).float()
    with pytest.raises(ConfigError, match="float32"):
        Erf().products(w, w, w)


def test_samples_in_blocks() -> None:
    w, v, left, right = normal(2, 6, 4), normal(2, 5, 4, seed=1), normal(2, 6, 3, seed=2), normal(2, 5, 3, seed=3)
    one, many = Sampled(torch.tanh, X, block=10_000), Sampled(torch.tanh, X, block=13)
    assert torch.allclose(one.products(w, v, right), many.products(w, v, right), atol=1e-12)
    assert torch.allclose(one.gradient(w, v, left, right), many.gradient(w, v, left, right), atol=1e-12)


@EACH
def test_members_do_not_touch_each_other(name: str) -> None:
    kernel, w, right = KERNELS[name], normal(3, 6, 4), normal(3, 6, 2, seed=1)
    together = kernel.products(w, w, right), kernel.gradient(w, w, right, right)
    for e in range(3):
        one, r = w[e : e + 1], right[e : e + 1]
        assert torch.allclose(kernel.products(one, one, r)[0], together[0][e], rtol=1e-13, atol=1e-14)
        assert torch.allclose(kernel.gradient(one, one, r, r)[0], together[1][e], rtol=1e-13, atol=1e-14)


@EACH
def test_large_sets_of_particles(name: str) -> None:
    """More rows than a block, also with a remainder; the caller's arrays stay what they were."""
    kernel, w, right = KERNELS[name], normal(1, 350, 4), normal(1, 350, 2, seed=1)
    before = w.clone(), right.clone()
    assert torch.allclose(kernel.products(w, w, right), kernel.gram(w, w) @ right, rtol=1e-11, atol=1e-11)
    assert torch.allclose(kernel.gradient(w, w, right, right), kernel.gradient(w, w.clone(), right, right), atol=1e-11)
    assert torch.equal(before[0], w) and torch.equal(before[1], right)


def test_same_seed_same_inputs() -> None:
    again = gaussian_inputs(700, 4, generator(0, "inputs"))
    assert torch.equal(X, again) and not torch.equal(X, gaussian_inputs(700, 4, generator(1, "inputs")))


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="terms=5: must be one of 3, 4, 6"):
        sigmoid(5)
    with pytest.raises(ConfigError, match="terms=0: must be one of"):
        tanh(0)
    with pytest.raises(ConfigError, match="n=0: must be an integer >= 1"):
        gaussian_inputs(0, 4, generator(0, "inputs"))
    with pytest.raises(ConfigError, match="x=.*must be finite"):
        Sampled(torch.tanh, X * math.nan)


@EACH
def test_works_without_gradients(name: str) -> None:
    """The same inside ``torch.no_grad`` and for arguments that ask for gradients; the result asks for none."""
    kernel, w, right = KERNELS[name], normal(1, 6, 4), normal(1, 6, 2, seed=1)
    expected = kernel.gradient(w, w, right, right), kernel.products(w, w, right)
    with torch.no_grad():
        assert torch.equal(kernel.gradient(w, w, right, right), expected[0])
    moving, asked = w.clone().requires_grad_(), right.clone().requires_grad_()
    found = kernel.gradient(moving, moving, asked, asked), kernel.products(moving, moving, asked)
    assert not any(t.requires_grad for t in found)
    assert all(torch.allclose(x, y, rtol=1e-12, atol=1e-13) for x, y in zip(found, expected, strict=True))


def test_shapes_that_do_not_fit_are_refused() -> None:
    """What all products and gradients ask first; in the tests, the annotations would refuse them before."""
    w, v, left, right = normal(2, 5, 4), normal(2, 6, 4, seed=1), normal(2, 5, 3), normal(2, 6, 3)
    check_pairs(w, v, right)
    check_pairs(w, v, right, left)
    for bad in ((w, v[..., :3], right), (w, v, right[:, :4]), (w[:1], v, right)):
        with pytest.raises(ConfigError, match="w, v, right, left"):
            check_pairs(*bad)
    for wrong in (left[..., :2], left[:, :4], left[:1]):
        with pytest.raises(ConfigError, match="w, v, right, left"):
            check_pairs(w, v, right, wrong)
