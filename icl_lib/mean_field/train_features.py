"""Training Paper K's Transformer on prompts, under one rule for when to stop (modes and settings: ``training.py``).

Particles take Euler steps of the flow on the loss of a batch, of length min(dt, cap / speed), speed the root mean square of
their velocities. Steps are shortened when an epoch's mean training loss has stopped falling; training ends when it has
stopped again after the last shortening, or at ``max_epochs``, and the result says which of the two.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.mean_field.activations import activation
from icl_lib.mean_field.features import model_covariances, q_moment, raw_inputs
from icl_lib.mean_field.finite_prompts import Moments, best_loss_n, loss_n, optimum_n
from icl_lib.mean_field.integrate import BROKEN, capped, euler, speed2
from icl_lib.mean_field.landscape import Covariances, loss
from icl_lib.mean_field.measure import Particles, covariance, initial_particles, stack, teachers
from icl_lib.mean_field.modified import modify
from icl_lib.mean_field.regression import Source
from icl_lib.mean_field.softmax_attention import softmax_step
from icl_lib.mean_field.training import State, TrainConfig, judged
from icl_lib.mean_field.transformer import Step, Transformer, step
from icl_lib.rng import generator
from icl_lib.twin import twinned
from icl_lib.validate import require, require_integer

MOMENTS = 8192  # inputs over which Q~ is taken; it counts for 1 / n of S
EXPLODED = 100  # a batch whose loss is more than this times that of predicting 0 is divergence
COLUMNS = ["epoch", "step", "time", "loss", "expected", "best_w", "limit", "shortened"]


class Trained(NamedTuple):
    """Members in the order of their configs.

    history: one row per member and recorded step: member, seed, mode, epoch, step, time, loss (mean training loss since the
        row before), expected (L^n of the model, exactly), best_w (L^n of its features with their best W), limit (L), shortened.
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
        self.of = "identity" if config.mode == "attention" else config.activation
        self.teacher = teachers([config.teacher], self.activation.kernel())
        self.source = Source(config.prompts, self.teacher, config.activation, config.seed)
        self.c = covariance(self.activation.kernel(), self.teacher, self.teacher)
        self.zero = float(self.c[0].trace()) / 2
        self.x = torch.randn(MOMENTS, config.teacher.d, generator=generator(config.seed, "moments"))
        self.per_epoch = config.n_prompts // config.batch
        at_start = self.start_particles()
        self.white = self.covariances(at_start).optimum
        n, values = config.prompts.n_context, torch.linalg.eigvalsh(self.c[0])
        self.power = float(values[-1] * (1 + 2 / n) + (values.sum() + config.prompts.noise**2) / n)

    def start_particles(self) -> Particles:
        """Where the MLP starts; the raw inputs for attention without an MLP."""
        c = self.config
        return raw_inputs(c.teacher.d) if c.mode == "attention" else initial_particles([c.start])

    def covariances(self, mu: Particles) -> Covariances:
        """A, B and C of these particles, with the constant where it is among the features."""
        return model_covariances(self.activation, self.teacher, mu, self.config.constant, activation(self.of), self.c)

    def moments(self, mu: Particles) -> Moments:
        """A, B, C and an estimate of Q, of which the loss at n contexts is made."""
        q = q_moment(self.activation, self.teacher, mu, self.x, self.config.constant, activation(self.of))
        return Moments(self.covariances(mu), q)

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
        if c.mode in ("joint", "softmax", "attention"):
            top = float(torch.linalg.eigvals(self.white @ found.b).real.max())  # of B~ in white coordinates
            w = w + factor * c.w_rate / (self.power * top**2) * self.white @ found.attention @ self.white
        return Transformer(mu, w), h

    def stepped(self, state: State, number: int) -> tuple[State, float]:
        """After training step `number`; and the loss of its batch, before the step."""
        c = self.config
        batch = self.source.draw(c.batch, "prompts", number if c.fresh else number % self.per_epoch)
        found = (softmax_step if c.mode == "softmax" else step)(self.of, state.model, [batch])
        now = float(found.losses.mean())
        if not now <= EXPLODED * self.zero:
            raise Diverged(self.at(f"loss {now:.3g}", number))
        try:
            model, h = self.moved(state.model, found, c.shorten**state.shortened)
            mu = model.mu
            if c.modification is not None:
                args = (self.activation.kernel(), self.teacher, mu, c.seed, number, state.time, h)
                mu = modify(c.modification, *args)
            model = Transformer(mu, self.attention(mu, model.attention))
        except BROKEN as cause:
            raise Diverged(self.at(str(cause), number)) from cause
        return state._replace(model=model, time=state.time + h), now

    def at(self, what: str, number: int) -> str:
        """A message that says where in which run something went wrong."""
        c = self.config
        return f"{what} at step {number} with dt={c.dt}, cap={c.cap}, w_rate={c.w_rate} ({c.mode}, seed {c.seed})"

    def exact(self, model: Transformer) -> tuple[float, float, float]:
        """L^n of the model (under softmax not known: NaN), L^n of its features under linear attention with its best W, and L."""
        m, p = self.moments(model.mu), self.config.prompts
        found = loss_n(m, model.attention, p.n_context, p.noise), best_loss_n(m, p.n_context, p.noise), loss(m.cov)
        of_model = math.nan if self.config.mode == "softmax" else float(found[0])
        return of_model, float(found[1]), float(found[2])

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
        first, rows, batches = state.epoch * self.per_epoch, [], []
        since: list[float] = []
        for number in range(first, first + self.per_epoch):
            state, now = self.stepped(state, number)
            since.append(now)
            batches.append(now)
            if (number + 1) % every == 0 or number + 1 == first + self.per_epoch:
                rows.append(self.row(state, number, sum(since) / len(since)))
                since = []
        return judged(self.config, state._replace(epoch=state.epoch + 1), sum(batches) / len(batches), self.zero), rows


def train_one(
    config: TrainConfig,
    start: State | None = None,
    every: int = 20,
    on_epoch: Callable[[State], None] | None = None,
    n_epochs: int | None = None,
) -> tuple[State, pd.DataFrame]:
    """One member until it has converged, or for ``max_epochs``.

    Args:
        start: a state to go on from; by default the initial one. The end is that of an uninterrupted run.
        every: steps between two rows of the history.
        on_epoch: sees the state after each epoch, to report or to save it.
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
        if on_epoch:
            on_epoch(state)
    return state, pd.DataFrame(rows, columns=COLUMNS)


def train(
    configs: Sequence[TrainConfig], every: int = 20, on_epoch: Callable[[int, State], None] | None = None
) -> Trained:
    """All members, one after the other: nothing would be gained from doing them together at these sizes.

    Args:
        on_epoch: sees a member's number and its state after each of its epochs.
    """
    require(len(configs) > 0, "configs", len(configs), "at least one")
    runs = []
    for number, config in enumerate(configs):
        report = None if on_epoch is None else partial(on_epoch, number)
        runs.append(train_one(config, None, every, report))
    return collected(configs, runs)


def collected(configs: Sequence[TrainConfig], runs: Sequence[tuple[State, pd.DataFrame]]) -> Trained:
    """What ``train_one`` returned for each config, as one ensemble."""
    states, tables = [state for state, _ in runs], []
    alike = len({tuple(s.model.attention.shape) + tuple(s.model.mu.a.shape) for s in states}) == 1
    require(alike, "configs", [c.mode for c in configs], "alike in the shapes of their models")
    for number, (config, (_, table)) in enumerate(zip(configs, runs, strict=True)):
        tables.append(table.copy())
        for name, value in (("mode", config.mode), ("seed", config.seed), ("member", number)):
            tables[-1].insert(0, name, value)
    model = Transformer(stack([s.model.mu for s in states]), torch.cat([s.model.attention for s in states]))
    return Trained(tuple(configs), model, tuple(s.converged for s in states), pd.concat(tables, ignore_index=True))
