"""Every activation: the fast pass against torch and autograd, means against quadrature, the kernel against sampling."""

import math

import numpy as np
import pytest
import torch

from icl_lib.mean_field.kernels import ACTIVATIONS, activation
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

NORMS = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("kind", "tolerance"), [(np.float64, 1e-14), (np.float32, 5e-7)])
def test_values_and_slopes(name: str, kind: type, tolerance: float) -> None:
    one, points = activation(name), np.linspace(-8, 8, 1001)
    z, psi = (one.scale * points).astype(kind), np.empty(1001, kind)
    only = z.copy()
    one.fill(z, psi)
    one.fill(only, None)
    np.testing.assert_array_equal(z, only)
    x = torch.tensor(points, requires_grad=True)
    y = one.function(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert np.abs(one.value[0] + one.value[1] * z - y.detach().numpy()).max() <= tolerance
    assert np.abs(one.slope[0] + one.slope[1] * psi - slope.numpy()).max() <= tolerance


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_means(name: str) -> None:
    """Against the trapezoidal rule; the sum of erfs for the sigmoid's slope has errors of 1e-5."""
    one = activation(name)
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    weight = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    inner = (NORMS[:, None] * z).requires_grad_()
    value = one.function(inner)
    (slope,) = torch.autograd.grad(value.sum(), inner)
    torch.testing.assert_close((value * weight).sum(1).detach(), one.mean(NORMS), rtol=0, atol=1e-8)
    torch.testing.assert_close((slope * weight).sum(1), one.mean_slope(NORMS), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_kernel_and_linear_parts_belong_to_it(name: str) -> None:
    one, gen = activation(name), generator(0, "inputs")
    x = torch.randn(100_000, 3, generator=gen, dtype=torch.float64)
    w = torch.randn(1, 4, 3, generator=gen, dtype=torch.float64)
    s = one.function(x @ w[0].T)
    assert (one.kernel().gram(w, w)[0] - s.T @ s / len(x)).abs().max() < 0.03
    assert (one.means(w)[0] - s.mean(0)).abs().max() < 0.02
    assert (one.linear_parts(w)[0] - s.T @ x / len(x)).abs().max() < 0.03


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="activation='swish'"):
        activation("swish")
