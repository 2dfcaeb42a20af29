"""Trained models beside what they are compared with: exact losses, and losses on the same held-out prompts.

Features are (f°, 1), (x, 1), those of the start or the model's own, found by training or by the exact flow
(``flow_features``). What reads them is linear attention with its best W for prompts of the training law
(``moments.optimum_n``, exact up to Q~, a mean over inputs), softmax attention, or least squares on each prompt's
contexts. With Gaussian v, y = v^T f° + noise has an exact Bayes predictor, the posterior mean (ridge on f° with penalty
noise^2): no learner can do better on the linear family. The same holds for none of the others, where knowing f° and the
task is to know y. The choices are ours.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.kernels import Activation, Erf, ErfSum, Kernel, activation, network, sigmoid, tanh
from icl_lib.mean_field.landscape import loss, trace
from icl_lib.mean_field.measure import Particles, covariance, initial_particles, member, teachers
from icl_lib.mean_field.moments import (
    best_loss_n,
    loss_n,
    model_covariances,
    model_moments,
    optimum_n,
    raw_inputs,
    with_one,
)
from icl_lib.mean_field.prompts import PromptConfig, Source
from icl_lib.mean_field.training import TrainConfig, Trained
from icl_lib.mean_field.transformer import Transformer, predictions
from icl_lib.rng import generator
from icl_lib.validate import require, require_choice, require_integer, require_number

BLOCK = 50  # prompts at a time
INPUTS = 2**16  # inputs over which Q~ is taken
TERMS = 3  # erfs in the sum that stands for sigma in a flow
COLUMNS = ["member", "seed", "mode", "learner", "loss", "error", "excess", "excess_error"]
Readout = Callable[[Float[Tensor, "P n K"], Float[Tensor, "P n"], Float[Tensor, "P q K"]], Float[Tensor, "P q"]]


def centred_kernel(name: str) -> Kernel:
    """The kernel of sigma - E sigma for an activation whose mean no particle changes: "sigmoid", "tanh" or "erf".

    Where E f° = 0, L of h under it is L of (h, 1) under sigma itself: the constant takes out means.
    """
    require_choice("activation", name, ("sigmoid", "tanh", "erf"))
    if name == "erf":
        return Erf()
    whole = {"sigmoid": sigmoid, "tanh": tanh}[name](TERMS)
    return ErfSum(whole.weights, whole.scales)


def flow_features(name: str, teacher: Particles, mu: Particles, config: FlowConfig) -> tuple[Particles, pd.DataFrame]:
    """Features (h, 1) that the exact flow at infinite prompt length ends with, and its history; E f° = 0."""
    state, history = flow(centred_kernel(name), teacher, start(mu), config)
    return state.mu, history


def best_losses(
    act: Activation,
    teacher: Particles,
    models: Mapping[str, Particles],
    lengths: Sequence[float],
    x: Float[Tensor, "S d"],
    constant: bool = True,
) -> pd.DataFrame:
    """Loss of attention with its best W for prompts of n contexts, without noise: exact but for Q, which is over x.

    Args:
        models: by name; two more learners are always there: "oracle" on (f°, 1), "raw inputs" on (x, 1).
        lengths: n; math.inf for the limit, which is the best linear predictor's loss for "raw inputs".
        constant: whether models have 1 among their features.

    Returns:
        One row per learner, n and member: learner, length, member, loss, zero (the loss of predicting 0).
    """
    require(not {"oracle", "raw inputs"} & set(models), "models", list(models), "other names than oracle, raw inputs")
    c = covariance(act.kernel(), teacher, teacher)
    learners = {"oracle": (teacher, act, True)}
    learners["raw inputs"] = (raw_inputs(teacher.w.shape[2], len(teacher.p)), activation("identity"), True)
    learners |= {name: (mu, act, constant) for name, mu in models.items()}
    zero, tables = trace(c) / 2, []
    for name, (mu, of, one) in learners.items():
        m = model_moments(act, teacher, mu, x, one, of, c)
        for n in lengths:
            found = loss(m.cov) if math.isinf(n) else best_loss_n(m, n)
            rows = {"learner": name, "length": n, "member": range(len(found)), "loss": found, "zero": zero}
            tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)


class Softmax(NamedTuple):
    """Per member: the scale chosen, and the mean loss over held-out prompts."""

    scale: Float[Tensor, " E"]
    loss: Float[Tensor, " E"]


def softmax_losses(
    of: str, act: str, teacher: Particles, mu: Particles, sources: Sequence[Source], scales: Sequence[float], n: int
) -> Softmax:
    """Softmax attention on (h, 1), W = scale B~^{-1}; the scale is the best on n training prompts, tested on n others.

    Args:
        of, act: sigma of the model ("identity" for raw inputs) and of the teacher.
        sources: of prompts, one per member.
    """
    require(len(sources) == len(mu.p), "sources", len(sources), f"one per member, {len(mu.p)}")
    require(len(scales) > 0, "scales", list(scales), "at least one")
    require_integer("n", n, 1)
    white = model_covariances(activation(act), teacher, mu, True, activation(of)).optimum

    def mean(e: int, scale: float, purpose: str) -> float:
        model, total = Transformer(member(mu, e), scale * white[e : e + 1]), 0.0
        for number in range(-(-n // BLOCK)):
            p = sources[e].draw(min(BLOCK, n - number * BLOCK), purpose, number)
            total += float((predictions(of, model, [p], softmax=True)[0] - p.y_query).square().mean(1).sum()) / 2
        return total / n

    chosen = [min(scales, key=lambda scale: mean(e, scale, "prompts")) for e in range(len(mu.p))]
    tested = [mean(e, scale, "eval") for e, scale in enumerate(chosen)]
    return Softmax(torch.tensor(chosen, dtype=torch.float64), torch.tensor(tested, dtype=torch.float64))


def known(run: Trained) -> Particles:
    """The teachers of a run's members."""
    return teachers([c.teacher for c in run.configs], activation(run.configs[0].activation).kernel())


def final_losses(run: Trained, x: Float[Tensor, "S d"]) -> pd.DataFrame:
    """Loss of the trained models, with the W that training left them, and of what they are compared with.

    Args:
        run: members that differ in their seeds only, so that rows are replications.
        x: inputs over which Q~ is taken.

    Returns:
        Index seed; columns loss; oracle, raw and untrained (attention with its best W on f°, on x, on the features of
        the start); floor (the best linear predictor); zero (predicting 0); gap (the share of floor - oracle left).
    """
    first = run.configs[0]
    alike = len({(c.mode, c.activation, c.prompts, c.constant) for c in run.configs}) == 1
    require(alike, "run", len(run.configs), "of members that differ in their seeds only")
    require(first.mode != "softmax", "mode", first.mode, "one of linear attention: that of softmax has no exact loss")
    act, teacher, n = activation(first.activation), known(run), first.prompts.n_context
    start = {"untrained": initial_particles([c.start for c in run.configs])}
    table = best_losses(act, teacher, start, [n, math.inf], x, first.constant)
    at_n = table[table["length"] == n].pivot_table("loss", "member", "learner").rename(columns={"raw inputs": "raw"})
    linear = table[(table["learner"] == "raw inputs") & (table["length"] == math.inf)].set_index("member")
    of = activation("identity") if first.mode == "attention" else act
    m = model_moments(act, teacher, run.model.mu, x, first.constant, of)
    found = at_n.assign(loss=loss_n(m, run.model.attention, n).numpy(), floor=linear["loss"], zero=linear["zero"])
    found["gap"] = (found["loss"] - found["oracle"]) / (found["floor"] - found["oracle"])
    return found.set_axis(pd.Index([c.seed for c in run.configs], name="seed")).rename_axis(columns=None)


def least_squares(penalty: float = 0.0) -> Readout:
    """Ridge regression on the contexts of each prompt, in float64; with penalty 0 the solution of least norm."""
    require_number("penalty", penalty, low=0)

    def read(h: Tensor, y: Tensor, h_query: Tensor) -> Tensor:
        gram = h.mT @ h + penalty * torch.eye(h.shape[2], dtype=h.dtype)
        solution = torch.linalg.pinv(gram, hermitian=True) @ (h.mT @ y[..., None])
        return (h_query @ solution)[..., 0]

    return read


def attention(w: Float[Tensor, "K K"]) -> Readout:
    """g^T W h(x_q)."""

    def read(h: Tensor, y: Tensor, h_query: Tensor) -> Tensor:
        return (h_query @ ((y[..., None] * h).mean(1) @ w)[..., None])[..., 0]

    return read


def best_attention(config: TrainConfig, teacher: Particles, features: str) -> Float[Tensor, "K K"]:
    """W_n of attention on (f°, 1) or on (x, 1), for the law of training prompts; Q~ over ``INPUTS`` inputs."""
    act, p = activation(config.activation), config.prompts
    x = torch.randn(INPUTS, config.teacher.d, generator=generator(config.seed, "oracle"))
    mu, of = (teacher, act) if features == "f°" else (raw_inputs(config.teacher.d), activation("identity"))
    return optimum_n(model_moments(act, teacher, mu, x, of=of), p.n_context, p.noise)[0]


def _features(sigma: str, mu: Particles, constant: bool = True) -> Callable[[Tensor], Tensor]:
    """(h, 1) or h of inputs."""

    def of(x: Tensor) -> Tensor:
        h = network(activation(sigma), mu.weighted[0], mu.w[0], x).double()
        return with_one(h) if constant else h

    return of


def held_out(
    configs: Sequence[TrainConfig], model: Transformer, law: PromptConfig | None = None, n_prompts: int = 1000
) -> pd.DataFrame:
    """Every learner on the same held-out prompts of stream (seed, "eval").

    Args:
        configs: of the members of `model`.
        law: of the test prompts; by default that of each member's training. Attention keeps the W of training. "Bayes"
            is what its name says on the linear family with Gaussian v only.

    Returns:
        One row per member and learner: member, seed, mode, learner, loss (half the mean square), error (standard error
        over prompts), excess (loss less that of the oracle "attention on f°") and its error, over the same prompts.
    """
    require(len(configs) == len(model.mu.p), "configs", len(configs), f"one per member, {len(model.mu.p)}")
    require_integer("n_prompts", n_prompts, 2)
    tables = []
    for e, config in enumerate(configs):
        one = Transformer(member(model.mu, e), model.attention[e : e + 1])
        found = _losses(config, one, config.prompts if law is None else law, n_prompts)
        oracle = found["attention on f°"]
        rows = [(e, config.seed, config.mode, name, *_mean(x), *_mean(x - oracle)) for name, x in found.items()]
        tables.append(pd.DataFrame(rows, columns=COLUMNS))
    return pd.concat(tables, ignore_index=True)


def _mean(losses: Float[Tensor, " P"]) -> tuple[float, float]:
    return float(losses.mean()), float(losses.std() / len(losses) ** 0.5)


def _losses(config: TrainConfig, model: Transformer, law: PromptConfig, n_prompts: int) -> dict[str, Tensor]:
    """The loss of each prompt, by learner."""
    teacher = teachers([config.teacher], activation(config.activation).kernel())
    source = Source(law, teacher, config.activation, config.seed)
    sigma = "identity" if config.mode == "attention" else config.activation
    known = _features(config.activation, teacher)
    learners: dict[str, tuple[Callable[[Tensor], Tensor], Readout]] = {
        "attention on f°": (known, attention(best_attention(config, teacher, "f°"))),
        "least squares on f°": (known, least_squares()),
        "Bayes": (_features(config.activation, teacher, False), least_squares(law.noise**2)),
        "attention on x": (with_one, attention(best_attention(config, teacher, "x"))),
        "least squares on x": (with_one, least_squares()),
        "least squares on h": (_features(sigma, model.mu), least_squares()),
    }
    parts: dict[str, list[Tensor]] = {name: [] for name in ("model", *learners, "zero")}
    for number in range(-(-n_prompts // BLOCK)):
        p = source.draw(min(BLOCK, n_prompts - number * BLOCK), "eval", number)
        x, y, x_query, y_query = (part.double() for part in p)
        predicted = {
            "model": predictions(sigma, model, [p], config.mode == "softmax")[0].double(),
            "zero": torch.zeros_like(y_query),
        }
        predicted |= {name: read(features(x), y, features(x_query)) for name, (features, read) in learners.items()}
        for name, one in predicted.items():
            parts[name].append((one - y_query).square().mean(1) / 2)
    return {name: torch.cat(of_learner) for name, of_learner in parts.items()}
