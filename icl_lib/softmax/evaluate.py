"""Measuring a trained ensemble on fresh prompts: 0-1 error, hinge loss, attention on same-pattern contexts."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from icl_lib.softmax import model
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.model import hinge, wrong
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks, check_tasks
from icl_lib.validate import require, require_integer

BLOCK = 2_000  # prompts a member evaluates at once; part of the random stream, like the step
GROUP = 10  # members at a time: of more, the prompts do not fit in the cache


class NonFinite(RuntimeError):
    """A member's outputs are NaN or infinite: no loss or error of it means anything. The message names member and seed."""


def check_finite(outputs: Tensor, seeds: Sequence[int], members: Sequence[int] | None = None) -> None:
    """Refuse outputs (E, ...) that are NaN or infinite.

    Args:
        seeds: of all members.
        members: which ones the outputs are of, by default all.

    Raises:
        icl_lib.softmax.evaluate.NonFinite: naming the first such member.
    """
    finite = outputs.flatten(1).isfinite().all(1).tolist()
    if not all(finite):
        bad = (range(len(seeds)) if members is None else members)[finite.index(False)]
        raise NonFinite(f"member {bad}, seed {seeds[bad]}: outputs are not finite")


def check_members(params: NamedTuple, patterns: Patterns, seeds: Sequence[int], tasks: Sequence[Tasks]) -> None:
    """Refuse weights, patterns and tasks that are not one entry per seed, and tasks of unknown patterns.

    Raises:
        ConfigError: naming which.
    """
    for name, given in (("params", params[0]), ("patterns", patterns.basis), ("tasks", tasks)):
        require(len(given) == len(seeds), name, len(given), f"one entry per seed, {len(seeds)}")
    for of_member in tasks:
        check_tasks(of_member, patterns.n_relevant, require_cover=False)


def select(params: Any, members: Sequence[int]) -> Any:
    """The weights of some members: ``params`` is a named tuple of tensors with leading ensemble dimension."""
    return type(params)(*(weight[members] for weight in params))


@torch.no_grad()
def evaluate_params(
    params: NamedTuple,
    patterns: Patterns,
    seeds: Sequence[int],
    tasks: Sequence[Tasks],
    prompts: Sequence[PromptConfig],
    n_prompts: int = 10_000,
    min_errors: float = 0,
    max_prompts: int = 1_000_000,
    forward: Callable[..., Any] = model.forward,
    block: int | None = None,
) -> pd.DataFrame:
    """Error, hinge loss and same-pattern attention mass of every member, on prompts of the held-out stream "eval".

    Args:
        params, patterns: as trained, or changed (pruned, out of domain).
        tasks, prompts: one entry per member; n_context and reading agree over the ensemble.
        n_prompts: at least so many per member, rounded up to whole blocks.
        min_errors: each member goes on until it has made so many errors or seen ``max_prompts``.
        forward: of the network that ``params`` belong to; returns ``output`` (E, B) and ``attention`` (E, B, l).
        block: prompts a member evaluates at once, ``BLOCK`` by default.

    Returns:
        One row per member: member, seed, n_prompts, n_errors (F = 0 counts half), n_lossy (prompts
        with a positive hinge loss), largest_output (max |F|), error, hinge, attention, margin (mean of z F).

    Raises:
        ConfigError: for no prompts, tasks of unknown patterns, and anything that is not one entry per seed.
        icl_lib.softmax.evaluate.NonFinite: if outputs are NaN or infinite, as those of a member that has diverged.
    """
    require_integer("n_prompts", n_prompts, 1)
    check_members(params, patterns, seeds, tasks)
    require(len(prompts) == len(seeds), "prompts", len(prompts), f"one entry per seed, {len(seeds)}")
    size = BLOCK if block is None else block
    sums, largest = torch.zeros(len(seeds), 5, dtype=torch.float64), torch.zeros(len(seeds))
    seen, active, step = torch.zeros(len(seeds), 1, dtype=torch.int64), list(range(len(seeds))), 0
    while active:  # members that have made enough errors drop out
        for group in (active[i : i + GROUP] for i in range(0, len(active), GROUP)):
            rules, table = [prompts[i] for i in group], task_table([tasks[i] for i in group])
            drawn = sample_prompts(rules, table, [seeds[i] for i in group], patterns.counts, size, "eval", step)
            frame = patterns._replace(basis=patterns.basis[group])
            act = forward(select(params, group), frame, drawn)
            check_finite(act.output, seeds, group)
            mass, loss = (act.attention * drawn.same_pattern()).sum(-1), hinge(act, drawn)
            largest[group] = torch.maximum(largest[group], act.output.abs().amax(1))
            measured = (wrong(act, drawn), loss > 0, loss, mass, drawn.target * act.output)
            sums[group] += torch.stack([m.sum(1, dtype=torch.float64) for m in measured], dim=1)
        seen[active] += size
        step += 1
        short = (seen[:, 0] < max_prompts) & (sums[:, 0] < min_errors) | (seen[:, 0] < n_prompts)
        active = short.nonzero()[:, 0].tolist()
    counts = dict(zip(("n_errors", "n_lossy"), sums[:, :2].T.tolist(), strict=True))
    error, _, mean_loss, attention, margin = (sums / seen).T.tolist()
    rows = {"member": range(len(seeds)), "seed": list(seeds), "n_prompts": seen[:, 0].tolist(), **counts}
    means = {"error": error, "hinge": mean_loss, "attention": attention, "margin": margin}
    return pd.DataFrame({**rows, "largest_output": largest.tolist(), **means})


def evaluate(
    ensemble: Ensemble, tasks: Sequence[Tasks], prompts: PromptConfig, n_prompts: int = 10_000, **limits: Any
) -> pd.DataFrame:
    """``evaluate_params`` for a trained ensemble, with one prompt rule for all members.

    >>> from icl_lib.softmax.tasks import uniform_cover, unseen
    >>> from icl_lib.softmax.train import TrainConfig, train
    >>> ensemble = train([TrainConfig(tasks=uniform_cover(6, 3, seed=0), n_steps=2)])
    >>> new = unseen(ensemble.configs[0].tasks, 6)
    >>> table = evaluate(ensemble, [new], PromptConfig(), n_prompts=2_000)
    >>> int(table.loc[0, "n_prompts"]), bool(0 <= table.loc[0, "error"] <= 1)
    (2000, True)
    """
    rules = [prompts] * len(ensemble.configs)
    return evaluate_params(ensemble.params, ensemble.patterns, ensemble.seeds, tasks, rules, n_prompts, **limits)
