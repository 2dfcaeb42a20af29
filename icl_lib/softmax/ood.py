"""Testing out of domain: on new patterns that mix the trained ones, several draws of them (*frames*) a seed.

Frames are made from (seed, frame) alone, so they are paired across S1, norms and models; the unit of replication stays the
seed, whose frames are pooled.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.evaluation import evaluate_params, select
from icl_lib.softmax.patterns import Patterns, build_patterns, orthonormal, out_of_domain, stack_patterns
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.tasks import Tasks, all_tasks
from icl_lib.validate import require_choice, require_integer

FRAMES = 1_000  # at most so many frames a seed, so that no two seeds share one


def outside_span(patterns: Patterns, n_odi: int, seed: int) -> Float[Tensor, "I d_x"]:
    """n_odi irrelevant patterns as long as the trained ones, orthogonal to all of these: outside span(mu) and span(nu).

    Raises:
        ConfigError: if d_x - M1 - M2 dimensions do not hold n_odi of them.

    >>> from icl_lib.softmax.patterns import PatternConfig, draw_patterns
    >>> patterns = draw_patterns(PatternConfig(d_x=40), seed=0)
    >>> bool((outside_span(patterns, 5, seed=0) @ patterns.relevant.T).abs().max() < 1e-5)
    True
    """
    trained = torch.cat([patterns.relevant, patterns.irrelevant])
    free = patterns.d_x - len(trained)
    require_integer("n_odi", n_odi, 1, free, f"between 1 and the number of free dimensions d_x - M1 - M2 = {free}")
    complement = torch.linalg.qr(trained.double().T, mode="complete").Q.T[len(trained) :].float()  # (free, d_x)
    length = patterns.irrelevant.norm(dim=1).mean()
    return length * orthonormal(n_odi, free, generator(seed, "ood outside")) @ complement


def frames(
    patterns: Patterns,
    seeds: Sequence[int],
    s1: float,
    n_frames: int,
    n_odr: int = 3,
    n_odi: int | None = None,
    norm: str = "kept",
    span: str = "inside",
) -> Patterns:
    """Out-of-domain patterns for every member and frame, (E * n_frames, ...), the frames of a member together.

    Args:
        s1, norm: coefficient sum and construction of mu', see ``patterns.ood_mixing``.
        n_odi: M2', by default as many irrelevant patterns as were trained.
        span: nu' "inside" span(nu), as the theorem has it, or "outside" the span of all trained patterns.
    """
    require_integer("n_frames", n_frames, 1, FRAMES)
    require_choice("span", span, ("inside", "outside"))
    n_odi, made = patterns.counts[1] if n_odi is None else n_odi, []
    for i, seed in enumerate(seeds):
        trained = patterns._replace(basis=patterns.basis[i])
        for frame in range(n_frames):
            of_frame = FRAMES * seed + frame
            new = out_of_domain(trained, n_odr, n_odi if span == "inside" else 1, s1, of_frame, norm)
            if span == "outside":
                new = build_patterns(new.relevant, outside_span(trained, n_odi, of_frame), trained.label)
            made.append(new)
    return stack_patterns(made)


class OutOfDomain(NamedTuple):
    """Members times frames, ready to be evaluated (``evaluate_params``, ``evaluate_pruned``) and pooled."""

    params: Any
    patterns: Patterns
    streams: list[int]  # numbers of the random streams, one per member and frame
    tasks: list[Tasks]
    seeds: list[int]  # the seed that each entry belongs to


def out_of_domain_test(ensemble: Any, s1: float, n_frames: int = 8, **frame: Any) -> OutOfDomain:
    """Every member of an ensemble with ``n_frames`` draws of out-of-domain patterns, on all of their tasks; ``frame`` as of ``frames``."""
    seeds = list(ensemble.seeds)
    new = frames(ensemble.patterns, seeds, s1, n_frames, **frame)
    of_row = [i for i in range(len(seeds)) for _ in range(n_frames)]
    streams = [FRAMES * seed + f for seed in seeds for f in range(n_frames)]
    tasks = [all_tasks(new.n_relevant)] * len(of_row)
    return OutOfDomain(select(ensemble.params, of_row), new, streams, tasks, [seeds[i] for i in of_row])


def evaluate_ood(
    ensemble: Any, prompts: PromptConfig, s1: float, n_frames: int = 8, n_prompts: int = 4_000, **options: Any
) -> pd.DataFrame:
    """``evaluate_params`` out of domain: every seed on several draws of new patterns (frames), on all of their tasks.

    Source: Li et al. 2024, theorem on out-of-domain generalisation; frames and pooling are ours.

    Args:
        ensemble: E trained members with ``params``, ``patterns`` (E, ...) and ``seeds``, as ``train`` and ``trained`` return it.
        prompts: how prompts are drawn, the same for every member.
        s1: coefficient sum of each new pattern, a pure number. At constant norm at most sqrt(M1 / n_odr) in size.
        n_frames: draws of new patterns per seed, at most ``FRAMES``.
        n_prompts: prompts per seed and frame, at least; rounded up to whole blocks.
        options: ``norm``, ``span``, ``n_odr`` and ``n_odi`` go to ``frames``; all others, such as ``forward``, ``min_errors``,
            ``max_prompts`` and ``block``, to ``evaluate_params``, where counts are per frame too.

    Returns:
        One row per seed with the columns of ``evaluate_params``: counts added over frames, means averaged over them.

    Raises:
        ConfigError: above all for an ``s1`` for which no orthonormal mixing exists; the message states the bound.
        TypeError: for an option that neither knows.

    >>> from icl_lib.softmax.training import TrainConfig, train
    >>> from icl_lib.softmax.tasks import uniform_cover
    >>> ensemble = train([TrainConfig(uniform_cover(6, 3, s), seed=s, n_steps=2) for s in range(3)])
    >>> table = evaluate_ood(ensemble, PromptConfig(n_context=8), s1=1.2, n_frames=2, n_prompts=10, block=10)
    >>> table["seed"].tolist(), table["n_prompts"].tolist()
    ([0, 1, 2], [20, 20, 20])
    >>> evaluate_ood(ensemble, PromptConfig(), s1=1.5)
    Traceback (most recent call last):
    ...
    icl_lib.validate.ConfigError: s1=1.5: must be at most sqrt(n_idr / n_odr) = 1.414 in size: no orthonormal rows with a larger sum exist
    """
    frame = {name: options.pop(name) for name in ("norm", "span", "n_odr", "n_odi") if name in options}
    test = out_of_domain_test(ensemble, s1, n_frames, **frame)
    rules = [prompts] * len(test.seeds)
    table = evaluate_params(test.params, test.patterns, test.streams, test.tasks, rules, n_prompts, **options)
    return pool_frames(table.assign(seed=test.seeds))


def pool_frames(table: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """One row per seed (and columns ``by``) from one row per frame: counts added, the other measures averaged."""
    groups = table.groupby([*by, "seed"], sort=False)
    summed = groups[["n_prompts", "n_errors", "n_lossy"]].sum()
    means = groups[[name for name in ("hinge", "margin", "attention") if name in table]].mean()
    pooled = summed.join(means).join(groups["largest_output"].max()).reset_index()
    return pooled.assign(error=pooled["n_errors"] / pooled["n_prompts"])
