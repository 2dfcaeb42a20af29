"""Softmax and linear attention side by side: on Part I's prompts, on prompts that lack contexts, on Paper K's regression tasks.

Part I's one-layer model with linear attention: scores themselves are the weights, over l ("averaged") or not ("added").

F = a^T ReLU(W_O sum_i W_V p_i s_i / l), s_i = (W_K p_i)^T W_Q p_query. Weights can be negative and need not add up to 1.
``backward`` fits ``assumptions.train_under``. ``forward_mean`` is a control that does not look at the query: all weights 1 / l.

On Paper K's tasks both attentions see the same features, each with W = scale B~^{-1} at its best scale.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from icl_lib.mean_field.kernels import activation
from icl_lib.mean_field.landscape import trace
from icl_lib.mean_field.learners import softmax_losses
from icl_lib.mean_field.measure import Particles, member
from icl_lib.mean_field.moments import loss_n, model_moments
from icl_lib.mean_field.prompts import PromptConfig as TaskConfig
from icl_lib.mean_field.prompts import Source
from icl_lib.rng import generator
from icl_lib.softmax import model
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.evaluation import evaluate_params, judged
from icl_lib.softmax.floors import exact_counts
from icl_lib.softmax.model import Activations, Params, _gather, _scatter, _tables
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts
from icl_lib.softmax.tasks import Tasks
from icl_lib.validate import require, require_integer, require_number


def _answer(params: Params, neuron: Tensor, weights: Tensor, prompts: Prompts) -> Activations:
    pooled = _scatter(weights, prompts, neuron.shape[-1])
    hidden = (pooled @ neuron.mT).relu_()
    return Activations(weights, pooled, hidden, (params.a[:, None] @ hidden.mT)[:, 0])


def forward(params: Params, patterns: Patterns, prompts: Prompts, added: bool = False) -> Activations:
    """The output for each prompt; ``attention`` holds the signed weights.

    Args:
        added: use the raw scores as weights, and do not divide them by l.

    >>> from icl_lib.softmax.model import ModelConfig, init_params
    >>> from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
    >>> from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
    >>> patterns = stack_patterns([draw_patterns(PatternConfig(), seed=0)])
    >>> drawn = sample_prompts([PromptConfig()], task_table([((0, 1),)]), [0], patterns.counts, 50, "eval")
    >>> params = init_params(ModelConfig(), PatternConfig(), seed=0)
    >>> averaged, summed = (forward(params, patterns, drawn, added).output for added in (False, True))
    >>> torch.allclose(20 * averaged, summed)
    True
    """
    tables = _tables(params, patterns, prompts)
    weights = _gather(tables.asked @ (tables.query.mT @ tables.key), prompts)
    return _answer(params, tables.neuron, weights if added else weights / weights.shape[-1], prompts)


def forward_mean(params: Params, patterns: Patterns, prompts: Prompts) -> Activations:
    """The same model without a look at the query: every context has the weight 1 / l."""
    weights = torch.full_like(prompts.label, 1 / prompts.label.shape[-1])
    return _answer(params, _tables(params, patterns, prompts).neuron, weights, prompts)


def backward(
    params: Params,
    patterns: Patterns,
    prompts: Prompts,
    d_output: Float[Tensor, "E B"] | None = None,
    of_mean: bool = False,
) -> tuple[Activations, Params]:
    """Forward pass and the gradient of sum(d_output * F) in every weight, as ``softmax.model.backward``; weights averaged.

    Args:
        d_output: (E, B); by default the gradient of the mean hinge loss.
        of_mean: of ``forward_mean``, where W_Q and W_K have no gradient.
    """
    tables = _tables(params, patterns, prompts)
    act = (forward_mean if of_mean else forward)(params, patterns, prompts)
    if d_output is None:
        d_output = -(prompts.target * (prompts.target * act.output < 1)) / act.output.shape[1]
    active = (act.hidden > 0).to(act.hidden)  # 1 where a neuron fires, else 0
    d_neuron = params.a[..., None] * (active.mT @ (act.pooled * d_output[..., None]))
    d_pooled = (active @ (params.a[..., None] * tables.neuron)).mul_(d_output[..., None])
    d_scores = _gather(d_pooled, prompts) * (0.0 if of_mean else 1 / act.attention.shape[-1])
    d_g = tables.asked.mT @ _scatter(d_scores, prompts, tables.asked.shape[-1])
    d_tables = [tables.key @ d_g.mT, tables.query @ d_g, params.w_o.mT @ d_neuron]
    d_w_qkv = torch.cat(d_tables, dim=1) @ patterns.basis
    return act, Params(d_w_qkv, d_neuron @ tables.value.mT, torch.zeros_like(params.a))


backward_mean = partial(backward, of_mean=True)


def score_means(params: Params, patterns: Patterns) -> pd.DataFrame:
    """Mean score of a context with the query's pattern (own) and with another relevant one (other), kappa = 0, per member."""
    basis = patterns.basis[:, : patterns.n_relevant]
    scores = (basis @ params.w_q.mT) @ (basis @ params.w_k.mT).mT
    n, own = patterns.n_relevant, scores.diagonal(dim1=1, dim2=2).mean(1)
    other = (scores.sum((1, 2)) / n - own) / (n - 1)
    return pd.DataFrame({"member": range(len(own)), "own": own.tolist(), "other": other.tolist()})


def weighted_vote_error(counts: tuple[int, int, int], ratio: float, label_noise: float = 0.0) -> float:
    """Error of the sign of sum_i s_i y_i, the label part of what is pooled: exact, ours; nothing is fitted.

    Contexts with the query's pattern have the score 1 and labels z, the partner's the score ``ratio`` and labels -z, and all
    others the score ``ratio`` and a coin's labels. A sum of 0 counts half.

    Args:
        counts: contexts with the query's pattern, with its partner's, and all.
        ratio: score of a context with another pattern over that of one with the query's.
        label_noise: probability with which the label of a context of the task is flipped.

    >>> weighted_vote_error((1, 1, 20), 0.0), weighted_vote_error((0, 8, 20), 0.0)
    (0.0, 0.5)
    >>> round(weighted_vote_error((1, 1, 200), -0.2), 3)
    0.335
    """
    own, partner, n_context = counts
    require(min(own, partner) >= 0 and own + partner <= n_context, "counts", counts, "at least 0, and in all at most l")
    require_number("ratio", ratio, -1e6, 1e6)
    require_number("label_noise", label_noise, 0, 0.5)
    total, chance = np.zeros(1), np.ones(1)
    rest = n_context - own - partner
    for n, score, right in ((own, 1.0, 1 - label_noise), (partner, -ratio, 1 - label_noise), (rest, ratio, 0.5)):
        k = np.arange(n + 1)
        total = np.add.outer(total, score * (2 * k - n)).ravel()
        chance = np.multiply.outer(chance, binom.pmf(k, n, right)).ravel()
    total = np.where(np.abs(total) < 1e-9, 0.0, total)
    return round(float(chance @ ((total < 0) + 0.5 * (total == 0))), 15)


INPUTS = 16_384  # of the fourth moment in the exact loss of linear attention


def attention_losses(
    act: str, teacher: Particles, mu: Particles, seeds: Sequence[int], scales: Sequence[float], n_context: int, n: int,
    of: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row per member and attention: seed, attention ("linear", "softmax"), scale, loss, relative (to predicting 0).

    Features have a constant beside them. The loss of linear attention is the exact mean over prompts at each scale; that of
    softmax is a mean over n held-out prompts, at the scale that was best on n others.

    Args:
        act: sigma of the teacher, and of the model.
        of: "identity" if mu holds raw inputs instead.
    """
    require(len(scales) > 0, "scales", list(scales), "at least one")
    of = act if of is None else of
    x = torch.randn(INPUTS, teacher.w.shape[2], generator=generator(0, "inputs"))
    moments = model_moments(activation(act), teacher, mu, x, True, activation(of))
    zero = trace(moments.cov.c) / 2
    tried = torch.stack([loss_n(moments, scale * moments.cov.optimum, n_context) for scale in scales])
    linear, best = tried.min(0)
    law = TaskConfig(n_context=n_context, n_query=16)
    sources = [Source(law, member(teacher, e), act, seed) for e, seed in enumerate(seeds)]
    softmax = softmax_losses(of, act, teacher, mu, sources, scales, n)
    found = {
        "linear": (torch.tensor(scales, dtype=torch.float64)[best], linear),
        "softmax": (softmax.scale, softmax.loss),
    }
    return pd.concat(
        [
            pd.DataFrame(
                {"seed": list(seeds), "attention": name, "scale": scale, "loss": loss, "relative": loss / zero}
            )
            for name, (scale, loss) in found.items()
        ],
        ignore_index=True,
    )


STEPS = 1_000  # the stream "check" of ``assumptions`` is below


def take_away(
    prompts: Prompts, n_relevant: int, own: int, partner: int, seeds: Sequence[int], step: int = 0
) -> Prompts:
    """Prompts of exact counts in which some contexts get another pattern than the two of the task, and a coin's label.

    Args:
        own: contexts with the query's pattern; they come first and are always replaced.
        partner: of the contexts with the partner's pattern, which come next, so many are replaced.
    """
    first, second = prompts.query_parts[:, :, 0], prompts.parts[:, :, 0, own]
    require(bool((prompts.parts[:, :, 0, :own] == first[..., None]).all()), "prompts", "reading", "of exact counts")
    low, high = torch.minimum(first, second)[..., None], torch.maximum(first, second)[..., None]
    gone, size = own + partner, prompts.label.shape[1:2]
    gens = [generator(seed, "check", STEPS + step) for seed in seeds]
    other = torch.stack([torch.randint(n_relevant - 2, (*size, gone), generator=g) for g in gens])
    other += (other >= low).long()
    other += (other >= high).long()
    coin = torch.stack([torch.randint(2, (*size, gone), generator=g) for g in gens]) * 2.0 - 1
    parts, label = prompts.parts.clone(), prompts.label.clone()
    parts[:, :, 0, :gone], label[..., :gone] = other, coin
    return prompts._replace(parts=parts, label=label)


def errors_without(
    models: Ensemble,
    tasks: Sequence[Tasks],
    prompts: PromptConfig,
    partner_too: bool,
    n_prompts: int = 4_000,
    forward: Callable[..., Activations] = model.forward,
) -> pd.DataFrame:
    """0-1 error without the contexts with the query's pattern; one row per member: seed, n_prompts, n_errors, error.

    Args:
        prompts: of exact counts, before anything is taken away.
        partner_too: take away the partner's contexts as well; nothing is then left to go by.
    """
    require_integer("n_prompts", n_prompts, 1)
    own, partner = exact_counts(prompts.alpha, prompts.n_context)
    seeds, n_relevant = models.seeds, models.patterns.n_relevant

    def change(drawn: Prompts, step: int) -> Prompts:
        return take_away(drawn, n_relevant, own, partner * partner_too, seeds, step)

    found = evaluate_params(
        models.params, models.patterns, seeds, tasks, [prompts] * len(seeds), n_prompts, forward=forward,
        metrics=judged, change=change, group=None,
    )  # fmt: skip
    return found[["seed", "n_prompts", "n_errors", "error"]]
