"""What features are good for, apart from how they were found: attention on them with its best W, beside f° and beside x.

``flow_features`` finds them by the exact flow at infinite prompt length instead of by prompts; it is for axes along which
many models are needed. ``softmax_losses`` reads them with softmax attention. The choices are ours.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.activations import Activation, activation
from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.erf_sum import ErfSum, sigmoid, tanh
from icl_lib.mean_field.features import model_covariances, model_moments, raw_inputs
from icl_lib.mean_field.finite_prompts import best_loss_n
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import loss, trace
from icl_lib.mean_field.measure import Particles, covariance, member
from icl_lib.mean_field.regression import Source
from icl_lib.mean_field.softmax_attention import softmax_predictions
from icl_lib.mean_field.transformer import Transformer
from icl_lib.validate import require, require_choice, require_integer

BLOCK = 50  # prompts at a time
TERMS = 3  # erfs in the sum that stands for sigma in a flow


def centred_kernel(name: str) -> Kernel:
    """The kernel of sigma - E sigma for an activation whose mean no particle changes: "sigmoid", "tanh" or "erf".

    At infinite prompt length L of h under it is L of (h, 1) under sigma itself, where E f° = 0: the constant takes out means.
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
    """Softmax attention on (h, 1) with W = scale B~^{-1}, the scale of least loss over n training prompts, tested on n others.

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
            total += float((softmax_predictions(of, model, [p])[0] - p.y_query).square().mean(1).sum()) / 2
        return total / n

    chosen = [min(scales, key=lambda scale: mean(e, scale, "prompts")) for e in range(len(mu.p))]
    tested = [mean(e, scale, "eval") for e, scale in enumerate(chosen)]
    return Softmax(torch.tensor(chosen, dtype=torch.float64), torch.tensor(tested, dtype=torch.float64))
