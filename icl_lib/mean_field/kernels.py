"""Kernels K(w, v) = E[sigma(w^T x) sigma(v^T x)] and their products, in bounded memory.

``Kernel`` is what the rest of the library asks for. ``Zonal`` gives it to any activation with a closed form under
x ~ N(0, I_d): K(w, v) = alpha(w) alpha(v) kappa(phi(w)^T phi(v)), so an activation is a file with ``embed`` (phi and
alpha) and kappa with its derivative. The reduction (derived by us) turns both products into dense products with
kappa(Z) and kappa'(Z), Z = phi(W) phi(V)^T, of which one block at a time exists. Blocks fit in the second-level cache
and K(w, w) is computed by halves. Block arithmetic is numpy's: its products with few columns and its arcsin are three
times as fast as torch's on the processors we measured.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

BLOCK = 160  # rows and columns of a block: two of float64 take .4 MB
SMALL = 64**2  # pairs N M of a member up to which members are done together: a loop over them would take longer


class Kernel(ABC):
    """E[sigma(w^T x) sigma(v^T x)] for rows w of (E, N, d) and v of (E, M, d). Cost: N M (d + k) unless stated.

    ``smooth`` says whether ``gram`` can be differentiated twice by autograd, which Hessians need.

    >>> from icl_lib.mean_field.erf import Erf
    >>> w = torch.eye(2, 3, dtype=torch.float64)[None]
    >>> Erf().gram(w, w)[0].round(decimals=4).tolist()  # (2 / pi) arcsin(2 / 3) on the diagonal
    [[0.4646, 0.0], [0.0, 0.4646]]
    """

    smooth = True

    @abstractmethod
    def gram(self, w: Float[Tensor, "E N d"], v: Float[Tensor, "E M d"]) -> Float[Tensor, "E N M"]:
        """The kernel itself, written out; autograd goes through it."""

    @abstractmethod
    def products(
        self, w: Float[Tensor, "E N d"], v: Float[Tensor, "E M d"], right: Float[Tensor, "E M k"]
    ) -> Float[Tensor, "E N k"]:
        """sum_j K(w_i, v_j) R_j. Pass one tensor as `w` and `v` to pay for half of it. No autograd."""

    @abstractmethod
    def gradient(
        self,
        w: Float[Tensor, "E N d"],
        v: Float[Tensor, "E M d"],
        left: Float[Tensor, "E N k"],
        right: Float[Tensor, "E M k"],
    ) -> Float[Tensor, "E N d"]:
        """sum_j C_ij grad_{w_i} K(w_i, v_j) with C = L R^T: `v` is held fixed even where it is `w`. No autograd."""


class Zonal(Kernel):
    """A kernel alpha(w) alpha(v) kappa(phi(w)^T phi(v)); `block` is the size of the blocks."""

    alpha_varies = True  # False saves ``gradient`` a pass where alpha is a constant

    def __init__(self, block: int = BLOCK) -> None:
        self.block = block

    @abstractmethod
    def embed(self, w: Float[Tensor, "E N d"]) -> tuple[Float[Tensor, "E N d"], Float[Tensor, "E N"]]:
        """phi, of norm at most 1, and alpha."""

    @abstractmethod
    def kappa(self, z: Tensor) -> Tensor:
        """kappa by torch, for autograd."""

    @abstractmethod
    def kappa_(self, z: ndarray) -> None:
        """kappa in place."""

    @abstractmethod
    def slope_(self, z: ndarray) -> None:
        """kappa' in place."""

    def gram(self, w: Float[Tensor, "E N d"], v: Float[Tensor, "E M d"]) -> Float[Tensor, "E N M"]:
        (phi, alpha), (psi, beta) = self.embed(w), self.embed(v)
        return alpha[..., None] * beta[:, None] * self.kappa(phi @ psi.mT)

    def products(
        self, w: Float[Tensor, "E N d"], v: Float[Tensor, "E M d"], right: Float[Tensor, "E M k"]
    ) -> Float[Tensor, "E N k"]:
        (phi, alpha), (psi, beta) = self.embed(w.detach()), self.embed(v.detach())
        weighted = right.detach() * beta[..., None]
        return alpha[..., None] * self._contract(phi, psi, None, weighted, w is v)

    def gradient(
        self,
        w: Float[Tensor, "E N d"],
        v: Float[Tensor, "E M d"],
        left: Float[Tensor, "E N k"],
        right: Float[Tensor, "E M k"],
    ) -> Float[Tensor, "E N d"]:
        psi, beta = self.embed(v.detach())
        moving, left = w.detach().requires_grad_(), left.detach()
        with torch.enable_grad():
            phi, alpha = self.embed(moving)
            d_phi = self._contract(phi.detach(), psi, left, right.detach() * beta[..., None], w is v)
            total = (phi * d_phi * alpha.detach()[..., None]).sum()
            if self.alpha_varies:
                total = total + (alpha.log() * torch.linalg.vecdot(left, self.products(w, v, right))).sum()
            return torch.autograd.grad(total, moving)[0]

    def _contract(self, phi: Tensor, psi: Tensor, left: Tensor | None, right: Tensor, same: bool) -> Tensor:
        """Member by member, small ones together: kappa(Z) R, or with `left` (L R^T * kappa'(Z)) psi."""
        pairs = phi.shape[1] * psi.shape[1]
        if pairs <= SMALL:
            step = max(1, self.block**2 // pairs)
            some = [slice(i, i + step) for i in range(0, len(phi), step)]
            return torch.cat([self._small(phi[s], psi[s], None if left is None else left[s], right[s]) for s in some])
        out = torch.zeros(*phi.shape[:2], (right if left is None else psi).shape[2], dtype=phi.dtype)
        for e in range(len(phi)):
            of_left = None if left is None else left[e].numpy()
            self._contract_one(phi[e].numpy(), psi[e].numpy(), of_left, right[e].numpy(), out[e].numpy(), same)
        return out

    def _small(self, phi: Tensor, psi: Tensor, left: Tensor | None, right: Tensor) -> Tensor:
        z = phi @ psi.mT
        if left is None:
            self.kappa_(z.numpy())
            return z @ right
        self.slope_(z.numpy())
        return z.mul_(left @ right.mT) @ psi

    def _contract_one(
        self, phi: ndarray, psi: ndarray, left: ndarray | None, right: ndarray, out: ndarray, same: bool
    ) -> None:
        b, (n, m) = self.block, (len(phi), len(psi))
        psi_t, right_t = np.ascontiguousarray(psi.T), np.ascontiguousarray(right.T)
        left_t = None if left is None else np.ascontiguousarray(left.T)
        buffers = np.empty((2, min(b, n) * min(b, m)), phi.dtype)
        for i in range(0, n, b):
            rows = slice(i, min(i + b, n))
            for j in range(i if same else 0, m, b):
                cols = slice(j, min(j + b, m))
                shape = rows.stop - i, cols.stop - j
                z, c = (buffer[: shape[0] * shape[1]].reshape(shape) for buffer in buffers)
                mirror = same and j > i  # the block below the diagonal is the transpose of this one
                np.matmul(phi[rows], psi_t[:, cols], out=z)
                if left is None:
                    self.kappa_(z)
                    out[rows] += z @ right[cols]
                    if mirror:
                        out[cols] += z.T @ right[rows]
                    continue
                self.slope_(z)
                np.matmul(left[rows], right_t[:, cols], out=c)
                c *= z
                out[rows] += c @ psi[cols]
                if mirror:
                    assert left_t is not None
                    np.matmul(right[rows], left_t[:, cols], out=c)
                    c *= z
                    out[cols] += c.T @ phi[rows]
