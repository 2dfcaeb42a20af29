"""Measuring a trained ensemble on fresh prompts: 0-1 error, hinge loss, attention on same-pattern contexts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from icl_lib.softmax import fused
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.model import hinge, wrong
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks, check_tasks
from icl_lib.validate import require, require_integer, require_members

BLOCK = 2_000  # prompts a member evaluates at once; part of the random stream, like the step
GROUP = 10  # members at a time: of more, the prompts do not fit in the cache


class NonFinite(RuntimeError):
    """A member's outputs are NaN or infinite: no loss or error of it means anything. The message names member and seed."""


def select(params: Any, members: Sequence[int]) -> Any:
    """The weights of some members: ``params`` is a named tuple of tensors with leading ensemble dimension."""
    return type(params)(*(weight[members] for weight in params))


def judged(act: Any, prompts: Any) -> dict[str, Tensor]:
    """Metrics of outputs: whether F is wrong, whether the hinge loss is positive, the loss, and the margin z F."""
    loss = hinge(act, prompts)
    return {"n_errors": wrong(act, prompts), "n_lossy": loss > 0, "hinge": loss, "margin": prompts.target * act.output}


def with_attention(act: Any, prompts: Prompts) -> dict[str, Tensor]:
    """``judged``, and the attention mass on contexts with the query's pattern."""
    *found, margin = judged(act, prompts).items()
    return dict([*found, ("attention", (act.attention * prompts.same_pattern()).sum(-1)), margin])


def _table(seeds: Sequence[int], seen: Tensor, sums: dict[str, Tensor], largest: Tensor) -> pd.DataFrame:
    """One row per member (and mask), from sums over the prompts that each has seen."""
    members, *masks = np.indices(largest.shape).reshape(largest.dim(), -1)
    table = {"member": members, **({"mask": masks[0]} if masks else {}), "seed": [seeds[i] for i in members]}
    table["n_prompts"] = n = seen.numpy()[members]
    found = {name: total.flatten().numpy() for name, total in sums.items()}
    counts = {name: total for name, total in found.items() if name.startswith("n_")}
    means = {name: total / n for name, total in found.items() if name not in counts}
    error = {"largest_output": largest.flatten().numpy(), "error": counts["n_errors"] / n}
    return pd.DataFrame({**table, **counts, **error, **means})


@torch.no_grad()
def evaluate_params(
    params: Any,
    patterns: Patterns,
    seeds: Sequence[int],
    tasks: Sequence[Tasks],
    prompts: Sequence[PromptConfig],
    n_prompts: int = 10_000,
    min_errors: float = 0,
    max_prompts: int = 1_000_000,
    forward: Callable[..., Any] = fused.forward,
    block: int | None = None,
    metrics: Callable[[Any, Any], Mapping[str, Tensor]] = with_attention,
    change: Callable[[Prompts, int], Any] | None = None,
    group: int | None = GROUP,
) -> pd.DataFrame:
    """What the members do with prompts of the held-out stream "eval", block by block; nothing but sums is kept.

    Args:
        params, patterns: as trained, or changed (pruned, out of domain).
        tasks, prompts: one entry per member; n_context and reading agree over the ensemble.
        n_prompts: at least so many per member, rounded up to whole blocks.
        min_errors: each member goes on until it has made so many errors or seen ``max_prompts``.
        forward: of the network: (params, patterns, prompts) -> activations, with ``output`` (E, B), or (E, B, R) of R
            variants of a member.
        block: prompts a member evaluates at once, ``BLOCK`` by default.
        metrics: (activations, prompts) -> one value a prompt (and variant), by name; ``n_errors`` is among them.
        change: what to make of a block of prompts of all members (``group`` None, ``min_errors`` 0), given its number.
        group: members at a time; None for all.

    Returns:
        One row per member: member, seed, n_prompts, the sum of every metric n_..., largest_output (max |F|), error (n_errors
        over n_prompts), the mean of every other metric; by default n_errors (F = 0 counts half), n_lossy (prompts with a
        positive hinge loss), hinge, attention and margin (z F). With variants, one row each, in the column mask.

    Raises:
        ConfigError: for no prompts, tasks of unknown patterns, and anything that is not one entry per seed.
        icl_lib.softmax.evaluation.NonFinite: if outputs are NaN or infinite, as those of a member that has diverged.
    """
    require_integer("n_prompts", n_prompts, 1)
    require_members("seeds", seeds)
    for name, given in (("params", params[0]), ("patterns", patterns.basis), ("tasks", tasks), ("prompts", prompts)):
        require(len(given) == len(seeds), name, len(given), f"one entry per seed, {len(seeds)}")
    for of_member in tasks:
        check_tasks(of_member, patterns.n_relevant, require_cover=False)
    whole = change is None or (group is None and min_errors == 0)
    require(whole, "change", (group, min_errors), "of all members at once: with group None and min_errors 0")
    size, group = BLOCK if block is None else block, group or len(seeds)
    sums, largest = dict[str, Tensor](), torch.zeros(0)
    seen, active, step = torch.zeros(len(seeds), dtype=torch.int64), list(range(len(seeds))), 0
    while active:  # members that have made enough errors drop out
        for some in (active[i : i + group] for i in range(0, len(active), group)):
            rules, table = [prompts[i] for i in some], task_table([tasks[i] for i in some])
            drawn: Any = sample_prompts(rules, table, [seeds[i] for i in some], patterns.counts, size, "eval", step)
            drawn = change(drawn, step) if change else drawn
            act = forward(select(params, some), patterns._replace(basis=patterns.basis[some]), drawn)
            for i, output in zip(some, act.output, strict=True):
                if not bool(output.isfinite().all()):
                    raise NonFinite(f"member {i}, seed {seeds[i]}: outputs are not finite")
            for name, values in metrics(act, drawn).items():
                added = values.sum(1, dtype=torch.float64)
                sums.setdefault(name, added.new_zeros(len(seeds), *added.shape[1:]))[some] += added
            top = act.output.abs().amax(1)
            largest = largest if len(largest) else top.new_zeros(len(seeds), *top.shape[1:])
            largest[some] = torch.maximum(largest[some], top)
        seen[active] += size
        step += 1
        errors = sums["n_errors"].view(len(seeds), -1).amin(1)
        active = ((seen < max_prompts) & (errors < min_errors) | (seen < n_prompts)).nonzero()[:, 0].tolist()
    return _table(seeds, seen, sums, largest.double())


def evaluate(
    ensemble: Ensemble, tasks: Sequence[Tasks], prompts: PromptConfig, n_prompts: int = 10_000, **limits: Any
) -> pd.DataFrame:
    """``evaluate_params`` for a trained ensemble, with one prompt rule for all members.

    >>> from icl_lib.softmax.tasks import uniform_cover, unseen
    >>> from icl_lib.softmax.training import TrainConfig, train
    >>> ensemble = train([TrainConfig(tasks=uniform_cover(6, 3, seed=0), n_steps=2)])
    >>> new = unseen(ensemble.configs[0].tasks, 6)
    >>> table = evaluate(ensemble, [new], PromptConfig(), n_prompts=2_000)
    >>> int(table.loc[0, "n_prompts"]), bool(0 <= table.loc[0, "error"] <= 1)
    (2000, True)
    """
    rules = [prompts] * len(ensemble.configs)
    return evaluate_params(ensemble.params, ensemble.patterns, ensemble.seeds, tasks, rules, n_prompts, **limits)
