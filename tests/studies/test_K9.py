"""The kernel of cubes, against its definition and autograd."""

import torch

from icl_lib.mean_field.kernels import gaussian_inputs
from icl_lib.rng import generator
from studies.K9 import Cube

GEN = generator(0, "check")
W, V = (0.5 * torch.randn(2, n, 3, generator=GEN, dtype=torch.float64) for n in (3, 4))
LEFT, RIGHT = (torch.randn(2, n, 2, generator=GEN, dtype=torch.float64) for n in (3, 4))


def test_the_kernel_of_cubes_is_the_mean_over_gaussian_inputs() -> None:
    """Products of six Gaussian factors: their mean over the draws is good to a few per cent."""
    x = gaussian_inputs(400_000, 3, GEN)
    sampled = (W @ x.T) ** 3 @ ((V @ x.T) ** 3).mT / len(x)
    exact = Cube().gram(W, V)
    assert (sampled - exact).abs().max() < 0.05 * exact.abs().max()
    one = torch.tensor([[[2.0]]], dtype=torch.float64)
    assert float(Cube().gram(one, one)) == 15 * 2**6


def test_products_and_gradient_of_cubes() -> None:
    torch.testing.assert_close(Cube().products(W, V, RIGHT), Cube().gram(W, V) @ RIGHT)
    w = W.clone().requires_grad_()
    (wanted,) = torch.autograd.grad((Cube().gram(w, V) * (LEFT @ RIGHT.mT)).sum(), w)
    torch.testing.assert_close(Cube().gradient(W, V, LEFT, RIGHT), wanted)
