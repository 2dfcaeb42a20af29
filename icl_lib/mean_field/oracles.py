"""What to compare a trained Transformer with, on the same held-out prompts: learners that know f°, and linear ones.

Features are (f°, 1), (x, 1) or the model's own; what reads them is linear attention with its best W for prompts of the training law
(``finite_prompts.optimum_n``, exact up to Q~, a mean over 2^16 inputs) or least squares on each prompt's contexts. With Gaussian v, y = v^T f° + noise has an exact
Bayes predictor, the posterior mean (ridge on f° with penalty noise^2): no learner can do better on the linear family.
The same holds for none of the others, where knowing f° and the task is to know y.
"""

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.activations import Activation, activation, network
from icl_lib.mean_field.features import model_moments, raw_inputs, with_one
from icl_lib.mean_field.finite_prompts import Moments, best_loss_n, optimum_n
from icl_lib.mean_field.landscape import loss
from icl_lib.mean_field.measure import Particles, member, teachers
from icl_lib.mean_field.regression import PromptConfig, Source
from icl_lib.mean_field.softmax_attention import softmax_predictions
from icl_lib.mean_field.training import TrainConfig
from icl_lib.mean_field.transformer import Transformer, predictions
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer, require_number

BLOCK = 50  # prompts at a time
INPUTS = 2**16  # over which Q~ is taken
COLUMNS = ["member", "seed", "mode", "learner", "loss", "error", "excess", "excess_error"]

Readout = Callable[[Float[Tensor, "P n K"], Float[Tensor, "P n"], Float[Tensor, "P q K"]], Float[Tensor, "P q"]]


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


class Yardsticks:
    """The learners that one training run is measured against.

    ``moments`` are those of (f°, 1) and (x, 1) for the training run's teacher.
    """

    def __init__(self, config: TrainConfig) -> None:
        act = activation(config.activation)
        self.config, self.activation = config, act
        self.teacher = teachers([config.teacher], act.kernel())
        x = torch.randn(INPUTS, config.teacher.d, generator=generator(config.seed, "oracle"))
        raw, identity = raw_inputs(config.teacher.d), activation("identity")
        self.moments: dict[str, Moments] = {
            "f°": model_moments(act, self.teacher, self.teacher, x),
            "x": model_moments(act, self.teacher, raw, x, of=identity),
        }

    def best_attention(self, features: str) -> Float[Tensor, "K K"]:
        """W_n of attention on (f°, 1) or (x, 1), for the training law."""
        p = self.config.prompts
        return optimum_n(self.moments[features], p.n_context, p.noise)[0]

    def exact(self) -> dict[str, float]:
        """Losses on the training law, over all prompts and with Q~ over 2^16 inputs: best attention on (f°, 1), on (x, 1), and that as n grows; predicting 0."""
        p, c = self.config.prompts, self.moments["f°"].cov.c
        found = {
            f"attention on {name}": float(best_loss_n(m, p.n_context, p.noise)) for name, m in self.moments.items()
        }
        return found | {"linear, n = inf": float(loss(self.moments["x"].cov)), "zero": float(c[0].trace()) / 2}

    def learners(self, model: Transformer, noise: float) -> dict[str, tuple[Callable[[Tensor], Tensor], Readout]]:
        """(features of inputs, readout) by name; "Bayes" for labels with this noise."""
        act = self.activation
        known = _features(act, self.teacher)
        own = _features(activation("identity") if self.config.mode == "attention" else act, model.mu)
        return {
            "attention on f°": (lambda x: with_one(known(x)), attention(self.best_attention("f°"))),
            "least squares on f°": (lambda x: with_one(known(x)), least_squares()),
            "Bayes": (known, least_squares(noise**2)),
            "attention on x": (with_one, attention(self.best_attention("x"))),
            "least squares on x": (with_one, least_squares()),
            "least squares on h": (lambda x: with_one(own(x)), least_squares()),
        }


def _features(act: Activation, mu: Particles) -> Callable[[Tensor], Tensor]:
    return lambda x: network(act, mu.weighted[0], mu.w[0], x).double()


def held_out(
    configs: Sequence[TrainConfig], model: Transformer, law: PromptConfig | None = None, n_prompts: int = 1000
) -> pd.DataFrame:
    """Every learner on the same held-out prompts of stream (seed, "eval").

    Args:
        configs: of the members of `model`.
        law: of the test prompts; by default that of each member's training. Attention keeps the W of training. "Bayes" is what
            its name says on the linear family with Gaussian v only.

    Returns:
        One row per member and learner: member, seed, mode, learner, loss (half the mean square), error (standard error over
        prompts), excess (loss less that of the oracle "attention on f°") and its error, over the same prompts.
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
    yardsticks = Yardsticks(config)
    source = Source(law, yardsticks.teacher, config.activation, config.seed)
    sigma = "identity" if config.mode == "attention" else config.activation
    learners = yardsticks.learners(model, law.noise)
    parts: dict[str, list[Tensor]] = {name: [] for name in ("model", *learners, "zero")}
    for number in range(-(-n_prompts // BLOCK)):
        p = source.draw(min(BLOCK, n_prompts - number * BLOCK), "eval", number)
        x, y, x_query, y_query = (part.double() for part in p)
        predict = softmax_predictions if config.mode == "softmax" else predictions
        predicted = {"model": predict(sigma, model, [p])[0].double(), "zero": torch.zeros_like(y_query)}
        for name, (features, read) in learners.items():
            predicted[name] = read(features(x), y, features(x_query))
        for name, one in predicted.items():
            parts[name].append((one - y_query).square().mean(1) / 2)
    return {name: torch.cat(of_learner) for name, of_learner in parts.items()}
