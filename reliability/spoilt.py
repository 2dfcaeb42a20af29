"""Data from which no solver can make a finite result: NaN, a covariance that cannot be inverted, an infinite setting."""

import math
from collections.abc import Callable
from functools import partial

import torch

from icl_lib.mean_field.changes import BirthDeath, displace, draw_process, isotropic
from icl_lib.mean_field.critical_points import gaussian_process
from icl_lib.mean_field.flows import joint_flow
from icl_lib.mean_field.hessian import extreme_eigenvalues
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import InitConfig
from icl_lib.mean_field.training import MODES
from reliability.solvers import (
    EYE,
    FAST,
    KERNEL,
    MU,
    NAN,
    NO_MU,
    NO_TEACHER,
    TEACHER,
    TWIN,
    joint,
    network,
    particles,
    relaxed,
    tail,
    with_nan,
    with_task,
)
from studies import K7 as tails
from studies.K2 import split_flow
from studies.K5 import velocity_in_a

# Particles and teacher; a start that is NaN is for solvers that move it.
DATA: dict[str, tuple] = {"NaN in the teacher": (MU, NO_TEACHER), "singular covariance": (TWIN, TEACHER)}
WITH_START: dict[str, tuple] = {"NaN in the start": (NO_MU, TEACHER), **DATA}
SPOILT: dict[str, Callable[[], object]] = {
    "one-layer ensemble: NaN in the patterns": partial(with_nan, "patterns"),
    "GPT-2: NaN in the weights": partial(with_nan, "GPT-2"),
    "residual stack: NaN in the weights": partial(with_nan, "residual stack"),
    **{
        f"particle flow, {method}: {what}": partial(particles, method, 1.0, *data)
        for method in ("euler", "rk4", "adaptive")
        for what, data in WITH_START.items()
    },
    **{
        f"{name}: {what}": partial(joint, solver, 1.0, *data)
        for name, solver in (("joint flow", joint_flow), ("split joint flow", split_flow))
        for what, data in {**WITH_START, "NaN in W": (MU, TEACHER, EYE * NAN)}.items()
    },
    "birth-death flow: NaN in the teacher": partial(particles, "euler", 1.0, MU, NO_TEACHER, FAST),
    "birth-death flow: infinite rate": lambda: particles("euler", born=BirthDeath(rate=math.inf)),
    **{
        f"Transformer of Part II, {mode}: {what}": partial(lambda mode, more: network(mode, **more()), mode, more)
        for mode in MODES
        for what, more in {
            "NaN in the labels": lambda: {"task": with_task()},
            "singular covariance": lambda: {"start": InitConfig(n=12, d=4, k=2, size=1e-9)},
        }.items()
        if (mode, what) != ("attention", "singular covariance")  # it has no features that could be dependent
    },
    **{
        f"tails, {method}: {what}": partial(tail, method, 1.0, *data)
        for method in tails.METHODS
        for what, data in DATA.items()
    },
    **{
        f"{name}: {what}": partial(call, *data)
        for what, data in DATA.items()
        for name, call in {
            "velocity": lambda mu, teacher: velocity(KERNEL, teacher, mu),
            "relaxation of W, Runge-Kutta": lambda mu, teacher: relaxed(mu, teacher, "rk4"),
            "relaxation of W, Radau": lambda mu, teacher: relaxed(mu, teacher, "radau"),
            "Gaussian process": lambda mu, teacher: gaussian_process(KERNEL, teacher, mu, [0]),
            "Gaussian process without its matrix": lambda mu, teacher: draw_process(KERNEL, teacher, mu, [0]),
            "spectrum of the flow": lambda mu, teacher: tails.flow_spectrum(KERNEL, teacher, mu),
            "extreme eigenvalues": lambda mu, teacher: extreme_eigenvalues(KERNEL, teacher, mu),
            "slope in a": lambda mu, teacher: velocity_in_a(KERNEL, teacher, mu, mu.w),
        }.items()
    },
    "displacement: of size zero": lambda: displace(MU, torch.zeros(1, 20, 6, dtype=torch.float64), 0.1),
    "displacement: NaN": lambda: displace(MU, torch.full((1, 20, 6), NAN, dtype=torch.float64), 0.1),
    "displacement: of infinite budget": lambda: displace(MU, isotropic(MU, [0]), math.inf),
}
