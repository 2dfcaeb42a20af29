"""sigma = erf (Williams 1998), and the logistic sigmoid and tanh as sums of scaled erfs, to a stated error.

K(w, v) = (2 / pi) arcsin(2 w^T v / sqrt((1 + 2 |w|^2)(1 + 2 |v|^2))).

1 / (1 + exp(-z)) = 1/2 + 1/2 sum_p c_p erf(s_p z) + error, sum_p c_p = 1. We fitted the constants to make the largest
error on all of R small (iterated least squares). A kernel of a sum of P erfs is the erf kernel of P scaled copies of
each particle, so it costs P^2 times as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import loops
from icl_lib.mean_field.kernels.base import Kernel, OfOthers, OfRows, Others, Pairs, Rows, Zonal, arrays, check_pairs
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


class Terms(NamedTuple):
    """What ``gradient`` is of, or how that moves."""

    w: Rows
    v: Others
    left: OfRows
    right: OfOthers


class Erf(Zonal):
    """Exact for x ~ N(0, I_d); phi(w) = w sqrt(2 / (1 + 2 |w|^2)), alpha^2 = 2 / pi."""

    kind = loops.ERF

    def embed(self, w: Float[Tensor, "E N d"]) -> tuple[Float[Tensor, "E N d"], Float[Tensor, "E N"]]:
        scale = (0.5 + (w * w).sum(-1)).rsqrt()
        return w * scale[..., None], torch.full_like(scale, sqrt(2 / pi))

    def kappa(self, z: Tensor) -> Tensor:
        return z.asin()

    def d_products(self, w: Rows, v: Others, right: OfOthers, d_w: Rows, d_v: Others, d_right: OfOthers) -> OfRows:
        """How ``products`` moves when w, v and right move by d_w, d_v and d_right."""
        check_pairs(w, v, right)
        check_pairs(d_w, d_v, d_right)
        require(w.shape == d_w.shape and right.shape == d_right.shape, "d_w", tuple(d_w.shape), "of the shape of w")
        return torch.from_numpy(loops.d_products(*arrays(w, v, right, d_w, d_v, d_right)))

    def d_gradient(self, at: Terms, along: Terms) -> Rows:
        """How ``gradient`` moves."""
        for terms in (at, along):
            check_pairs(terms.w, terms.v, terms.right, terms.left)
        fit = at.w.shape == along.w.shape and at.right.shape == along.right.shape
        require(fit, "along.w", tuple(along.w.shape), "of the shape of at.w")
        return torch.from_numpy(loops.d_gradient(*arrays(*at, *along)))


ERF = Erf()


@dataclass(frozen=True)
class ErfSum(Kernel):
    """sigma(z) = constant + sum_p weights_p erf(scales_p z)."""

    weights: tuple[float, ...]
    scales: tuple[float, ...]
    constant: float = 0.0

    def _copies(self, w: Tensor) -> Tensor:
        """The P scaled copies of each particle, copy by copy: (E, P N, d)."""
        return torch.cat([s * w for s in self.scales], dim=1)

    def _weighted(self, right: Tensor) -> Tensor:
        return torch.cat([c * right for c in self.weights], dim=1)

    def _sum(self, of_copies: Tensor, weights: Sequence[float]) -> Tensor:
        parts = of_copies.chunk(len(weights), dim=1)
        return torch.stack([c * part for c, part in zip(weights, parts, strict=True)]).sum(0)

    def gram(self, w: Rows, v: Others) -> Pairs:
        rows = self._sum(ERF.gram(self._copies(w), self._copies(v)), self.weights)
        return self._sum(rows.mT, self.weights).mT + self.constant**2

    def products(self, w: Rows, v: Others, right: OfOthers) -> OfRows:
        rows, right = self._copies(w), right.detach()
        of_copies = ERF.products(rows, rows if w is v else self._copies(v), self._weighted(right))
        return self._sum(of_copies, self.weights) + self.constant**2 * right.sum(1, keepdim=True)

    def d_products(self, w: Rows, v: Others, right: OfOthers, d_w: Rows, d_v: Others, d_right: OfOthers) -> OfRows:
        """As of ``Erf``."""
        of_copies = ERF.d_products(
            self._copies(w), self._copies(v), self._weighted(right),
            self._copies(d_w), self._copies(d_v), self._weighted(d_right),
        )  # fmt: skip
        return self._sum(of_copies, self.weights) + self.constant**2 * d_right.sum(1, keepdim=True)

    def _terms(self, w: Rows, v: Others, left: OfRows, right: OfOthers) -> Terms:
        rows = self._copies(w)
        lefts = left.repeat(1, len(self.weights), 1)
        return Terms(rows, rows if w is v else self._copies(v), lefts, self._weighted(right))

    def _of_terms(self, of_copies: Tensor) -> Tensor:
        return self._sum(of_copies, [c * s for c, s in zip(self.weights, self.scales, strict=True)])

    def d_gradient(self, at: Terms, along: Terms) -> Rows:
        """As of ``Erf``."""
        return self._of_terms(ERF.d_gradient(self._terms(*at), self._terms(*along)))

    def gradient(self, w: Rows, v: Others, left: OfRows, right: OfOthers) -> Rows:
        return self._of_terms(ERF.gradient(*self._terms(w, v, left, right)))


def _fitted(terms: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    require(terms in SIGMOID, "terms", terms, "one of " + ", ".join(map(str, SIGMOID)))
    return SIGMOID[terms]


def sigmoid(terms: int = 4) -> ErfSum:
    """The logistic sigmoid; errors in ``SIGMOID_ERRORS``.

    >>> round(float(sigmoid().gram(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))), 6)  # sigma(0)^2
    0.25
    """
    weights, scales = _fitted(terms)
    return ErfSum(tuple(c / 2 for c in weights), scales, 0.5)


def tanh(terms: int = 4) -> ErfSum:
    """tanh(z) = 2 sigmoid(2 z) - 1: errors twice (sigma) and four times (kernel) those of the sigmoid."""
    weights, scales = _fitted(terms)
    return ErfSum(weights, tuple(2 * s for s in scales))
