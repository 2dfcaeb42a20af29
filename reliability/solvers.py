"""The library's solvers in small: each as a function of how many times too long its steps are, or of what spoils its data."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch

from icl_lib.mean_field.changes import BirthDeath, births
from icl_lib.mean_field.flows import FlowConfig, Joint, flow, joint_flow, start
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.mean_field.prompts import TASKS
from icl_lib.mean_field.prompts import PromptConfig as FeaturePrompts
from icl_lib.mean_field.training import MODES, State, train_one
from icl_lib.mean_field.training import TrainConfig as FeatureTraining
from icl_lib.softmax.deep import DeepConfig, initial_params, train_deep
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.gpt import GPTConfig
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, initial_state, train, train_steps
from studies import K7 as tails
from studies.K2 import relax, split_flow

NAN = float("nan")
KERNEL = Erf()
TEACHER = teachers([TeacherConfig(n=2, d=4, k=2)], KERNEL)
MU = initial_particles([InitConfig(n=20, d=4, k=2)])
TWIN = MU._replace(a=MU.a[..., :1].expand(-1, -1, 2).contiguous())  # two outputs that are one: B is singular
NO_TEACHER = TEACHER._replace(a=TEACHER.a * NAN)
NO_MU = MU._replace(w=MU.w * NAN)
EYE = torch.eye(2, dtype=torch.float64)[None]
ONE_LAYER = TrainConfig(
    uniform_cover(4, 1, 0), patterns=PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3), prompts=PromptConfig(n_context=6)
)


def one_layer(factor: float, n_steps: int = 40) -> object:
    done = train([replace(ONE_LAYER, step_size=5.0 * factor, n_steps=n_steps)])
    return done.params, done.losses


def deep_config(kind: str, factor: float = 1.0) -> DeepConfig:
    more: dict[str, Any] = (
        {"model": GPTConfig(depth=1, heads=1, width=8), "optimiser": "adam", "step_size": 3e-4 * factor}
        if kind == "GPT-2"
        else {"model": StackConfig(depth=2, m=10), "optimiser": "sgd", "step_size": 1.0 * factor}
    )
    return DeepConfig(ONE_LAYER.tasks, patterns=ONE_LAYER.patterns, prompts=ONE_LAYER.prompts, n_steps=40, **more)


def deep(kind: str, factor: float, n_steps: int = 40) -> object:
    done = train_deep([replace(deep_config(kind, factor), n_steps=n_steps)])
    return done.params, done.losses


def particles(
    method: str, factor: float = 1.0, mu: Particles = MU, teacher: Particles = TEACHER, born: BirthDeath | None = None
) -> object:
    if method == "adaptive":  # it chooses its steps: what can be too large is the error that it allows
        config = FlowConfig(method, 0.1, 2.0, 1.0, tolerance=1e-8 * factor)
    else:
        config = FlowConfig(method, 0.1 * factor, 2.0 * factor, factor)
    state, history = flow(KERNEL, teacher, start(mu), config, births(born, [0]) if born else None)
    return state.mu, state.dissipated, history


def joint(
    solver: Callable, factor: float = 1.0, mu: Particles = MU, teacher: Particles = TEACHER, w: Any = EYE
) -> object:
    dt = 0.05 * factor
    state, history = solver(KERNEL, teacher, Joint(mu, w, 0.0), ratio=2.0, dt=dt, t_end=20 * dt, every=10)
    return state.mu, state.w, history


def network(mode: str, factor: float = 1.0, **more: Any) -> object:
    """Every step size of the training at once; two epochs of four steps."""
    teacher, begin = TeacherConfig("nonlinear", n=8, d=4, k=2), InitConfig(n=12, d=4, k=2)
    law = FeaturePrompts(n_context=12, n_query=4, task=more.pop("task", "linear"))
    sizes: dict[str, Any] = {"n_prompts": 32, "batch": 8, "max_epochs": 2}
    sizes |= {"dt": 0.5 * factor, "cap": 0.3 * factor, "w_rate": 1.0 * factor, "start": begin, **more}
    return known_of(mode, *train_one(FeatureTraining(mode, teacher, prompts=law, **sizes), every=4))


def known_of(mode: str, state: State, history: pd.DataFrame) -> object:
    """What is known of a training: no loss before the first step, nor the expected one under softmax, as documented."""
    unknown = ["expected"] if mode == "softmax" else []
    return state.model.mu, state.model.attention, history.iloc[1:].drop(columns=unknown)


def tail(method: str, factor: float = 1.0, mu: Particles = MU, teacher: Particles = TEACHER) -> object:
    found = tails.follow(KERNEL, teacher, mu, [0.0, 1.0, 10.0], method, 1e-6 * factor)
    return found.mu, found.history


def relaxed(mu: Particles, teacher: Particles, method: str) -> object:
    cov = covariances(KERNEL, teacher, mu)
    return relax(cov, EYE, torch.ones(1, dtype=torch.float64), 5, method)


def with_nan(kind: str) -> object:
    """Part I with NaN in the patterns, or in the weights that training begins with."""
    if kind == "patterns":
        patterns = stacked_patterns([ONE_LAYER])
        patterns.basis[0, 0, 0] = NAN
        return train_steps([ONE_LAYER], initial_state([ONE_LAYER]), 5, patterns).losses
    config = deep_config(kind)
    weights = initial_params([config])
    weights[0].view(-1)[0] = NAN
    return train_deep([config], start=weights).losses


def with_task() -> str:
    """A task whose labels are NaN, registered once."""
    TASKS.setdefault("nothing but NaN", lambda f, v: f.sum(-1) * NAN)
    return "nothing but NaN"


FAST = BirthDeath(rate=5.0)
LONGER: dict[str, Callable[[float], object]] = {
    "one-layer ensemble": one_layer,
    "GPT-2": partial(deep, "GPT-2"),
    "residual stack": partial(deep, "residual stack"),
    "particle flow, Euler": partial(particles, "euler"),
    "particle flow, Runge-Kutta": partial(particles, "rk4"),
    "particle flow, adaptive (tolerance)": partial(particles, "adaptive"),
    "birth-death flow, Euler": partial(particles, "euler", born=FAST),
    "joint flow": partial(joint, joint_flow),
    "split joint flow": partial(joint, split_flow),
    **{f"Transformer of Part II, {mode}": partial(network, mode) for mode in MODES},
    **{f"tails, {method} (tolerance)": partial(tail, method) for method in tails.METHODS},
}
# A step after which none comes that would notice what it did.
LAST: dict[str, Callable[[float], object]] = {
    "one-layer ensemble, one step alone": partial(one_layer, n_steps=1),
    "GPT-2, one step alone": partial(deep, "GPT-2", n_steps=1),
    "residual stack, one step alone": partial(deep, "residual stack", n_steps=1),
    **{
        f"Transformer of Part II, {mode}, one step alone": partial(network, mode, n_prompts=8, max_epochs=1)
        for mode in MODES
    },
}
