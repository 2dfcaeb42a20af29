"""Modifications of plain descent at equal compute: every step costs one exact gradient (question Q8; ours).

The step is on particles of equal mass: v = -grad dL/dmu at each of them, which is N times the gradient of L. Momentum is
heavy-ball, Adam that of Kingma and Ba (2015). Births come after a step, as in ``births``; dead neurons are drawn again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.changes import BirthDeath, births, displace, isotropic
from icl_lib.mean_field.integrate import State
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import (
    InitConfig,
    NonFinite,
    Particles,
    SingularCovariance,
    check_particles,
    covariance,
    initial_particles,
    member,
    stack,
)
from icl_lib.rng import generator, stream_seed
from icl_lib.validate import require, require_choice, require_integer, require_number

METHODS = ("plain", "momentum", "adam")


@dataclass(frozen=True)
class Descent:
    """One way to descend.

    Attributes:
        method: "plain", "momentum" (v <- beta v + velocity) or "adam" (with bias correction).
        rate: step size; of "adam" the length of a step in each coordinate.
        beta, beta2: decay of the mean of the velocity and, "adam" only, of its square.
        births: births after every step, each of which counts as one unit of time; None for none.
        noise: root mean square of an isotropic displacement after every step; falls linearly to 0 at the last step.
        resample: law from which dead neurons are drawn again; None for none.
        every, dead: a neuron with |w| below `dead` is dead; looked for after the first step and then every so many.
        shuffled: a control; signs of the step are permuted over the particles.
    """

    method: str = "plain"
    rate: float = 0.1
    beta: float = 0.9
    beta2: float = 0.999
    births: BirthDeath | None = None
    noise: float = 0.0
    resample: InitConfig | None = None
    every: int = 10
    dead: float = 0.1
    shuffled: bool = False

    def __post_init__(self) -> None:
        require_choice("method", self.method, METHODS)
        require_number("rate", self.rate, low=1e-12, allowed="a finite number above 0")
        for name in ("beta", "beta2"):
            require_number(name, getattr(self, name), 0, 1 - 1e-9, "in [0, 1)")
        for name in ("noise", "dead"):
            require_number(name, getattr(self, name), low=0)
        require_integer("every", self.every, 1)


def drawn_again(config: InitConfig, mu: Particles, dead: float, seeds: Sequence[int], step: int) -> Particles:
    """Neurons with |w| < `dead` replaced by draws of a law; streams (seed, "resample", step)."""
    n, k, d = mu.a.shape[1], mu.a.shape[2], mu.w.shape[2]
    fresh = initial_particles([replace(config, n=n, d=d, k=k, seed=stream_seed(s, "resample", step)) for s in seeds])
    gone = (mu.w.norm(dim=2) < dead)[..., None]
    return mu._replace(a=torch.where(gone, fresh.a, mu.a), w=torch.where(gone, fresh.w, mu.w))


def _after(config: Descent, mu: Particles, seeds: Sequence[int], step: int, n_steps: int) -> Particles:
    """What happens to the particles after a step: births, noise, dead neurons drawn again."""
    if config.births is not None:
        now = torch.full((len(mu.p),), float(step), dtype=mu.a.dtype)
        mu = births(config.births, seeds)(State(mu, now, torch.zeros_like(now), step), 1.0)
    if config.noise and step < n_steps:
        mu = displace(mu, isotropic(mu, seeds, step), config.noise * (1 - step / n_steps))
    if config.resample is not None and (step - 1) % config.every == 0:
        mu = drawn_again(config.resample, mu, config.dead, seeds, step)
    return mu


def _signs(step: Tensor, seeds: Sequence[int], number: int) -> Tensor:
    """The step with the signs of its rows permuted over particles, coordinate by coordinate."""
    n = step.shape[1]
    orders = torch.stack([torch.randperm(n, generator=generator(s, "shuffle", number)) for s in seeds])
    return step.abs() * step.sign().gather(1, orders[..., None].expand_as(step))


def _descend(
    kernel: Kernel, teacher: Particles, mu: Particles, config: Descent, n_steps: int, seeds: Sequence[int]
) -> tuple[Particles, Float[Tensor, "T E"]]:
    c, losses = covariance(kernel, teacher, teacher), []
    mean = square = torch.zeros_like(mu.theta)
    for number in range(1, n_steps + 1):
        v = velocity(kernel, teacher, mu, c)
        losses.append(v.loss)
        mean, square, step = _step(config, mean, square, torch.cat([v.a, v.w], 2), number)
        step = _signs(step, seeds, number) if config.shuffled else step
        mu = _after(config, mu.moved_to(mu.theta + step), seeds, number, n_steps)
    return mu, torch.stack([*losses, velocity(kernel, teacher, mu, c).loss])


def descend(
    kernel: Kernel, teacher: Particles, mu: Particles, config: Descent, n_steps: int, seeds: Sequence[int]
) -> tuple[Particles, Float[Tensor, "T E"]]:
    """Take n_steps steps; returns the particles and the loss before each step and at the end.

    A member that diverges (not finite, or a singular covariance) is returned as it started, with infinite losses.

    >>> from icl_lib.mean_field.kernels import Erf
    >>> from icl_lib.mean_field.measure import InitConfig, TeacherConfig, teachers
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2)], Erf())
    >>> start = initial_particles([InitConfig(n=20, d=4, k=2)])
    >>> _, losses = descend(Erf(), teacher, start, Descent("adam", 0.05), 20, [0])
    >>> losses.shape, bool(losses[-1] < losses[0])
    (torch.Size([21, 1]), True)
    """
    check_particles(mu)
    require_integer("n_steps", n_steps, 1)
    require(len(seeds) == len(mu.p), "seeds", list(seeds), f"one per member, {len(mu.p)}")
    try:
        return _descend(kernel, teacher, mu, config, n_steps, seeds)
    except (NonFinite, SingularCovariance):
        if len(seeds) == 1:
            return mu, torch.full((n_steps + 1, 1), torch.inf, dtype=mu.a.dtype)
    ends = [descend(kernel, member(teacher, e), member(mu, e), config, n_steps, [s]) for e, s in enumerate(seeds)]
    return stack([end for end, _ in ends]), torch.cat([losses for _, losses in ends], dim=1)


def _step(config: Descent, mean: Tensor, square: Tensor, v: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    if config.method == "plain":
        return mean, square, config.rate * v
    if config.method == "momentum":
        mean = config.beta * mean + v
        return mean, square, config.rate * mean
    mean = config.beta * mean + (1 - config.beta) * v
    square = config.beta2 * square + (1 - config.beta2) * v.square()
    unbiased = mean / (1 - config.beta**number), square / (1 - config.beta2**number)
    return mean, square, config.rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)


def gradients_to(losses: Float[Tensor, "T E"], levels: Float[Tensor, " E"]) -> Float[Tensor, " E"]:
    """How many gradients were taken until the loss was below its level for the first time; inf if never.

    >>> gradients_to(torch.tensor([[4.0], [3.0], [1.0]]), torch.tensor([2.0])).tolist()
    [2.0]
    """
    below = losses < levels
    first = below.int().argmax(0).to(losses.dtype)
    return torch.where(below.any(0), first, torch.inf)


def chosen_rate(scores: dict[float, float]) -> float:
    """The rate of least score (mean log of gradients, or of the loss at the end); the smaller of two equal ones.

    >>> chosen_rate({0.1: 2.0, 0.3: 1.0, 1.0: float("inf")})
    0.3
    """
    require(len(scores) > 0, "scores", len(scores), "at least one rate")
    return min(sorted(scores), key=lambda rate: scores[rate])
