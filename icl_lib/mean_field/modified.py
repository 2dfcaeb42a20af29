"""The modified dynamics on trained networks: births and deaths (``births.py``), and perturbations (``perturb.py``).

Both are changes of particles between two steps, as for ``flow``. Both are annealed, since either puts a floor under the loss
while it is on.
"""

import math
from dataclasses import dataclass, replace

import torch

from icl_lib.mean_field.births import BirthDeath, births
from icl_lib.mean_field.flows import State
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles
from icl_lib.mean_field.perturb import displace, isotropic
from icl_lib.mean_field.process import draw_process
from icl_lib.validate import require, require_choice, require_integer, require_number


@dataclass(frozen=True)
class Modification:
    """What is done to the particles, and until when.

    Attributes:
        births: rate, reference and annealing of births; None for none. Its rate is per unit of time.
        perturbation: "none", "isotropic", or "gaussian_process" with the covariance of ``perturb`` (at infinite prompts).
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
    if config.perturbation == "isotropic":
        return displace(mu, isotropic(mu, [seed], step), budget)
    return displace(mu, draw_process(kernel, teacher, mu, [seed], step), budget)


def without(config: Modification) -> Modification:
    """The same with births of rate 0 and no perturbation: a control that changes nothing."""
    still = None if config.births is None else replace(config.births, rate=0.0)
    return replace(config, births=still, perturbation="none")
