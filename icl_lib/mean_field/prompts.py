"""What is learned in context: targets f° with a stated linear share, and regression prompts drawn from a teacher.

Prompts: x ~ N(0, I_d), y a function of f°(x) and of the prompt's own vector v. Models train on y = v^T f°(x) with
v ~ N(0, I_k0) (Kim & Suzuki 2024, setting); other families only test what was learned. A new one is a function of f° at
m inputs of P prompts and each prompt's v, under a name in ``TASKS``::

    TASKS["product"] = lambda f, v: f[..., 0] * f[..., 1]

Prompts are drawn batch by batch, each from its own stream, and never kept: 10 000 of them would take 800 MB.

Targets: f° = sqrt(1 - s) g + sqrt(s) l, both with covariance 1. g is the "nonlinear" teacher of ``measure.py``,
orthogonal to every affine function of x for any activation. l is nearly linear: l_j is proportional to
sigma(e u_j^T x) - sigma(-e u_j^T x), two neurons with a short weight e and orthonormal u_j; at e = 1/4 less than 1/5000
of a sigmoid's l is not linear (of a ReLU's nothing is). f° is whitened as a whole, since g is orthogonal to the linear
part of l only. Derived by us.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import Kernel, activation, network
from icl_lib.mean_field.measure import Particles, TeacherConfig, stack, teachers, uniform, whitened
from icl_lib.rng import generator
from icl_lib.validate import require, require_choice, require_integer, require_number

LAWS = ("gaussian", "sphere", "sign")
CENTRE = 2**17  # inputs over which the mean of a centred task is taken
Task = Callable[[Float[Tensor, "P m k0"], Float[Tensor, "P k0"]], Float[Tensor, "P m"]]
TASKS: dict[str, Task] = {
    "linear": lambda f, v: (f @ v[..., None])[..., 0],  # v^T f°
    "max": lambda f, v: f.amax(-1),  # over outputs j of f°_j
    "squared_norm": lambda f, v: f.square().sum(-1),  # |f°|^2
}


@dataclass(frozen=True)
class MixConfig:
    """A target between linear and nonlinear.

    Attributes:
        linear: s, from 0 (purely nonlinear) to 1 (linear up to what ``short`` leaves).
        nonlinear: g; its kind must be "nonlinear" and its spectrum (1, .., 1). Its seed is that of the u_j, too.
        short: e.
    """

    linear: float
    nonlinear: TeacherConfig
    short: float = 0.25

    def __post_init__(self) -> None:
        g = self.nonlinear
        require(isinstance(g, TeacherConfig), "nonlinear", g, "a TeacherConfig")
        require_number("linear", self.linear, 0, 1)
        require_number("short", self.short, 1e-3, 10)
        require(g.kind == "nonlinear", "nonlinear.kind", g.kind, "'nonlinear'")
        require(g.spectrum == (1.0,) * g.k, "nonlinear.spectrum", g.spectrum, f"{(1.0,) * g.k}: g has covariance 1")
        require(g.k <= g.d, "nonlinear.k", g.k, f"at most d = {g.d}: each output has a direction of its own")


def _pairs(config: MixConfig, kernel: Kernel) -> Particles:
    """l, with 2 k neurons."""
    k, d = config.nonlinear.k, config.nonlinear.d
    drawn = torch.randn(d, k, generator=generator(config.nonlinear.seed, "linear part"), dtype=torch.float64)
    u, eye = config.short * torch.linalg.qr(drawn)[0].mT, torch.eye(k, dtype=torch.float64)
    pairs = Particles(torch.cat([eye, -eye])[None], torch.cat([u, -u])[None], uniform(2 * k))
    return whitened(kernel, pairs, "the linear part's covariance")


def _mixed(config: MixConfig, kernel: Kernel) -> Particles:
    parts = teachers([config.nonlinear], kernel), _pairs(config, kernel)
    shares = (1 - config.linear) ** 0.5, config.linear**0.5
    n = config.nonlinear.n + 2 * config.nonlinear.k
    a = torch.cat([share * m.a * m.p[..., None] * n for share, m in zip(shares, parts, strict=True)], dim=1)
    mixed = Particles(a, torch.cat([m.w for m in parts], dim=1), uniform(n))
    return whitened(kernel, mixed, "the target's covariance")


def mixed_teachers(configs: Sequence[MixConfig], kernel: Kernel) -> Particles:
    """An ensemble of targets, n + 2 k neurons each and covariance 1; they must agree in n, d and k."""
    return stack([_mixed(c, kernel) for c in configs])


@dataclass(frozen=True)
class PromptConfig:
    """The law of prompts.

    Attributes:
        task: a name in ``TASKS``.
        n_context: n, labelled tokens of a prompt.
        n_query: queries that share a prompt's contexts (our choice); each costs as much as a context.
        noise: standard deviation of the noise on context labels. Targets of queries have none.
        law: of v, one of ``LAWS``, see ``task_vectors``.
        centred: subtract E[y] over inputs, found from ``CENTRE`` of them and 0 for "linear".
    """

    task: str = "linear"
    n_context: int = 1000
    n_query: int = 8
    noise: float = 0.0
    law: str = "gaussian"
    centred: bool = False

    def __post_init__(self) -> None:
        require_choice("task", self.task, tuple(TASKS))
        require_integer("n_context", self.n_context, 1)
        require_integer("n_query", self.n_query, 1)
        require_number("noise", self.noise, 0, 1e6)
        require_choice("law", self.law, LAWS)
        require(isinstance(self.centred, bool), "centred", self.centred, "True or False")


class Prompts(NamedTuple):
    """A batch of P prompts of one member: contexts with labels, queries with targets."""

    x: Float[Tensor, "P n d"]
    y: Float[Tensor, "P n"]
    x_query: Float[Tensor, "P q d"]
    y_query: Float[Tensor, "P q"]


def task_vectors(law: str, shape: tuple[int, int], gen: torch.Generator) -> Float[Tensor, "P k0"]:
    """v of P prompts: "gaussian", "sphere" (of radius k0^{1/2}) or "sign" (entries +-1); all have E[v v^T] = 1."""
    require_choice("law", law, LAWS)
    v = torch.randn(shape, generator=gen, dtype=torch.float64)
    if law == "sphere":
        v *= shape[1] ** 0.5 / v.norm(dim=1, keepdim=True)
    return v.sign() if law == "sign" else v


class Source:
    """Prompts of one teacher and seed.

    Args:
        config: the law.
        teacher: an ensemble of one.
        act: sigma of the teacher, by name.
        seed: of the streams (seed, purpose, step): purpose "prompts" to train, "eval" to test.
        dtype: of the prompts.
    """

    def __init__(
        self, config: PromptConfig, teacher: Particles, act: str, seed: int, dtype: torch.dtype = torch.float32
    ) -> None:
        require(len(teacher.p) == 1, "teacher", len(teacher.p), "an ensemble of one member")
        require_integer("seed", seed, 0)
        require_choice("dtype", str(dtype), ("torch.float32", "torch.float64"))
        self.config, self.seed, self.dtype, self.activation = config, seed, dtype, activation(act)
        self.a, self.w = teacher.weighted[0], teacher.w[0]
        self.mean = self._mean() if config.centred else 0.0

    def features(self, x: Float[Tensor, "*m d"]) -> Float[Tensor, "*m k0"]:
        """f°(x)."""
        return network(self.activation, self.a, self.w, x)

    def _mean(self) -> float:
        if self.config.task == "linear":
            return 0.0
        gen = generator(self.seed, "centre")
        f = self.features(torch.randn(1, CENTRE, self.w.shape[1], generator=gen, dtype=torch.float64))
        v = task_vectors(self.config.law, (1, f.shape[2]), gen)
        return float(TASKS[self.config.task](f, v).mean())

    def draw(self, n_prompts: int, purpose: str, step: int = 0) -> Prompts:
        """A batch; v and queries do not depend on ``n_context`` and ``noise``, so that effects are seen in pairs."""
        require_integer("n_prompts", n_prompts, 1)
        c, d, gen = self.config, self.w.shape[1], generator(self.seed, purpose, step)
        v = task_vectors(c.law, (n_prompts, self.a.shape[1]), gen).to(self.dtype)
        x_query = torch.randn(n_prompts, c.n_query, d, generator=gen, dtype=self.dtype)
        x = torch.randn(n_prompts, c.n_context, d, generator=gen, dtype=self.dtype)
        y, y_query = (TASKS[c.task](self.features(part), v) - self.mean for part in (x, x_query))
        if c.noise:
            y = y + c.noise * torch.randn(y.shape, generator=gen, dtype=self.dtype)
        return Prompts(x, y, x_query, y_query)
