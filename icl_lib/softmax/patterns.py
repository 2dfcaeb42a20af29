"""Patterns of Paper L's data model: what an input is made of (Li et al. 2024, data model)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.validate import require, require_choice, require_integer, require_number


@dataclass(frozen=True)
class PatternConfig:
    """How many patterns there are, how long they are, and the space they live in.

    Attributes:
        n_idr: M1, in-domain-relevant patterns mu_1 .. mu_M1; at least 3.
        n_idi: M2, in-domain-irrelevant patterns nu_1 .. nu_M2.
        beta: norm of every pattern.
        d_x: dimension of the inputs, at least M1 + M2 since all patterns are orthogonal.
        d_y: dimension of the label embedding.

    >>> PatternConfig(n_idr=2)
    Traceback (most recent call last):
    ...
    icl_lib.validate.ConfigError: n_idr=2: must be an integer >= 3 (with 2 there is no third pattern for the other contexts, and no pair of patterns that training has not seen)
    """

    n_idr: int = 6
    n_idi: int = 24
    beta: float = 2.0
    d_x: int = 30
    d_y: int = 30

    def __post_init__(self) -> None:
        why = "(with 2 there is no third pattern for the other contexts, and no pair of patterns that training has not seen)"
        require_integer("n_idr", self.n_idr, 3, allowed=f"an integer >= 3 {why}")
        require_integer("n_idi", self.n_idi, 1)
        require_number("beta", self.beta, low=1e-9, allowed="a finite number above 0")
        need = self.n_idr + self.n_idi
        allowed = f"an integer >= n_idr + n_idi = {need}, to hold orthogonal patterns"
        require_integer("d_x", self.d_x, need, allowed=allowed)
        require_integer("d_y", self.d_y, 1)


class Patterns(NamedTuple):
    """A dictionary of patterns; every input is mu_j + kappa nu_k, every label y embedded as y q.

    Attributes:
        basis: (..., P + 1, d_x + d_y), the matrix C: rows (mu_j; 0), then (nu_k; 0), last (0; q).
            Out of domain, mu' and nu' take the places of mu and nu.
        n_relevant: how many of the rows are relevant patterns.
        d_x: dimension of the inputs.
    """

    basis: Float[Tensor, "*e P_plus_1 d"]
    n_relevant: int
    d_x: int

    @property
    def relevant(self) -> Float[Tensor, "*e R d_x"]:
        """The mu_j, without their label part."""
        return self.basis[..., : self.n_relevant, : self.d_x]

    @property
    def irrelevant(self) -> Float[Tensor, "*e I d_x"]:
        """The nu_k, without their label part."""
        return self.basis[..., self.n_relevant : -1, : self.d_x]

    @property
    def label(self) -> Float[Tensor, "*e d_y"]:
        """q, of norm 1."""
        return self.basis[..., -1, self.d_x :]

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of relevant and irrelevant patterns."""
        return self.n_relevant, self.basis.shape[-2] - 1 - self.n_relevant


def build_patterns(relevant: Tensor, irrelevant: Tensor, label: Tensor) -> Patterns:
    """Patterns of one member from (R, d_x), (I, d_x) and (d_y,)."""
    inputs = torch.cat([relevant, irrelevant])
    return Patterns(torch.block_diag(inputs, label[None]), len(relevant), relevant.shape[-1])


def stack_patterns(members: Sequence[Patterns]) -> Patterns:
    """The patterns of an ensemble, (E, ...), from those of its members."""
    counts = {(*m.counts, *m.basis.shape) for m in members}
    require(len(counts) == 1, "members", counts, "alike in numbers of patterns and lengths, and at least one")
    return members[0]._replace(basis=torch.stack([m.basis for m in members]))


def orthonormal(n: int, dim: int, gen: torch.Generator, dtype: torch.dtype = torch.float32) -> Float[Tensor, "n dim"]:
    """n random orthonormal rows in R^dim, uniform over all such frames."""
    gauss = torch.randn(dim, n, generator=gen, dtype=torch.float64)
    q, r = torch.linalg.qr(gauss)
    return (q * r.diagonal().sign()).T.to(dtype)


def draw_patterns(config: PatternConfig, seed: int) -> Patterns:
    """A random frame of in-domain patterns and a random label direction, for one seed.

    >>> patterns = draw_patterns(PatternConfig(n_idr=6, n_idi=24, beta=2.0), seed=0)
    >>> patterns.counts
    (6, 24)
    >>> gram = patterns.relevant @ patterns.relevant.T
    >>> torch.allclose(gram, 4 * torch.eye(6), atol=1e-5)
    True
    """
    gen = generator(seed, "patterns")
    frame = config.beta * orthonormal(config.n_idr + config.n_idi, config.d_x, gen)
    label = orthonormal(1, config.d_y, gen)[0]
    return build_patterns(frame[: config.n_idr], frame[config.n_idr :], label)


def ood_mixing(n_odr: int, n_idr: int, s1: float, seed: int, norm: str = "kept") -> Float[Tensor, "R M1"]:
    """Coefficients c of out-of-domain relevant patterns mu'_j = sum_i c[j, i] mu_i; rows are orthogonal and sum to S1.

    With ``norm="kept"`` rows have length 1, so mu' is as long as mu and only S1 changes; with ``norm="scaled"`` a row is S1
    times a row of sum 1, so that norm and S1 change together (the confounded alternative).

    Construction (ours): rows c_j = (S1 / M1) 1 + e_j, with e_j orthogonal to 1; orthonormal rows
    need <e_j, e_k> = delta_jk - S1^2 / M1, a positive semi-definite Gram matrix iff n_odr * S1^2 <= M1.

    Raises:
        ConfigError: if no orthonormal rows with that sum exist; the message states the bound.

    >>> c = ood_mixing(n_odr=3, n_idr=6, s1=1.2, seed=0)
    >>> torch.allclose(c.sum(1), torch.tensor(1.2)), torch.allclose(c @ c.T, torch.eye(3), atol=1e-5)
    (True, True)
    """
    require_integer("n_odr", n_odr, 1, n_idr - 1, f"an integer between 1 and n_idr - 1 = {n_idr - 1}")
    require_number("s1", s1)
    require_choice("norm", norm, ("kept", "scaled"))
    if norm == "scaled":
        return s1 * ood_mixing(n_odr, n_idr, 1.0, seed, "kept")
    bound = (n_idr / n_odr) ** 0.5
    allowed = f"at most sqrt(n_idr / n_odr) = {bound:.4g} in size: no orthonormal rows with a larger sum exist"
    require(abs(s1) <= bound + 1e-12, "s1", s1, allowed)
    gram = torch.eye(n_odr, dtype=torch.float64) - s1**2 / n_idr
    values, vectors = torch.linalg.eigh(gram)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # rounding can leave -1e-17 at the bound
    ones = torch.full((n_idr, 1), n_idr**-0.5, dtype=torch.float64)
    free = torch.randn(n_idr, n_odr, generator=generator(seed, "ood mixing"), dtype=torch.float64)
    basis, _ = torch.linalg.qr(free - ones @ (ones.T @ free))
    return (s1 / n_idr + root @ basis.T).float()


def out_of_domain(patterns: Patterns, n_odr: int, n_odi: int, s1: float, seed: int, norm: str = "kept") -> Patterns:
    """Out-of-domain patterns of one member: mu' = c mu as in ``ood_mixing``; nu' a random orthonormal mixing of the nu.

    Raises:
        ConfigError: for an infeasible S1.
    """
    n_idr, n_idi = patterns.counts
    require_integer("n_odi", n_odi, 1, n_idi, f"an integer between 1 and the number of irrelevant patterns {n_idi}")
    mixing = ood_mixing(n_odr, n_idr, s1, seed, norm)
    rotation = orthonormal(n_odi, n_idi, generator(seed, "ood irrelevant"))
    return build_patterns(mixing @ patterns.relevant, rotation @ patterns.irrelevant, patterns.label)
