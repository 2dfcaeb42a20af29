"""PWGF (Yamamoto, Kim & Suzuki 2025) as a stepper of the flow at infinite prompts, counted in gradients (question Q11).

Published: where |grad dL/dmu| in L2(mu) is at most epsilon and a waiting time has passed, every particle jumps by
eta xi(theta), xi from a Gaussian process with the operator H_mu^2; if L then falls by no more than a threshold within a
given time, the measure before the jump is returned. Steps are explicit Euler, each at the price of one gradient, and a
draw of the process costs two (``draw_process``). What the jump is made of is ours to vary; its size is that of H_mu^2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.changes import DISTANCE, displace, draw_process, isotropic
from icl_lib.mean_field.integrate import euler, speed2
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import velocity, velocity_at
from icl_lib.mean_field.measure import Particles, covariance
from icl_lib.validate import require, require_choice, require_integer, require_number

KINDS = ("none", "guided", "isotropic", "negative part", "positive part")


@dataclass(frozen=True)
class Pwgf:
    """The algorithm and its thresholds.

    Attributes:
        kind: covariance of the jump. "guided": H_mu^2, published. "negative part" and "positive part" of H_mu, by
            `lanczos` applications of H_mu, two gradients each. "isotropic": white, at no price. "none": no jump.
        eta: size; the root mean square displacement is eta |xi| for the draw xi of H_mu^2, whatever the kind.
        epsilon: norm of the gradient that triggers a jump.
        wait: steps between two jumps, and after a jump until it is judged.
        least_fall: by which L has to fall in that time, or the algorithm ends.
        dt: length of a step.
        n_gradients: price at which a run ends.
    """

    kind: str = "guided"
    eta: float = 0.015
    epsilon: float = 0.01
    wait: int = 100
    least_fall: float = 1e-3
    dt: float = 0.5
    n_gradients: int = 300
    lanczos: int = 12

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        for name in ("eta", "epsilon", "dt"):
            require_number(name, getattr(self, name), low=1e-12, allowed="a finite number above 0")
        require_number("least_fall", self.least_fall, low=0)
        for name in ("wait", "n_gradients", "lanczos"):
            require_integer(name, getattr(self, name), 1)

    @property
    def price(self) -> int:
        """Gradients that a jump costs."""
        return {"none": 0, "isotropic": 0, "guided": 2}.get(self.kind, 2 * self.lanczos)


class Run(NamedTuple):
    """One run: particles at the end, L at each gradient with the price so far, price at the jumps, whether it ended itself."""

    mu: Particles
    spent: Float[Tensor, " T"]
    losses: Float[Tensor, " T"]
    jumps: list[int]
    ended: bool


def applied(kernel: Kernel, teacher: Particles, mu: Particles, v: Float[Tensor, "1 N q"]) -> Float[Tensor, "1 N q"]:
    """S v, S_ij = (p_i p_j)^{1/2} H_mu(theta_i, theta_j), by a central difference of the velocity field: two gradients."""
    root = mu.p.sqrt()[..., None]
    way = v / root
    h = DISTANCE / v.square().sum().sqrt()
    sides = (mu.moved_to(mu.theta + side * way) for side in (h, -h))
    ends = [velocity_at(kernel, teacher, moved, mu.a, mu.w) for moved in sides]
    return root * (ends[1] - ends[0]) / (2 * h)


def lanczos(
    apply: Callable[[Tensor], Tensor], z: Float[Tensor, "1 N q"], of: Callable[[Tensor], Tensor], steps: int
) -> Float[Tensor, "1 N q"]:
    """f(S) z in the Krylov space of S and z, with all vectors kept orthogonal; ends early where that space is invariant.

    >>> z = torch.ones(1, 3, 1).double()
    >>> s = torch.tensor([-1.0, 2.0, 3.0]).double()[None, :, None]
    >>> lanczos(lambda v: s * v, z, lambda x: (-x).clamp(min=0), 3).flatten().abs().round(decimals=6).tolist()
    [1.0, 0.0, 0.0]
    """
    basis, diagonal, off = [z / z.norm()], list[Tensor](), list[Tensor]()
    for step in range(steps):
        new = apply(basis[-1])
        diagonal.append((basis[-1] * new).sum())
        for _ in range(2):
            new = new - sum((q * new).sum() * q for q in basis)
        if step == steps - 1 or new.norm() < 1e-6 * diagonal[0].abs():
            break
        off.append(new.norm())
        basis.append(new / new.norm())
    t = torch.diag(torch.stack(diagonal))
    if off:
        t = t + torch.diag(torch.stack(off), 1) + torch.diag(torch.stack(off), -1)
    values, vectors = torch.linalg.eigh(t)
    inside = vectors @ (of(values) * vectors[0]) * z.norm()
    return sum((c * q for c, q in zip(inside, basis, strict=True)), torch.zeros_like(z))


def jump(config: Pwgf, kernel: Kernel, teacher: Particles, mu: Particles, seed: int, step: int = 0) -> Particles:
    """The particles after a jump; all kinds are made from the same normal numbers, stream (seed, "perturb", step).

    The size is that of the guided draw. Other kinds are not charged for learning it: any constant would do in its place.
    """
    guided = draw_process(kernel, teacher, mu, [seed], step)
    size = config.eta * float((mu.p * guided.square().sum(-1)).sum().sqrt())
    if config.kind == "guided":
        return displace(mu, guided, size)
    z = isotropic(mu, [seed], step)
    if config.kind == "isotropic":
        return displace(mu, z, size)
    sign = -1 if config.kind == "negative part" else 1
    part = lanczos(
        lambda v: applied(kernel, teacher, mu, v), z, lambda x: (sign * x).clamp(min=0).sqrt(), config.lanczos
    )
    return displace(mu, part / mu.p.sqrt()[..., None], size)


def pwgf(config: Pwgf, kernel: Kernel, teacher: Particles, mu: Particles, seed: int, stop_below: float = 0.0) -> Run:
    """Run the algorithm on one member until it ends, its price is spent, or L is below `stop_below`.

    Raises what ``velocity`` and ``draw_process`` raise.
    """
    require(len(mu.p) == 1, "mu", tuple(mu.a.shape), "an ensemble of one")
    require_integer("seed", seed, 0)
    c, spent, since, steps = covariance(kernel, teacher, teacher), 0, config.wait, 0
    before: tuple[Particles, float] | None = None
    history: list[tuple[int, float]] = []
    jumps: list[int] = []
    dt = torch.full((1,), config.dt, dtype=mu.a.dtype)
    while spent < config.n_gradients:
        v = velocity(kernel, teacher, mu, c)
        at, spent, steps = float(v.loss), spent + 1, steps + 1
        history.append((spent, at))
        if at < stop_below:
            break
        if before is not None and since >= config.wait:
            if before[1] - at <= config.least_fall:
                return Run(before[0], *_columns(history), jumps, True)
            before = None
        still = math.sqrt(float(speed2(mu, v.a, v.w))) <= config.epsilon
        if config.kind != "none" and still and since >= config.wait:
            before, since, spent = (mu, at), 0, spent + config.price
            mu = jump(config, kernel, teacher, mu, seed, steps)
            jumps.append(spent)
        else:
            mu, since = euler(mu, v.a, v.w, dt), since + 1
    return Run(mu, *_columns(history), jumps, False)


def _columns(history: list[tuple[int, float]]) -> tuple[Tensor, Tensor]:
    spent, losses = torch.tensor(history, dtype=torch.float64).T
    return spent, losses


def price_to(run: Run, level: float) -> float:
    """Gradients until L is first below `level`, linear between two of them; inf if never."""
    below = run.losses < level
    if not below.any():
        return math.inf
    i = int(below.int().argmax())
    if i == 0:
        return float(run.spent[0])
    share = (run.losses[i - 1] - level) / (run.losses[i - 1] - run.losses[i])
    return float(run.spent[i - 1] + share * (run.spent[i] - run.spent[i - 1]))


def predicted_lead(n: int, q: int, eigenvalues: Float[Tensor, " P"]) -> float:
    """1/2 ln(N q) + ln(|lambda| / |S|_F), lambda the least eigenvalue of S: how much earlier, in growth times."""
    return 0.5 * math.log(n * q) + math.log(float(-eigenvalues.min() / eigenvalues.norm()))
