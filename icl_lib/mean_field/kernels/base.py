"""Kernels K(w, v) = E[sigma(w^T x) sigma(v^T x)] and their products, in bounded memory.

``Kernel`` is what the rest of the library asks for. ``Zonal`` gives it to activations with a closed form under
x ~ N(0, I_d): K(w, v) = alpha(w) alpha(v) kappa(phi(w)^T phi(v)). The reduction (derived by us) turns products and
gradients into dense products with kappa(Z) and kappa'(Z), Z = phi(W) phi(V)^T: the compiled loops of ``loops.py``.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from icl_lib.mean_field.kernels import loops
from icl_lib.validate import require

Rows = Float[Tensor, "E N d"]  # input weights w
Others = Float[Tensor, "E M d"]  # and v
OfRows = Float[Tensor, "E N k"]
OfOthers = Float[Tensor, "E M k"]
Pairs = Float[Tensor, "E N M"]


class Kernel(ABC):
    """E[sigma(w^T x) sigma(v^T x)] for rows w of (E, N, d) and v of (E, M, d). Cost: N M (d + k) unless stated.

    ``smooth`` says whether ``gram`` can be differentiated twice by autograd, which Hessians need.

    >>> from icl_lib.mean_field.kernels import Erf
    >>> w = torch.eye(2, 3, dtype=torch.float64)[None]
    >>> Erf().gram(w, w)[0].round(decimals=4).tolist()  # (2 / pi) arcsin(2 / 3) on the diagonal
    [[0.4646, 0.0], [0.0, 0.4646]]
    """

    smooth = True

    @abstractmethod
    def gram(self, w: Rows, v: Others) -> Pairs:
        """The kernel itself, written out; autograd goes through it."""

    @abstractmethod
    def products(self, w: Rows, v: Others, right: OfOthers) -> OfRows:
        """sum_j K(w_i, v_j) R_j. Pass one tensor as `w` and `v` to pay for half of it. No autograd."""

    @abstractmethod
    def gradient(self, w: Rows, v: Others, left: OfRows, right: OfOthers) -> Rows:
        """sum_j C_ij grad_{w_i} K(w_i, v_j) with C = L R^T: `v` is held fixed even where it is `w`. No autograd."""


def arrays(*tensors: Tensor) -> list[ndarray]:
    """What a compiled loop takes; refuses all but float64."""
    for x in tensors:
        require(x.dtype == torch.float64, "dtype", x.dtype, "torch.float64")
    return [x.detach().contiguous().numpy() for x in tensors]


def check_pairs(w: Tensor, v: Tensor, right: Tensor, left: Tensor | None = None) -> None:
    """Refuse shapes that do not fit, since compiled loops look at no addresses."""
    fit = w.shape[::2] == v.shape[::2] and v.shape[:2] == right.shape[:2]
    fit = fit and (left is None or left.shape == (*w.shape[:2], right.shape[2]))
    shapes = [tuple(x.shape) for x in (w, v, right, left) if x is not None]
    require(fit, "w, v, right, left", shapes, "(E, N, d), (E, M, d), (E, M, k), (E, N, k)")


class Zonal(Kernel):
    """A kernel alpha(w) alpha(v) kappa(phi(w)^T phi(v)) that ``loops.py`` knows as ``kind``; memory is O(N + M)."""

    kind: ClassVar[int]

    @abstractmethod
    def embed(self, w: Float[Tensor, "E N d"]) -> tuple[Float[Tensor, "E N d"], Float[Tensor, "E N"]]:
        """phi, of norm at most 1, and alpha; for autograd."""

    @abstractmethod
    def kappa(self, z: Tensor) -> Tensor:
        """kappa, for autograd."""

    def gram(self, w: Rows, v: Others) -> Pairs:
        (phi, alpha), (psi, beta) = self.embed(w), self.embed(v)
        return alpha[..., None] * beta[:, None] * self.kappa(phi @ psi.mT)

    def products(self, w: Rows, v: Others, right: OfOthers) -> OfRows:
        check_pairs(w, v, right)
        return torch.from_numpy(loops.products(self.kind, *arrays(w, v, right), w is v))

    def gradient(self, w: Rows, v: Others, left: OfRows, right: OfOthers) -> Rows:
        check_pairs(w, v, right, left)
        return torch.from_numpy(loops.gradient(self.kind, *arrays(w, v, left, right), w is v))

    def velocity(
        self, teacher: tuple[Tensor, ...], mu: tuple[Tensor, ...], c: Float[Tensor, "E k0 k0"] | None
    ) -> tuple[list[Tensor], bool]:
        """Of particles (a, w, p): all that ``landscape.velocity`` returns, and whether it is to be trusted."""
        for a, w, p in (teacher, mu):
            require(a.shape[:2] == w.shape[:2] == p.shape, "particles", tuple(p.shape), "as many a, w and p")
        check_pairs(mu[1], teacher[1], teacher[0])
        given = mu[0].new_empty(0, 0, 0) if c is None else c
        *found, well = loops.velocity(self.kind, *arrays(*mu, *teacher, given))
        return [torch.from_numpy(part) for part in found], well
