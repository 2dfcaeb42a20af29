"""Birth-death: mass is re-injected from a reference pi at rate gamma (Kim & Suzuki 2024, rate away from critical points).

The measure follows dmu/dt = (gradient flow) + gamma (pi - mu). On particles every one is replaced by a draw from pi with
probability 1 - exp(-gamma dt) in a step of length dt, which has this limit for many particles and small dt.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from icl_lib.mean_field.flows import Change, State
from icl_lib.mean_field.measure import InitConfig, Particles, initial_particles
from icl_lib.rng import generator, stream_seed
from icl_lib.validate import require, require_integer, require_number


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


def _born(rate: Tensor, dt: float, n: int, seed: int, step: int) -> Bool[Tensor, " N"]:
    draws = torch.rand(n, generator=generator(seed, "births", step), dtype=rate.dtype)
    return draws < -torch.expm1(-rate * dt)


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
        born = torch.stack([_born(g, dt, n, s, state.step) for g, s in zip(gamma, seeds, strict=True)])
        a, w = (torch.where(born[..., None], new, old) for new, old in zip(fresh[:2], mu[:2], strict=True))
        return mu._replace(a=a, w=w)

    return change
