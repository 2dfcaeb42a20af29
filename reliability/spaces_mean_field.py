"""Part II's configs: where each is drawn from, and a tiny run of what it configures."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from icl_lib.mean_field import runs
from icl_lib.mean_field.changes import BirthDeath, Modification, births
from icl_lib.mean_field.critical_points import SaddleConfig, saddle
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.integrate import Change
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.mean_field.prompts import TASKS, MixConfig, PromptConfig, mixed_teachers
from icl_lib.mean_field.training import MODES, TrainConfig
from reliability.configs import Run, Space
from reliability.solvers import known_of

TEACHER, START = TeacherConfig(n=2, d=4, k=2), InitConfig(n=12, d=4, k=2)
MU, KNOWN = initial_particles([START]), teachers([TEACHER], Erf())


def follow(config: FlowConfig, change: Change | None = None) -> object:
    """At most 20 steps of the flow."""
    config = replace(config, t_end=min(config.t_end, 20 * config.dt))
    state, history = flow(Erf(), KNOWN, start(MU), config, change)
    return state.mu, state.time, state.dissipated, history


def train(config: TrainConfig, folder: Path) -> object:
    """Trained epoch by epoch, saved after each."""
    return known_of(config.mode, *runs.trained_one(config, 2, folder))


def training(mode: str = "joint", **more: Any) -> TrainConfig:
    """A small training with some values replaced."""
    known: dict[str, Any] = {"teacher": TEACHER, "start": START, "prompts": PromptConfig(n_context=6, n_query=2)}
    return TrainConfig(mode, **(known | {"n_prompts": 4, "batch": 2, "max_epochs": 2} | more))


def speed(teacher: Particles, mu: Particles = MU) -> object:
    """One velocity of all particles, and the loss."""
    found = velocity(Erf(), teacher, mu)
    return found.a, found.w, found.loss


def speed_from(mu: Particles) -> object:
    """The same towards a teacher with as many inputs."""
    return speed(teachers([TeacherConfig("random", n=2, d=mu.w.shape[2], k=1)], Erf()), mu)


def speed_to(teacher: Particles) -> object:
    """The same from a start with as many inputs."""
    return speed(teacher, initial_particles([InitConfig("independent", n=12, d=teacher.w.shape[2], k=2)]))


# fmt: off
FLAGS, SEEDS, FINE = (True, False), (0, 1, 7), (0.1, 0.5, 1.0)
ONES = TeacherConfig("nonlinear", 8, 4, 2, spectrum=(1.0, 1.0))
LAW = {
    "task": tuple(TASKS), "n_context": (1, 6), "n_query": (1, 2), "noise": (0, 0.1),
    "law": ("gaussian", "sphere", "sign"), "centred": FLAGS,
}
KNOWING = {
    "kind": ("axes", "random", "nonlinear"), "n": (2, 8), "d": (4,), "k": (2,), "size": (1, 2.0),
    "spectrum": (None, (1.0, 0.5), (1, 1)), "seed": SEEDS,
}
BEGIN = {
    "kind": ("aligned", "independent"), "n": (8, 12), "d": (4,), "k": (1, 2), "size": (1, 2.0), "seed": SEEDS,
    "axes": (None, (0, 1), (3,)),
}
FLOW = {
    "method": ("euler", "rk4", "adaptive"), "dt": (0.01, 0.1), "t_end": (0.0, 0.3, 1), "every": (0.05, 1.0),
    "cap": (math.inf, 0.1), "stop_below": (0.0, 0.1), "tolerance": (1e-8, 1e-3),
}
BORN = {"rate": (0, 0.1, 5.0), "reference": (InitConfig(),), "anneal_until": (math.inf, 0.2, 3)}
CHANGE = {
    "births": (None, BirthDeath(2.0)), "perturbation": ("none", "isotropic", "gaussian_process"), "budget": (0, 0.1),
    "every": (0.1, 1.0), "until": (math.inf, 0.5),
}
TRAINING = {
    "mode": MODES, "activation": ("sigmoid", "tanh", "erf", "relu"), "constant": FLAGS, "seed": SEEDS, "fresh": FLAGS,
    "n_prompts": (2, 4), "batch": (1, 2), "dt": FINE, "cap": FINE, "w_rate": FINE, "w_start": (0, 0.3, 1.0),
    "patience": (1, 2), "plateau": (1, 8), "improvement": (0, 0.1), "shorten": (0.2, 1), "n_shorten": (0, 2),
    "max_epochs": (1, 2),
}
SADDLE = {
    "spectrum": ((1.0, 0.6), (1, 0.5, 0.2), [1.0, 0.5]), "missing": ((), (0,), (1,), (0, 1)), "d": (4, 6),
    "size": (1, 2.0), "copies": (1, 3), "rotate": FLAGS, "mix": FLAGS, "seed": SEEDS,
}
MIX = {"linear": (0, 0.5, 1), "nonlinear": (ONES, TEACHER), "short": (0.25, 1.0)}
LARGE = {"n_prompts", "batch", "max_epochs", "n_shorten", "patience", "plateau"}
# fmt: on
RUNS: dict[str, tuple[Space, Run]] = {
    "TeacherConfig": (Space(TeacherConfig, KNOWING, {"n", "d", "k"}), lambda c, _: speed_to(teachers([c], Erf()))),
    "InitConfig": (Space(InitConfig, BEGIN, {"n", "d", "k"}), lambda c, _: speed_from(initial_particles([c]))),
    "FlowConfig": (Space(FlowConfig, FLOW), lambda c, _: follow(c)),
    "BirthDeath": (Space(BirthDeath, BORN), lambda c, _: follow(FlowConfig(t_end=1.0), births(c, [0]))),
    "PromptConfig (Part II)": (
        Space(PromptConfig, LAW, {"n_context", "n_query"}),
        lambda c, place: train(training(prompts=c), place),
    ),
    "Modification": (Space(Modification, CHANGE), lambda c, place: train(training(modification=c), place)),
    "TrainConfig (Part II)": (Space(training, TRAINING, LARGE), train),
    "SaddleConfig": (Space(SaddleConfig, SADDLE, {"d", "copies"}), lambda c, _: speed(*saddle(c, Erf()))),
    "MixConfig": (Space(MixConfig, MIX), lambda c, _: speed(mixed_teachers([c], Erf()))),
}
