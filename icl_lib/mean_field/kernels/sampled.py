"""Any activation under any law of x, by sampling: K(w, v) = mean_s sigma(w^T x_s) sigma(v^T x_s)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels.base import Kernel, OfOthers, OfRows, Others, Pairs, Rows
from icl_lib.validate import require, require_integer


def gaussian_inputs(n: int, d: int, gen: torch.Generator) -> Float[Tensor, "S d"]:
    """n draws of x ~ N(0, I_d) in float64."""
    require_integer("n", n, 1)
    require_integer("d", d, 1)
    return torch.randn(n, d, generator=gen, dtype=torch.float64)


class Sampled(Kernel):
    """The kernel of the empirical law of the inputs x (S, d): errors of order S^{-1/2} against the law they came from.

    Products cost (N + M) S (d + k) and hold `block` samples at a time. The activation is any elementwise function that
    autograd can differentiate. One sample serves all members.

    Args:
        activation: sigma, for example ``torch.sigmoid``.
        x: inputs, drawn with an explicit generator, for example by ``gaussian_inputs``.
        smooth: whether sigma has a second derivative.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> float(Sampled(torch.relu, x).gram(torch.ones(1, 1, 2), torch.ones(1, 1, 2)))  # (1 + 4) / 2
    2.5
    """

    def __init__(
        self, activation: Callable[[Tensor], Tensor], x: Float[Tensor, "S d"], smooth: bool = True, block: int = 512
    ) -> None:
        require(bool(x.isfinite().all()), "x", "tensor with NaN or inf", "finite")
        self.activation, self.x, self.smooth, self.block = activation, x, smooth, block

    def gram(self, w: Rows, v: Others) -> Pairs:
        return self.activation(w @ self.x.T) @ self.activation(v @ self.x.T).mT / len(self.x)

    def products(self, w: Rows, v: Others, right: OfOthers) -> OfRows:
        total = torch.zeros(*w.shape[:2], right.shape[2], dtype=w.dtype)
        for x in self.x.split(self.block):
            rows = self.activation(w.detach() @ x.T)
            features = self.activation(v.detach() @ x.T).mT @ right.detach()  # (E, block, k)
            total += rows @ features
        return total / len(self.x)

    def gradient(self, w: Rows, v: Others, left: OfRows, right: OfOthers) -> Rows:
        total = torch.zeros_like(w)
        for x in self.x.split(self.block):
            features = self.activation(v.detach() @ x.T).mT @ right.detach()
            with torch.enable_grad():
                inner = (w.detach() @ x.T).requires_grad_()
                outer = self.activation(inner)
            total += torch.autograd.grad(outer, inner, left.detach() @ features.mT)[0] @ x
        return total / len(self.x)
