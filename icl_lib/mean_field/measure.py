"""Measures on neurons theta = (a, w) as weighted particles, teachers f° = h_{mu°}, and where flows start.

h_mu(x) = sum_i p_i a_i sigma(w_i^T x) in R^k (Kim & Suzuki 2024, setting).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icl_lib.mean_field.kernels import Kernel
from icl_lib.rng import generator
from icl_lib.twin import twinned
from icl_lib.validate import (
    ConfigError,
    require,
    require_choice,
    require_integer,
    require_members,
    require_memory,
    require_number,
)


class Particles(NamedTuple):
    """An ensemble of atomic measures: output weights a, input weights w, masses p > 0 with sum 1 per member."""

    a: Float[Tensor, "E N k"]
    w: Float[Tensor, "E N d"]
    p: Float[Tensor, "E N"]

    @property
    def weighted(self) -> Float[Tensor, "E N k"]:
        """p_i a_i, as h_mu has them."""
        return self.a * self.p[..., None]

    @property
    def theta(self) -> Float[Tensor, "E N q"]:
        """(a_i, w_i), q = k + d."""
        return torch.cat([self.a, self.w], dim=2)

    def moved_to(self, theta: Float[Tensor, "E N q"]) -> "Particles":
        """The same masses at other (a_i, w_i)."""
        k = self.a.shape[2]
        return self._replace(a=theta[..., :k].contiguous(), w=theta[..., k:].contiguous())


class NonFinite(RuntimeError):
    """A velocity or a loss is NaN or infinite; the message names the member."""


class SingularCovariance(RuntimeError):
    """A covariance that has to be inverted is singular to working precision; nothing is regularised silently."""


def check_finite(finite: Bool[Tensor, " E"], name: str) -> None:
    """Raise ``NonFinite`` unless all members are."""
    if not finite.all():
        raise NonFinite(f"{name} of member {int(finite.int().argmin())} is NaN or infinite")


def check_particles(mu: Particles) -> None:
    """Refuse wrong shapes, non-finite values, masses that are no distribution, and fewer particles than outputs."""
    shapes = [tuple(part.shape) for part in mu]
    ok = [len(s) for s in shapes] == [3, 3, 2] and shapes[0][:2] == shapes[1][:2] == shapes[2]
    require(ok, "particles", shapes, "of shapes (E, N, k), (E, N, d), (E, N)")
    check_dtype(mu)
    for field, part in zip(mu._fields, mu, strict=True):
        bad = int((~part.isfinite()).sum())
        if bad:
            raise ConfigError(f"{field}: must be finite; {bad} of {part.numel()} values are not")
    require(bool((mu.p > 0).all()), "p", float(mu.p.min()), "positive")
    off = float((mu.p.sum(-1) - 1).abs().max())
    require(off < 1e-9, "p", off, "masses that sum to 1 (the value is how far they are off)")
    _, n, k = mu.a.shape
    require(k <= n, "k", k, f"at most N = {n}, since h has no more independent outputs than particles")


def check_dtype(mu: Particles) -> None:
    """Refuse particles in single precision, or only some of them: what is inverted here needs all digits."""
    kinds = [str(part.dtype).removeprefix("torch.") for part in mu]
    require(set(kinds) == {"float64"}, "particles", dict(zip(mu._fields, kinds, strict=True)), "of float64")


def check_teacher(teacher: Particles, mu: Particles) -> None:
    """Raise unless there is one teacher per member, with inputs of the same length, both in double precision."""
    for one in (teacher, mu):
        check_dtype(one)
    ours, its = ((part.w.shape[0], part.w.shape[2]) for part in (mu, teacher))
    require(ours == its, "teacher", its, f"of the particles' number of members and inputs (E, d), {ours}")


def stack(members: Sequence[Particles]) -> Particles:
    """One ensemble out of several."""
    return Particles(*(torch.cat(parts) for parts in zip(*members, strict=True)))


def member(mu: Particles, e: int) -> Particles:
    """An ensemble of one out of several."""
    require_integer("e", e, 0, len(mu.p) - 1)
    return Particles(*(part[e : e + 1] for part in mu))


def uniform(n: int) -> Float[Tensor, "1 N"]:
    """Equal masses."""
    return torch.full((1, n), 1 / n, dtype=torch.float64)


def with_one(h: Float[Tensor, "*m k"]) -> Float[Tensor, "*m K"]:
    """h~ = (h, 1)."""
    return torch.cat([h, torch.ones_like(h[..., :1])], -1)


def covariance(kernel: Kernel, mu: Particles, nu: Particles) -> Float[Tensor, "E k_mu k_nu"]:
    """Sigma_{mu nu} = E[h_mu h_nu^T]; O(N_mu N_nu) time."""
    return mu.weighted.mT @ kernel.products(mu.w, nu.w, nu.weighted)


def inverse_root(sigma: Float[Tensor, "E k k"], name: str, power: float = -0.5) -> Float[Tensor, "E k k"]:
    """sigma^power of symmetric positive matrices; `name` is for messages.

    Raises:
        SingularCovariance: a matrix is singular to working precision, or not finite; names the member.
    """
    finite = sigma.isfinite().all((1, 2))
    if not finite.all():
        raise SingularCovariance(f"{name} of member {int(finite.int().argmin())} is not finite")
    values, vectors = torch.linalg.eigh(sigma)
    for e, (low, high) in enumerate(values[:, [0, -1]].tolist()):
        if low <= sigma.shape[-1] * torch.finfo(sigma.dtype).eps * abs(high):
            raise SingularCovariance(
                f"{name} of member {e} is singular: eigenvalues from {low:.3g} to {high:.3g}; "
                "are there fewer independent features than outputs?"
            )
    return (vectors * values[:, None] ** power) @ vectors.mT


def whitened(kernel: Kernel, nu: Particles, name: str) -> Particles:
    """The particles with output weights mapped so that Sigma_{nu nu} = 1; raises as ``inverse_root``."""
    return nu._replace(a=nu.a @ inverse_root(covariance(kernel, nu, nu), name))


def _check_sizes(config: "TeacherConfig | InitConfig", kinds: tuple[str, ...]) -> None:
    require_choice("kind", config.kind, kinds)
    for field in ("n", "d", "k"):
        require_integer(field, getattr(config, field), 1)
    require_integer("seed", config.seed, 0)
    require_number("size", config.size, low=1e-9, allowed="a finite number above 0")
    require(config.k <= config.n, "k", config.k, f"at most n = {config.n}: more outputs than neurons are dependent")


@dataclass(frozen=True)
class TeacherConfig:
    """f° = h_{mu°} for x ~ N(0, I_d); a k that differs from the model's is misspecification.

    Attributes:
        kind: "random": w° ~ N(0, size^2 / d I), a° ~ N(0, I). "axes": neuron j lies on axis j, w° = size e_j (n = k <=
            d). "nonlinear": |w°| = size in random directions, a° ~ N(0, I) projected so that f° is orthogonal to every
            affine function of x, for any activation (derived by us: sum_i a_i w_i = 0 and sum_i a_i = 0); n >= d + 1 +
            k.
        n, d, k: neurons, inputs, outputs.
        size: length of w° ("random": in root mean square).
        spectrum: lambda, positive; then a° is turned and scaled so that Sigma_{mu° mu°} = diag(lambda). None: as drawn.
        seed: of the stream "teacher".
    """

    kind: str = "axes"
    n: int = 5
    d: int = 20
    k: int = 5
    size: float = 2.0
    spectrum: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_sizes(self, ("random", "axes", "nonlinear"))
        if self.kind == "axes":
            require(self.k <= self.d, "d", self.d, f"at least k = {self.k}: each output needs an axis")
            require(self.n == self.k, "n", self.n, f"k = {self.k}: one neuron on each axis")
        if self.kind == "nonlinear":
            least = self.d + 1 + self.k
            enough = f"at least d + 1 + k = {least}: the affine part takes d + 1 dimensions"
            require(self.n >= least, "n", self.n, enough)
        if self.spectrum is not None:
            require(isinstance(self.spectrum, tuple), "spectrum", self.spectrum, "a tuple or None")
            require(len(self.spectrum) == self.k, "spectrum", self.spectrum, f"{self.k} numbers, one per output")
            for value in self.spectrum:
                require_number("spectrum", value, low=1e-12, allowed="positive finite numbers")


@dataclass(frozen=True)
class InitConfig:
    """Where a model starts: w ~ N(0, size^2 / d I), equal masses.

    Attributes:
        kind: "aligned", the documented random initialisation: a = xi + tanh(w_1, .., w_k) with xi ~ N(0, I), k <= d.
            "independent": a ~ N(0, I) alone; with many particles h tends to 0, so L(mu) to 0/0 (a control).
        n, d, k: particles, inputs, outputs.
        size: root mean square of |w|; 1.5 to 4 is good.
        seed: of the stream "particles".
        axes: inputs that w may look at, the others are exactly 0 (|w| keeps its size); None for all. A bad support.
    """

    kind: str = "aligned"
    n: int = 500
    d: int = 20
    k: int = 5
    size: float = 2.0
    seed: int = 0
    axes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _check_sizes(self, ("aligned", "independent"))
        if self.kind == "aligned":
            require(self.k <= self.d, "d", self.d, f"at least k = {self.k}: output j looks at input j")
        if self.axes is not None:
            inside = isinstance(self.axes, tuple) and len(set(self.axes)) == len(self.axes) > 0
            inside = inside and all(isinstance(i, int) and 0 <= i < self.d for i in self.axes)
            require(inside, "axes", self.axes, f"None, or a tuple of different input numbers below d = {self.d}")


def _normal(gen: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=gen, dtype=torch.float64)


def _teacher(config: TeacherConfig, kernel: Kernel) -> Particles:
    gen = generator(config.seed, "teacher")
    n, d, k = config.n, config.d, config.k
    w, a = _normal(gen, n, d), _normal(gen, n, k)
    if config.kind == "random":
        w *= config.size / d**0.5
    elif config.kind == "axes":
        w, a = config.size * torch.eye(n, d, dtype=torch.float64), torch.eye(n, k, dtype=torch.float64) * n
    else:
        w *= config.size / w.norm(dim=1, keepdim=True)
        affine, _ = torch.linalg.qr(torch.cat([w, torch.ones(n, 1, dtype=torch.float64)], dim=1))
        a -= affine @ (affine.T @ a)
    drawn = Particles(a[None], w[None], uniform(n))
    if config.spectrum is None:
        return drawn
    root = torch.tensor(config.spectrum, dtype=torch.float64).sqrt()
    return drawn._replace(a=whitened(kernel, drawn, "the teacher's covariance").a * root)


def _check_alike(configs: Sequence[TeacherConfig] | Sequence[InitConfig]) -> None:
    require_members("configs", configs)
    sizes = {(c.n, c.d, c.k) for c in configs}
    require(len(sizes) == 1, "configs", sizes, "alike in n, d and k")


def teachers(configs: Sequence[TeacherConfig], kernel: Kernel) -> Particles:
    """An ensemble of teachers, one per config; they must agree in n, d and k.

    >>> from icl_lib.mean_field.kernels import Erf
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2, spectrum=(1.0, 0.5))], Erf())
    >>> teacher.a.shape, teacher.w.shape
    (torch.Size([1, 2, 2]), torch.Size([1, 2, 4]))
    >>> torch.allclose(covariance(Erf(), teacher, teacher)[0], torch.tensor([1.0, 0.5]).double().diag())
    True
    """
    _check_alike(configs)
    return stack([_teacher(c, kernel) for c in configs])


def _start(config: InitConfig) -> Particles:
    require_memory("n", config.n, 16.0 * config.n * (config.d + config.k))
    gen = generator(config.seed, "particles")
    w, a = _normal(gen, config.n, config.d), _normal(gen, config.n, config.k)
    if config.axes is None:
        w *= config.size / config.d**0.5
    else:
        mask = torch.zeros(config.d, dtype=w.dtype)
        mask[list(config.axes)] = config.size / len(config.axes) ** 0.5
        w *= mask
    if config.kind == "aligned":
        a += w[:, : config.k].tanh()
    a, w = twinned(a, config.seed), twinned(w, config.seed)
    return Particles(a[None], w[None], uniform(config.n))


def initial_particles(configs: Sequence[InitConfig]) -> Particles:
    """An ensemble of starts, one per config; they must agree in n, d and k.

    >>> mu = initial_particles([InitConfig(n=50, d=4, k=2, seed=seed) for seed in range(3)])
    >>> mu.a.shape, mu.w.shape, round(float(mu.p.sum(-1)[0]), 6)
    (torch.Size([3, 50, 2]), torch.Size([3, 50, 4]), 1.0)
    """
    _check_alike(configs)
    return stack([_start(c) for c in configs])
