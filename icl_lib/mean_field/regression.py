"""In-context regression prompts: x ~ N(0, I_d), y a function of f°(x) and of the prompt's own vector v.

The family that models train on is y = v^T f°(x) with v ~ N(0, I_k0) (Kim & Suzuki 2024, setting); others only test what
was learned. A new one is a function of f° at m inputs of P prompts and each prompt's v, under a name in ``TASKS``::

    TASKS["product"] = lambda f, v: f[..., 0] * f[..., 1]

Prompts are drawn batch by batch, each from its own stream, and never kept: 10 000 of them would take 800 MB.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.activations import activation, network
from icl_lib.mean_field.measure import Particles
from icl_lib.rng import generator
from icl_lib.validate import require, require_choice, require_integer, require_number

LAWS = ("gaussian", "sphere", "sign")
CENTRE = 2**17  # inputs over which the mean of a centred task is taken

Task = Callable[[Float[Tensor, "P m k0"], Float[Tensor, "P k0"]], Float[Tensor, "P m"]]


def linear(f: Float[Tensor, "P m k0"], v: Float[Tensor, "P k0"]) -> Float[Tensor, "P m"]:
    """v^T f°."""
    return (f @ v[..., None])[..., 0]


def largest(f: Float[Tensor, "P m k0"], v: Float[Tensor, "P k0"]) -> Float[Tensor, "P m"]:
    """max_j f°_j."""
    return f.amax(-1)


def squared_norm(f: Float[Tensor, "P m k0"], v: Float[Tensor, "P k0"]) -> Float[Tensor, "P m"]:
    """|f°|^2."""
    return f.square().sum(-1)


TASKS: dict[str, Task] = {"linear": linear, "max": largest, "squared_norm": squared_norm}


@dataclass(frozen=True)
class PromptConfig:
    """The law of prompts.

    Attributes:
        task: a name in ``TASKS``.
        n_context: n, labelled tokens of a prompt.
        n_query: queries that share a prompt's contexts. Our choice: the paper does not say; each costs as much as a context.
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
        """A batch; v and queries do not depend on ``n_context`` and ``noise``, so that their effect is seen in pairs."""
        require_integer("n_prompts", n_prompts, 1)
        c, d, gen = self.config, self.w.shape[1], generator(self.seed, purpose, step)
        v = task_vectors(c.law, (n_prompts, self.a.shape[1]), gen).to(self.dtype)
        x_query = torch.randn(n_prompts, c.n_query, d, generator=gen, dtype=self.dtype)
        x = torch.randn(n_prompts, c.n_context, d, generator=gen, dtype=self.dtype)
        y, y_query = (TASKS[c.task](self.features(part), v) - self.mean for part in (x, x_query))
        if c.noise:
            y = y + c.noise * torch.randn(y.shape, generator=gen, dtype=self.dtype)
        return Prompts(x, y, x_query, y_query)
