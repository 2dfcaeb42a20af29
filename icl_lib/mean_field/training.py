"""Training Paper K's Transformer on prompts, under one rule for when to stop.

What W does is the mode:

- "joint": gradient steps, in the coordinates in which the features of the start are white: B~(0) = 1. W starts at
  ``w_start`` times 1. A step is a share of 1 / (lambda_max(S) lambda_max(B~)), the curvature in W, with the bound
  lambda_max(S) <= lambda_max(B~) s, s = (1 + 2/n) lambda_max(C) + (tr C + noise^2) / n (as for
  Gaussian f° and h at small n).
- "joint_plain": gradient steps as they are: a step is the same share of the largest stable one, in the coordinates of W
  itself. W starts at ``w_start`` times 1 / lambda_max(B~(0)), the largest multiple of 1 that is nowhere above B~(0)^{-1}.
- "static": W = W_mu = B~^{-1} at every step, exactly (the two-timescale model); the gradient holds W fixed.
- "static_finite": W = W_n, the optimum for n contexts (``moments``); here the envelope theorem holds at every n.
- "softmax": as "joint", with softmax attention in place of linear.
- "attention": h~ = (x, 1), no MLP; W as in "joint".

Particles take Euler steps of the flow on the loss of a batch, of length min(dt, cap / speed), speed the root mean
square of their velocities. Steps are shortened when an epoch's mean training loss has stopped falling; training ends
when it has stopped again after the last shortening, or at ``max_epochs``, and the result says which of the two.

All of this is our choice; the paper states the sizes of model and data only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.mean_field.changes import Modification, modify
from icl_lib.mean_field.integrate import BROKEN, capped, euler, speed2
from icl_lib.mean_field.kernels import activation
from icl_lib.mean_field.landscape import Covariances, loss
from icl_lib.mean_field.measure import (
    InitConfig,
    Particles,
    TeacherConfig,
    covariance,
    initial_particles,
    stack,
    teachers,
)
from icl_lib.mean_field.moments import (
    Moments,
    best_loss_n,
    loss_n,
    model_covariances,
    model_moments,
    optimum_n,
    raw_inputs,
)
from icl_lib.mean_field.prompts import PromptConfig, Source
from icl_lib.mean_field.transformer import Step, Transformer, step
from icl_lib.rng import generator
from icl_lib.twin import twinned
from icl_lib.validate import require, require_choice, require_integer, require_number

BEGUN = 0.9  # share of the loss of predicting 0 above which nothing has been learned yet
EXPLODED = 100  # a batch whose loss is more than this times that of predicting 0 is divergence
MOMENTS = 8192  # inputs over which Q~ is taken; it counts for 1 / n of S
MODES = ("joint", "joint_plain", "static", "static_finite", "softmax", "attention")
COLUMNS = ["epoch", "step", "time", "loss", "expected", "best_w", "limit", "shortened"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines one training run; a member of an ensemble is one of these.

    Attributes:
        mode: one of ``MODES``.
        teacher, start: f°, and where the model starts; each has a seed of its own.
        activation: sigma of both.
        prompts: the law of training prompts.
        constant: whether 1 is among the features.
        seed: of prompts, births and perturbations.
        n_prompts, batch: prompts of an epoch and of a step.
        fresh: new prompts in every epoch; False: the same ones again (drawn again, not kept).
        dt, cap: longest step, and longest root mean square displacement of particles in one.
        w_rate: where W takes gradient steps: a step as a share of the largest safe one; above 2 it diverges.
        w_start: W(0) over B~(0)^{-1}; "joint_plain": over 1 / lambda_max(B~(0)).
        patience, improvement: steps are shortened if the epoch's loss has not fallen by this share below its best in as
            many epochs.
        plateau: the patience while the loss is above 0.9 times that of predicting 0: flows from random starts begin on
            a saddle, where the loss hardly falls for a while.
        shorten, n_shorten: factor on dt, cap and w_rate, and how many times.
        max_epochs: training stops here, converged or not, and says which.
        modification: births and perturbations, or None.
    """

    mode: str = "static"
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    start: InitConfig = field(default_factory=InitConfig)
    activation: str = "sigmoid"
    prompts: PromptConfig = field(default_factory=PromptConfig)
    constant: bool = True
    seed: int = 0
    n_prompts: int = 10_000
    batch: int = 50
    fresh: bool = False
    dt: float = 0.5
    cap: float = 0.3
    w_rate: float = 1.0
    w_start: float = 0.3
    patience: int = 2
    plateau: int = 8
    improvement: float = 0.1
    shorten: float = 0.2
    n_shorten: int = 2
    max_epochs: int = 60
    modification: Modification | None = None

    def __post_init__(self) -> None:
        require_choice("mode", self.mode, MODES)
        for name, kind in (("teacher", TeacherConfig), ("start", InitConfig), ("prompts", PromptConfig)):
            require(isinstance(getattr(self, name), kind), name, getattr(self, name), f"a {kind.__name__}")
        activation(self.activation)
        for name in ("constant", "fresh"):
            require(isinstance(getattr(self, name), bool), name, getattr(self, name), "True or False")
        require_integer("seed", self.seed, 0)
        for name in ("n_prompts", "batch", "patience", "plateau", "max_epochs"):
            require_integer(name, getattr(self, name), 1)
        require_integer("n_shorten", self.n_shorten, 0)
        require(self.n_prompts % self.batch == 0, "batch", self.batch, f"a divisor of n_prompts = {self.n_prompts}")
        for name in ("dt", "cap", "w_rate"):
            require_number(name, getattr(self, name), low=1e-12, allowed="a finite number above 0")
        require_number("w_start", self.w_start, low=0)
        require_number("improvement", self.improvement, 0, 1)
        require_number("shorten", self.shorten, 1e-3, 1)
        require(self.start.d == self.teacher.d, "start.d", self.start.d, f"d = {self.teacher.d} of the teacher")
        ok = self.modification is None or (isinstance(self.modification, Modification) and self.mode != "attention")
        require(ok, "modification", self.modification, "a Modification or None, and None without an MLP")


class State(NamedTuple):
    """A run between two epochs; with the config it determines the rest of the run.

    best, stale: mean training loss of the epoch that last improved on those before, and epochs since then (or since
    steps were shortened). shortened: how often; time: sum of steps; converged: whether training is over by its own
    rule.
    """

    model: Transformer
    time: float = 0.0
    epoch: int = 0
    best: float = math.inf
    stale: int = 0
    shortened: int = 0
    converged: bool = False


def judged(config: TrainConfig, state: State, mean: float, zero: float) -> State:
    """The rule that shortens steps and ends training, given an epoch's mean loss; `zero` is that of predicting 0."""
    if mean < (1 - config.improvement) * state.best:
        return state._replace(best=mean, stale=0)
    state = state._replace(stale=state.stale + 1)
    if state.stale < (config.plateau if mean > BEGUN * zero else config.patience):
        return state
    if state.shortened == config.n_shorten:
        return state._replace(converged=True)
    return state._replace(stale=0, shortened=state.shortened + 1)


class Trained(NamedTuple):
    """Members in the order of their configs.

    Attributes:
        history: one row per member and recorded step: member, seed, mode, epoch, step, time, loss (mean training loss
            since the row before), expected (L^n of the model, exactly), best_w (L^n of its features with their best W),
            limit (L), shortened.
    """

    configs: tuple[TrainConfig, ...]
    model: Transformer
    converged: tuple[bool, ...]
    history: pd.DataFrame


class Trainer:
    """One run: everything that follows from the config and does not change."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.activation = activation(config.activation)
        self.of = "identity" if config.mode == "attention" else config.activation  # sigma of the model
        self.teacher = teachers([config.teacher], self.activation.kernel())
        self.source = Source(config.prompts, self.teacher, config.activation, config.seed)
        self.c = covariance(self.activation.kernel(), self.teacher, self.teacher)
        self.zero = float(self.c[0].trace()) / 2
        self.x = torch.randn(MOMENTS, config.teacher.d, generator=generator(config.seed, "moments"))
        self.per_epoch = config.n_prompts // config.batch
        self.white = self.coordinates()
        n, values = config.prompts.n_context, torch.linalg.eigvalsh(self.c[0])
        self.power = float(values[-1] * (1 + 2 / n) + (values.sum() + config.prompts.noise**2) / n)

    def start_particles(self) -> Particles:
        """Where the MLP starts; the raw inputs for attention without an MLP."""
        c = self.config
        return raw_inputs(c.teacher.d) if c.mode == "attention" else initial_particles([c.start])

    def coordinates(self) -> Float[Tensor, "1 K K"]:
        """R R^T of the coordinates R u of W's rows and columns in which it takes its steps; W(0) is a multiple of it."""
        begun = self.covariances(self.start_particles())
        if self.config.mode != "joint_plain":
            return begun.optimum
        return torch.eye(begun.b.shape[1], dtype=begun.b.dtype)[None] / torch.linalg.eigvalsh(begun.b)[:, -1]

    def covariances(self, mu: Particles) -> Covariances:
        """A, B and C of these particles, with the constant where it is among the features."""
        return model_covariances(self.activation, self.teacher, mu, self.config.constant, activation(self.of), self.c)

    def moments(self, mu: Particles) -> Moments:
        """A, B, C and an estimate of Q, of which the loss at n contexts is made."""
        of = activation(self.of)
        return model_moments(self.activation, self.teacher, mu, self.x, self.config.constant, of, self.c)

    def attention(self, mu: Particles, w: Float[Tensor, "1 K K"]) -> Float[Tensor, "1 K K"]:
        """W for these particles: where it is, or its optimum."""
        p = self.config.prompts
        if self.config.mode == "static":
            return self.covariances(mu).optimum
        return optimum_n(self.moments(mu), p.n_context, p.noise) if self.config.mode == "static_finite" else w

    def initial(self) -> State:
        """The run before its first step."""
        mu = self.start_particles()
        w = twinned(self.config.w_start * self.white, self.config.seed)
        return State(Transformer(mu, self.attention(mu, w)))

    def moved(self, model: Transformer, found: Step, factor: float) -> tuple[Transformer, float]:
        """One step of particles and of W, and its length in time."""
        c, mu, w, h = self.config, model.mu, model.attention, 0.0
        if c.mode != "attention":
            dt = factor * capped(speed2(mu, found.a, found.w), c.dt, c.cap)
            mu, h = euler(mu, found.a, found.w, dt), float(dt)
        if not c.mode.startswith("static"):
            top = float(torch.linalg.eigvals(self.white @ found.b).real.max())  # of B~ in white coordinates
            w = w + factor * c.w_rate / (self.power * top**2) * self.white @ found.attention @ self.white
        return Transformer(mu, w), h

    def stepped(self, state: State, number: int) -> tuple[State, float]:
        """After training step `number`; and the loss of its batch, before the step."""
        c = self.config
        batch = self.source.draw(c.batch, "prompts", number if c.fresh else number % self.per_epoch)
        found = step(self.of, state.model, [batch], c.mode == "softmax")
        now = float(found.losses.mean())
        if not now <= EXPLODED * self.zero:
            raise Diverged(self.at(f"loss {now:.3g}", number))
        try:
            (mu, w), h = self.moved(state.model, found, c.shorten**state.shortened)
            if c.modification is not None:
                mu = modify(c.modification, self.activation.kernel(), self.teacher, mu, c.seed, number, state.time, h)
            model = Transformer(mu, self.attention(mu, w))
        except BROKEN as cause:
            raise Diverged(self.at(str(cause), number)) from cause
        return state._replace(model=model, time=state.time + h), now

    def at(self, what: str, number: int) -> str:
        """A message that says where in which run something went wrong."""
        c = self.config
        return f"{what} at step {number} with dt={c.dt}, cap={c.cap}, w_rate={c.w_rate} ({c.mode}, seed {c.seed})"

    def exact(self, model: Transformer) -> tuple[float, float, float]:
        """L^n of the model (under softmax not known: NaN), L^n of its features with the best W of linear attention, and L."""
        m, p = self.moments(model.mu), self.config.prompts
        unknown = self.config.mode == "softmax"
        of_model = math.nan if unknown else float(loss_n(m, model.attention, p.n_context, p.noise))
        return of_model, float(best_loss_n(m, p.n_context, p.noise)), float(loss(m.cov))

    def row(self, state: State, number: int, mean: float) -> tuple:
        """One row of the history after step `number`; the only look at what the last step of a run did."""
        try:
            known = self.exact(state.model)
        except BROKEN as cause:
            raise Diverged(self.at(str(cause), number)) from cause
        if any(map(math.isinf, known)) or (math.isnan(known[0]) and self.config.mode != "softmax"):
            raise Diverged(self.at(f"loss {known[0]:.3g}", number))
        return (state.epoch, number + 1, state.time, mean, *known, state.shortened)

    def epoch(self, state: State, every: int) -> tuple[State, list[tuple]]:
        """One epoch, and rows of the history."""
        first, rows, seen = state.epoch * self.per_epoch, [], 0
        batches: list[float] = []
        for number in range(first, first + self.per_epoch):
            state, now = self.stepped(state, number)
            batches.append(now)
            if (number + 1) % every == 0 or len(batches) == self.per_epoch:
                rows.append(self.row(state, number, sum(batches[seen:]) / (len(batches) - seen)))
                seen = len(batches)
        return judged(self.config, state._replace(epoch=state.epoch + 1), sum(batches) / len(batches), self.zero), rows


def train_one(
    config: TrainConfig, start: State | None = None, every: int = 20, n_epochs: int | None = None
) -> tuple[State, pd.DataFrame]:
    """One member until it has converged, or for ``max_epochs``.

    Args:
        start: a state to go on from; by default the initial one. The end is that of an uninterrupted run.
        every: steps between two rows of the history.
        n_epochs: stop after so many of them, converged or not, to go on later.

    Raises:
        Diverged: a loss is not finite or far above that of predicting 0, or B~ is singular; names step and step sizes.
    """
    require_integer("every", every, 1)
    trainer, rows = Trainer(config), []
    state = trainer.initial() if start is None else start
    last = config.max_epochs if n_epochs is None else min(config.max_epochs, state.epoch + n_epochs)
    if start is None:
        rows.append((0, 0, 0.0, float("nan"), *trainer.exact(state.model), 0))
    while state.epoch < last and not state.converged:
        state, more = trainer.epoch(state, every)
        rows += more
    return state, pd.DataFrame(rows, columns=COLUMNS)


def train(configs: Sequence[TrainConfig], every: int = 20) -> Trained:
    """All members, one after the other: nothing would be gained from doing them together at these sizes."""
    require(len(configs) > 0, "configs", len(configs), "at least one")
    return collected(configs, [train_one(config, every=every) for config in configs])


def collected(configs: Sequence[TrainConfig], runs: Sequence[tuple[State, pd.DataFrame]]) -> Trained:
    """What ``train_one`` returned for each config, as one ensemble."""
    models, tables = [state.model for state, _ in runs], []
    alike = len({(m.attention.shape, m.mu.a.shape) for m in models}) == 1
    require(alike, "configs", [c.mode for c in configs], "alike in the shapes of their models")
    for number, (config, (_, table)) in enumerate(zip(configs, runs, strict=True)):
        tables.append(table.copy())
        for name, value in (("mode", config.mode), ("seed", config.seed), ("member", number)):
            tables[-1].insert(0, name, value)
    model = Transformer(stack([m.mu for m in models]), torch.cat([m.attention for m in models]))
    return Trained(tuple(configs), model, tuple(s.converged for s, _ in runs), pd.concat(tables, ignore_index=True))
