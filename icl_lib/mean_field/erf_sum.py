"""Logistic sigmoid and tanh as sums of scaled erfs, to a stated error.

1 / (1 + exp(-z)) = 1/2 + 1/2 sum_p c_p erf(s_p z) + error, sum_p c_p = 1. The constants were fitted by us to make the
largest error on all of R small (iterated least squares). A kernel of a sum of P erfs is the erf kernel of P scaled
copies of each particle, so it costs P^2 times as much.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.kernels import Kernel
from icl_lib.validate import require

# P: ((c_1, ..), (s_1, ..)); ``SIGMOID_ERRORS`` has the largest absolute error of sigma, and of K for |w|, |v| <= 4
SIGMOID = {
    3: ((0.16257122, 0.58522259, 0.25220619), (0.2574131, 0.40855596, 0.6420018)),
    4: ((0.06095002, 0.3741854, 0.45836283, 0.10650175), (0.22702676, 0.33596504, 0.49410633, 0.72346365)),
    6: (
        (0.00907515, 0.10890133, 0.31696962, 0.37392545, 0.17268162, 0.01844684),
        (0.19053946, 0.25929007, 0.35039894, 0.47258401, 0.63452029, 0.85648834),
    ),
}
SIGMOID_ERRORS = {3: (4.4e-5, 1.1e-5), 4: (4.8e-6, 1e-6), 6: (9e-8, 1.5e-8)}


@dataclass(frozen=True)
class ErfSum(Kernel):
    """sigma(z) = constant + sum_p weights_p erf(scales_p z)."""

    weights: tuple[float, ...]
    scales: tuple[float, ...]
    constant: float = 0.0
    base: Kernel = field(default_factory=Erf)

    def _copies(self, w: Tensor) -> Tensor:
        """The P scaled copies of each particle, copy by copy: (E, P N, d)."""
        return torch.cat([s * w for s in self.scales], dim=1)

    def _weighted(self, right: Tensor) -> Tensor:
        return torch.cat([c * right for c in self.weights], dim=1)

    def _sum(self, of_copies: Tensor, weights: list[float]) -> Tensor:
        parts = of_copies.chunk(len(weights), dim=1)
        return torch.stack([c * part for c, part in zip(weights, parts, strict=True)]).sum(0)

    def gram(self, w: Float[Tensor, "E N d"], v: Float[Tensor, "E M d"]) -> Float[Tensor, "E N M"]:
        rows = self._sum(self.base.gram(self._copies(w), self._copies(v)), list(self.weights))
        return self._sum(rows.mT, list(self.weights)).mT + self.constant**2

    def products(
        self, w: Float[Tensor, "E N d"], v: Float[Tensor, "E M d"], right: Float[Tensor, "E M k"]
    ) -> Float[Tensor, "E N k"]:
        rows, right = self._copies(w), right.detach()
        of_copies = self.base.products(rows, rows if w is v else self._copies(v), self._weighted(right))
        return self._sum(of_copies, list(self.weights)) + self.constant**2 * right.sum(1, keepdim=True)

    def gradient(
        self,
        w: Float[Tensor, "E N d"],
        v: Float[Tensor, "E M d"],
        left: Float[Tensor, "E N k"],
        right: Float[Tensor, "E M k"],
    ) -> Float[Tensor, "E N d"]:
        rows, lefts = self._copies(w), left.repeat(1, len(self.weights), 1)
        of_copies = self.base.gradient(rows, rows if w is v else self._copies(v), lefts, self._weighted(right))
        return self._sum(of_copies, [c * s for c, s in zip(self.weights, self.scales, strict=True)])


def sigmoid(terms: int = 4) -> ErfSum:
    """The logistic sigmoid; errors in ``SIGMOID_ERRORS``.

    >>> round(float(sigmoid().gram(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))), 6)  # sigma(0)^2
    0.25
    """
    require(terms in SIGMOID, "terms", terms, "one of " + ", ".join(map(str, SIGMOID)))
    weights, scales = SIGMOID[terms]
    return ErfSum(tuple(c / 2 for c in weights), scales, 0.5)


def tanh(terms: int = 4) -> ErfSum:
    """tanh(z) = 2 sigmoid(2 z) - 1: errors twice (sigma) and four times (kernel) those of the sigmoid."""
    require(terms in SIGMOID, "terms", terms, "one of " + ", ".join(map(str, SIGMOID)))
    weights, scales = SIGMOID[terms]
    return ErfSum(weights, tuple(2 * s for s in scales))
