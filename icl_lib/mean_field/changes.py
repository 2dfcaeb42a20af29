"""What can change particles between two steps: random displacements, births and deaths, or both, annealed.

Displacements. Kim & Suzuki 2024 perturb near a saddle by a Gaussian process whose covariance comes from H_mu. We take
int H_mu(theta, .) H_mu(., theta') dmu (our reading), which is positive by construction: the displacement of particle i
is sum_j H_mu(theta_i, theta_j) sqrt(p_j) z_j with standard normal z. ``critical_points.gaussian_process`` draws it
through the matrix H. ``draw_process`` does without, in time N^2 and memory N in place of (N (k + d))^2: the sum is how
grad dL/dmu changes at theta_i, held in place, when every particle j of mu moves along z_j / sqrt(p_j) (derived by us),
and a central difference of the exact velocity field gives it to some eight digits. ``displace`` scales a process and
isotropic noise to one Wasserstein budget, so that they differ in direction and in nothing else.

Birth-death. Mass is re-injected from a reference pi at rate gamma (Kim & Suzuki 2024, rate away from critical points):
dmu/dt = (gradient flow) + gamma (pi - mu). In a step of length dt every particle is replaced by a draw from pi with
probability 1 - exp(-gamma dt), which has this limit for many particles and small dt.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.integrate import Change, State
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import velocity_at
from icl_lib.mean_field.measure import InitConfig, Particles, covariance, initial_particles, inverse_root
from icl_lib.rng import generator, stream_seed
from icl_lib.twin import twinned
from icl_lib.validate import require, require_choice, require_integer, require_number

DISTANCE = 1e-4  # root mean square displacement of the two measures of a difference


def isotropic(mu: Particles, seeds: Sequence[int], step: int = 0) -> Float[Tensor, "E N q"]:
    """Independent standard normal displacements of (a, w), q = k + d; stream (seed, "perturb", step) of each member."""
    require(len(seeds) == len(mu.p), "seeds", list(seeds), f"one per member, {len(mu.p)}")
    shape = (mu.a.shape[1], mu.a.shape[2] + mu.w.shape[2])
    draws = [torch.randn(shape, generator=generator(s, "perturb", step), dtype=mu.a.dtype) for s in seeds]
    return torch.stack(draws)


def displace(mu: Particles, displacement: Float[Tensor, "E N q"], budget: float) -> Particles:
    """Particles moved so that each member's root mean square displacement, weighted by p, is ``budget``.

    This is an upper bound on the 2-Wasserstein distance, and equal to it for small budgets.

    Raises:
        ConfigError: a negative budget, or a displacement that is zero or not finite.

    >>> from icl_lib.mean_field.measure import InitConfig, initial_particles
    >>> mu = initial_particles([InitConfig(n=50, d=4, k=2)])
    >>> moved = displace(mu, isotropic(mu, seeds=[0]), budget=0.1)
    >>> square = (moved.a - mu.a).square().sum(-1) + (moved.w - mu.w).square().sum(-1)
    >>> round(float((mu.p * square).sum().sqrt()), 6)
    0.1
    """
    require_number("budget", budget, low=0)
    size = (mu.p * displacement.square().sum(-1)).sum(-1).sqrt()
    ok = bool((size > 0).all()) and bool(size.isfinite().all())
    require(ok, "displacement", size.tolist(), "finite and not zero (sizes of the members)")
    return mu.moved_to(mu.theta + twinned(displacement * (budget / size)[:, None, None], 0))


def draw_process(
    kernel: Kernel, teacher: Particles, mu: Particles, seeds: Sequence[int], step: int = 0
) -> Float[Tensor, "E N q"]:
    """``gaussian_process`` from the same numbers, up to the error of the difference; it raises the same."""
    inverse_root(covariance(kernel, mu, mu), "Sigma_mumu")  # the displaced measures hide that B is singular
    z = isotropic(mu, seeds, step)
    direction = z / mu.p.sqrt()[..., None]
    h = DISTANCE / (mu.p * direction.square().sum(-1)).sum(-1).sqrt()[:, None, None]
    sides = (mu.moved_to(mu.theta + side * direction) for side in (h, -h))
    ends = [velocity_at(kernel, teacher, moved, mu.a, mu.w) for moved in sides]
    return (ends[1] - ends[0]) / (2 * h)


def noisy_copies(teacher: Particles, copies: int, noise: float, seeds: Sequence[int]) -> Particles:
    """Every neuron of the teacher `copies` times, moved by `noise` in root mean square: A is well conditioned.

    Member e draws from the stream "perturb" of seeds[e].
    """
    require_integer("copies", copies, 1)
    a, w, p = (part.repeat_interleave(copies, dim=1) for part in teacher)
    mu = Particles(a, w, p / copies)
    return displace(mu, isotropic(mu, seeds), noise)


@dataclass(frozen=True)
class BirthDeath:
    """Rate, reference, and for how long.

    Attributes:
        rate: gamma, births per particle and unit of time.
        reference: pi, as an initialisation (its n, d, k and seed are not used).
        anneal_until: gamma falls linearly to 0 at this time; inf for a constant rate, whose births put a floor under L.
    """

    rate: float = 0.1
    reference: InitConfig = field(default_factory=InitConfig)
    anneal_until: float = math.inf

    def __post_init__(self) -> None:
        require_number("rate", self.rate, low=0)
        require(isinstance(self.reference, InitConfig), "reference", self.reference, "an InitConfig")
        require_number("anneal_until", self.anneal_until, 1e-12, allowed="a finite number above 0", or_infinity=True)

    def at(self, time: Tensor) -> Tensor:
        """gamma at a time."""
        if self.anneal_until == math.inf:
            return torch.full_like(time, self.rate)
        return self.rate * (1 - time / self.anneal_until).clamp(min=0)


def births(config: BirthDeath, seeds: Sequence[int]) -> Change:
    """What ``flow`` does after each step; member e draws from the streams of seeds[e] alone."""
    for seed in seeds:
        require_integer("seeds", seed, 0)

    def change(state: State, dt: float) -> Particles:
        mu, gamma = state.mu, config.at(state.time)
        require(len(seeds) == len(mu.p), "seeds", list(seeds), f"one per member, {len(mu.p)}")
        n, d, k = mu.a.shape[1], mu.w.shape[2], mu.a.shape[2]
        fresh = initial_particles(
            [replace(config.reference, n=n, d=d, k=k, seed=stream_seed(s, "newborn", state.step)) for s in seeds]
        )
        draws = [torch.rand(n, generator=generator(s, "births", state.step), dtype=gamma.dtype) for s in seeds]
        born = torch.stack(draws) < -torch.expm1(-gamma * dt)[:, None]
        a, w = (torch.where(born[..., None], new, old) for new, old in zip(fresh[:2], mu[:2], strict=True))
        return mu._replace(a=a, w=w)

    return change


@dataclass(frozen=True)
class Modification:
    """What is done to the particles in training, and until when: it puts a floor under the loss while it is on.

    Attributes:
        births: rate, reference and annealing of births; None for none. Its rate is per unit of time.
        perturbation: "none", "isotropic", or "gaussian_process" by ``draw_process`` (at infinite prompts).
        budget: root mean square displacement of a perturbation, at time 0.
        every: time between two perturbations; of those due within one step only one is made.
        until: the budget falls linearly to 0 at this time.
    """

    births: BirthDeath | None = None
    perturbation: str = "none"
    budget: float = 0.1
    every: float = 10.0
    until: float = math.inf

    def __post_init__(self) -> None:
        require(
            self.births is None or isinstance(self.births, BirthDeath), "births", self.births, "a BirthDeath or None"
        )
        require_choice("perturbation", self.perturbation, ("none", "isotropic", "gaussian_process"))
        require_number("budget", self.budget, low=0)
        require_number("every", self.every, low=1e-9, allowed="a finite number above 0")
        require_number("until", self.until, low=1e-12, allowed="a finite number above 0", or_infinity=True)


def modify(
    config: Modification, kernel: Kernel, teacher: Particles, mu: Particles, seed: int, step: int, time: float, h: float
) -> Particles:
    """The particles of one member after step number `step`, which led from `time` to `time` + h; streams of `seed`."""
    require_integer("seed", seed, 0)
    if config.births is not None and h > 0:
        now = torch.tensor([time + h], dtype=mu.a.dtype)
        mu = births(config.births, [seed])(State(mu, now, torch.zeros_like(now), step), h)
    due = math.floor((time + h) / config.every) > math.floor(time / config.every)
    budget = config.budget * max(0.0, 1 - (time + h) / config.until)
    if config.perturbation == "none" or not due or budget == 0:
        return mu
    plain = config.perturbation == "isotropic"
    drawn = isotropic(mu, [seed], step) if plain else draw_process(kernel, teacher, mu, [seed], step)
    return displace(mu, drawn, budget)
