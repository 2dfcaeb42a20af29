"""Giving up Paper L's data assumptions one by one: orthogonal patterns, a small irrelevant part, clean labels.

Without a change the results are those of `training.train` and `evaluation.evaluate`. The constructions are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax import fused
from icl_lib.softmax.descent import Ensemble, Written, descend, stacked_patterns
from icl_lib.softmax.evaluation import evaluate_params, judged
from icl_lib.softmax.model import Activations, Params
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts
from icl_lib.softmax.tasks import Tasks
from icl_lib.softmax.training import TrainConfig, batches, initial_state, learner, sgd
from icl_lib.validate import require, require_integer, require_number


@dataclass(frozen=True)
class Assumptions:
    """How far the data are from the paper's: its own values are 0, at most 1/2, and 0.

    Attributes:
        correlation: c, the inner product of two relevant patterns over beta squared, the same for all pairs.
        kappa_max: K, the size of the irrelevant part.
        label_noise: probability with which the label of a context is flipped (the query's target is not).

    >>> Assumptions(correlation=1.0)
    Traceback (most recent call last):
    ...
    icl_lib.validate.ConfigError: correlation=1.0: must be a finite number in [0, 0.99]
    """

    correlation: float = 0.0
    kappa_max: float = 0.5
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        require_number("correlation", self.correlation, 0, 0.99)
        require_number("kappa_max", self.kappa_max, 0)
        require_number("label_noise", self.label_noise, 0, 0.5)


def mixing(n_idr: int, correlation: float) -> Float[Tensor, "M1 M1"]:
    """The symmetric root of the Gram matrix (1 - c) I + c 1 1^T: rows of norm 1 with inner products c.

    Its eigenvector 1 has the root sqrt(1 + (M1 - 1) c), so that is what each row sums to: S1 in the sense of Part I.

    >>> root = mixing(6, 0.5)
    >>> torch.allclose(root @ root, 0.5 * torch.eye(6) + 0.5), torch.allclose(root.sum(1), torch.tensor(3.5).sqrt())
    (True, True)
    """
    rest = (1 - correlation) ** 0.5
    return rest * torch.eye(n_idr) + (coefficient_sum(n_idr, correlation) - rest) / n_idr


def coefficient_sum(n_idr: int, correlation: float) -> float:
    """S1 of correlated patterns, sqrt(1 + (M1 - 1) c)."""
    return (1 + (n_idr - 1) * correlation) ** 0.5


def correlated(patterns: Patterns, correlation: Sequence[float]) -> Patterns:
    """Orthogonal patterns of an ensemble with the relevant ones made to correlate, one c per member; norms are kept."""
    n = patterns.n_relevant
    root = torch.stack([mixing(n, c) for c in correlation])
    basis = patterns.basis.clone()
    basis[:, :n] = root @ basis[:, :n]
    return patterns._replace(basis=basis)


def flipped(prompts: Prompts, rates: Float[Tensor, " E"], seeds: Sequence[int], purpose: str, step: int) -> Prompts:
    """Prompts with every context label flipped at its member's rate, from the stream (seed, purpose, step)."""
    if not bool(rates.any()):
        return prompts
    size = prompts.label.shape[1:]
    u = torch.stack([torch.rand(size, generator=generator(seed, purpose, step)) for seed in seeds])
    return prompts._replace(label=torch.where(u < rates[:, None, None], -prompts.label, prompts.label))


def vote_error(n_same: int, label_noise: float) -> float:
    """Error of the vote of n contexts that carry the query's pattern, each label flipped independently; ties count half.

    >>> vote_error(1, 0.3), vote_error(8, 0.0)
    (0.3, 0.0)
    """
    require_integer("n_same", n_same, 1)
    right = binom(n_same, 1 - label_noise)
    tie = right.pmf(n_same // 2) / 2 if n_same % 2 == 0 else 0.0
    return round(float(right.cdf((n_same - 1) // 2) + tie), 15)


def train_under(
    configs: Sequence[TrainConfig],
    assumed: Sequence[Assumptions],
    backward: Callable[..., tuple[Activations, Params]] | None = None,
) -> Ensemble:
    """`training.train` on changed data, one ``Assumptions`` per member; their K takes the place of the config's.

    ``backward``, where it is given, is of another model, which is trained with the same weights on the same prompts.

    Raises:
        ConfigError: no step to take, or members that are not alike.
        icl_lib.errors.Diverged: as ``softmax.descent.descend``.

    >>> from icl_lib.softmax.tasks import uniform_cover
    >>> run = TrainConfig(uniform_cover(6, 3, 0), n_steps=2)
    >>> train_under([run, run], [Assumptions(), Assumptions(correlation=0.5)]).losses.shape
    torch.Size([2, 2])
    """
    require(len(configs) == len(assumed), "assumed", len(assumed), f"one per member, {len(configs)}")
    shared = {(*c.shape(), c.n_steps) for c in configs}
    require(len(shared) == 1 and configs[0].fixed_prompts is None, "configs", "ensemble", "alike, with fresh prompts")
    require_integer("n_steps", configs[0].n_steps, 1)
    pairs = zip(configs, assumed, strict=True)
    configs = [replace(c, prompts=replace(c.prompts, kappa_max=a.kappa_max)) for c, a in pairs]
    patterns = correlated(stacked_patterns(configs), [a.correlation for a in assumed])
    seeds, noise = [c.seed for c in configs], torch.tensor([a.label_noise for a in assumed])

    def change(fresh: Prompts, chunk: int) -> Prompts:
        return flipped(fresh, noise, seeds, "train flips", chunk)

    taught = partial(Written, backward, sgd) if backward else learner
    done = descend(configs, initial_state(configs), configs[0].n_steps, patterns, batches(configs, change), taught)
    return Ensemble(tuple(configs), patterns, done.params, done.losses)


def evaluate_under(
    models: Ensemble,
    patterns: Patterns,
    assumed: Sequence[Assumptions],
    tasks: Sequence[Tasks],
    prompts: PromptConfig,
    n_prompts: int = 4_000,
    forward: Callable[..., Activations] = fused.forward,
) -> pd.DataFrame:
    """`evaluation.evaluate` on changed data: the same columns, on the held-out streams "eval" and, for flips, "check".

    attention is the share of the absolute attention weights, so that it also says something where these have signs.

    Args:
        patterns: of the test, such as ``models.patterns`` or a correlated version of them.
        assumed: one per member; the correlation is that of ``patterns`` and is not applied again.
        prompts: the rule of all members; each one's own K takes the place of its K.
        forward: of the model that was trained.
    """
    seeds, rules = models.seeds, [replace(prompts, kappa_max=a.kappa_max) for a in assumed]
    noise = torch.tensor([a.label_noise for a in assumed])

    def change(drawn: Prompts, step: int) -> Prompts:
        return flipped(drawn, noise, seeds, "check", step)

    def metrics(act: Activations, drawn: Prompts) -> dict[str, Tensor]:
        size = act.attention.abs()
        return {**judged(act, drawn), "attention": (size * drawn.same_pattern()).sum(-1) / size.sum(-1)}

    found = evaluate_params(
        models.params, patterns, seeds, tasks, rules, n_prompts, forward=forward,
        metrics=metrics, change=change, group=None,
    )  # fmt: skip
    return found.assign(largest_output=found.pop("largest_output").max())
