"""Prompts of Paper L, kept as codes: which patterns each input is made of (Li et al. 2024, data model).

An input is x = mu_j + kappa nu_k, so a prompt is fully described by the numbers j, k, kappa and
the labels. The model works on these codes directly (``model.py``); ``dense`` writes the tokens out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.floors import READINGS, exact_counts
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.tasks import Tasks
from icl_lib.validate import require, require_choice, require_integer, require_members, require_memory, require_number


@dataclass(frozen=True)
class PromptConfig:
    """The rule by which context inputs are drawn.

    Attributes:
        alpha: fraction of contexts that carry one of the task's two patterns (alpha' at test time).
        n_context: l, number of labelled examples before the query.
        kappa_max: K; the irrelevant part is kappa * nu with kappa uniform on [-K, K]. The paper has K <= 1/2.
        reading: "independent": each context carries mu_a w.p. alpha/2, mu_b w.p. alpha/2, each other
            pattern w.p. (1 - alpha)/(M1 - 2). "exact": the numbers of contexts with the query's
            and its partner's pattern are those of ``floors.exact_counts``; the rest are uniform over the others. In short
            prompts that is another fraction than alpha: ``floors.exact_alpha``.
    """

    alpha: float = 0.8
    n_context: int = 20
    kappa_max: float = 0.5
    reading: str = "independent"

    def __post_init__(self) -> None:
        require_number("alpha", self.alpha, 0, 1)
        require_integer("n_context", self.n_context, 1)
        require_number("kappa_max", self.kappa_max, 0, 1e6)
        require_choice("reading", self.reading, READINGS)


class Prompts(NamedTuple):
    """A batch of prompts as codes; the leading dimensions are ensemble and batch.

    Attributes:
        parts: (E, B, 2, l), relevant and irrelevant pattern of each context, as rows of ``Patterns.basis``.
        kappa: (E, B, l), size of the irrelevant part.
        label: (E, B, l), +1 or -1.
        query_parts: (E, B, 2), the same for the query.
        query_kappa: (E, B), the same for the query.
        target: (E, B), z, the query's label.
    """

    parts: Int[Tensor, "E B 2 l"]
    kappa: Float[Tensor, "E B l"]
    label: Float[Tensor, "E B l"]
    query_parts: Int[Tensor, "E B 2"]
    query_kappa: Float[Tensor, "E B"]
    target: Float[Tensor, "E B"]

    def same_pattern(self) -> Tensor:
        """(E, B, l), True where a context carries the query's relevant pattern."""
        return self.parts[:, :, 0] == self.query_parts[:, :, :1]

    def dense(self, patterns: Patterns) -> Float[Tensor, "E B d l_plus_1"]:
        """The prompt matrix P of the paper, one column a token, the query last with a zero label."""
        basis = patterns.basis
        member = torch.arange(len(basis))[:, None, None]
        context = basis[member, self.parts[:, :, 0]] + self.kappa[..., None] * basis[member, self.parts[:, :, 1]]
        context = context + self.label[..., None] * basis[:, None, None, -1]
        of_query = basis[member, self.query_parts]  # (E, B, 2, d)
        query = of_query[:, :, 0] + self.query_kappa[..., None] * of_query[:, :, 1]
        return torch.cat([context, query[:, :, None]], dim=2).mT


def codes_of(prompts: Prompts, n_rows: int) -> Tensor:
    """(n, T, P + 1): tokens of one member's prompts as coefficients of the patterns and q; the query has no label."""
    relevant, irrelevant = torch.cat([prompts.parts, prompts.query_parts[..., None]], -1)[..., None].unbind(1)
    codes = prompts.kappa.new_zeros(*relevant.shape[:2], n_rows)
    codes.scatter_(2, relevant, 1.0)
    codes.scatter_(2, irrelevant, torch.cat([prompts.kappa, prompts.query_kappa[:, None]], 1)[..., None])
    codes[:, :-1, -1] = prompts.label
    return codes


class TaskTable(NamedTuple):
    """Task sets of an ensemble, padded to one length: (E, T, 2) and the number that counts, (E,)."""

    pairs: Int[Tensor, "E T 2"]
    n_tasks: Int[Tensor, " E"]


def task_table(task_sets: Sequence[Tasks]) -> TaskTable:
    """One task set per member, as tensors."""
    longest = max(len(tasks) for tasks in task_sets)
    padded = [list(tasks) + [tasks[0]] * (longest - len(tasks)) for tasks in task_sets]
    return TaskTable(torch.tensor(padded), torch.tensor([len(tasks) for tasks in task_sets]))


@lru_cache
def _outcomes(n_idr: int) -> tuple[Tensor, Tensor]:
    """Pattern and label of context outcome 0 (a, +1), 1 (b, -1), 2.. (another pattern, either label).

    The pattern of outcome i of task (a, b) is entry (a * M1 + b) * (2 M1 - 2) + i.
    """
    pattern = torch.zeros(n_idr * n_idr, 2 * n_idr - 2, dtype=torch.int64)
    for a in range(n_idr):
        for b in range(n_idr):
            others = [i for i in range(n_idr) if i not in (a, b)][: n_idr - 2]  # a = b is no task: anything
            pattern[a * n_idr + b] = torch.tensor([a, b, *(i for i in others for _ in range(2))])
    return pattern.flatten(), torch.tensor([1.0, -1.0] * (n_idr - 1))


def _uniform(seeds: Sequence[int], purpose: str, step: int, n: int) -> Float[Tensor, "E n"]:
    """n numbers a seed, uniform on the open interval (0, 1): 32 random bits each, rounded to a float.

    One 64-bit draw serves two numbers, which takes less time than ``torch.rand``. The interval is
    cut by 2^-21 at both ends, so that no rounding reaches 0 or 1.
    """
    bits = torch.empty(len(seeds), (n + 1) // 2, dtype=torch.int64)
    for row, seed in zip(bits, seeds, strict=True):
        row.random_(-(2**63), None, generator=generator(seed, purpose, step))
    return bits.view(torch.int32)[:, :n].float().mul_((1 - 2**-20) / 2**32).add_(0.5)


def sample_prompts(
    configs: Sequence[PromptConfig],
    tasks: TaskTable,
    seeds: Sequence[int],
    n_patterns: tuple[int, int],
    n_prompts: int,
    purpose: str,
    step: int = 0,
) -> Prompts:
    """Draw ``n_prompts`` prompts for each member of an ensemble.

    Args:
        configs: one rule per member; n_context and reading must agree over the ensemble.
        tasks: the tasks of each member, each equally likely.
        seeds: one per member; member e draws from the stream (seeds[e], purpose, step) and from
            nothing else, so it draws what a solo run with that seed draws.
        n_patterns: numbers of relevant and irrelevant patterns.

    >>> rule = PromptConfig(alpha=0.6, n_context=10, reading="exact")
    >>> tasks = task_table([((0, 1), (1, 0))])
    >>> prompts = sample_prompts([rule], tasks, [0], (6, 24), 100, "eval")
    >>> prompts.label.shape
    torch.Size([1, 100, 10])
    >>> bool((prompts.same_pattern().sum(-1) == 3).all())
    True
    """
    require_members("configs", configs)
    l, n_idr, n_other = configs[0].n_context, n_patterns[0], 2 * (n_patterns[0] - 2)
    require(len({(c.n_context, c.reading) for c in configs}) == 1, "configs", configs, "alike in n_context and reading")
    require_memory("n_prompts, n_context", (n_prompts, l), 16.0 * len(seeds) * l * n_prompts)
    u = _uniform(seeds, purpose, step, (2 * l + 3) * n_prompts)
    u_context, u_other = u[:, : 2 * l * n_prompts].view(-1, 2, n_prompts, l).unbind(1)
    u_query, u_task, u_side = u[:, 2 * l * n_prompts :].view(-1, 3, n_prompts).unbind(1)

    def per_member(values: list[float]) -> Tensor:
        return torch.tensor(values)[:, None, None]

    chosen = (u_task * tasks.n_tasks[:, None]).long()
    first = (tasks.pairs * torch.tensor([n_idr, 1])).sum(-1).gather(1, chosen).mul_(2 + n_other)[..., None]
    side = (u_side * 2).long()[..., None]  # 0: the query carries mu_a, 1: it carries mu_b
    alpha = per_member([c.alpha for c in configs])
    if configs[0].reading == "independent":
        # [0, alpha) is stretched to [0, 2), outcomes a and b; [alpha, 1) to the n_other outcomes from 2 on.
        one_of_pair = (u_context * (2 / alpha.clamp(min=1e-9))).clamp_(max=2)
        other = (u_context - alpha).mul_(n_other / (1 - alpha).clamp(min=1e-9)).clamp_(min=0)
        outcome = one_of_pair.add_(other).long()
    else:
        n_query = per_member([exact_counts(c.alpha, l)[0] for c in configs])
        n_both = per_member([sum(exact_counts(c.alpha, l)) for c in configs])
        position = torch.arange(l)
        partner = (position >= n_query).long()
        outcome = torch.where(position < n_both, side ^ partner, 2 + (u_context * n_other).long())
    # Both kinds of parts lie one after the other in memory, as the model reads them.
    parts = torch.empty(2, *outcome.shape, dtype=torch.int64)
    pattern_of, label_of = _outcomes(n_idr)
    torch.index_select(pattern_of, 0, (outcome + first).view(-1), out=parts[0].view(-1))
    # One uniform number gives pattern and kappa: its integer multiple of 1/M2, and what is left over.
    kappa_max = per_member([c.kappa_max for c in configs])
    scaled, scaled_query = u_other * n_patterns[1], u_query[..., None] * n_patterns[1]
    parts[1].copy_(scaled).add_(n_idr)
    query = pattern_of.take(first + side)
    return Prompts(
        parts=parts.movedim(0, 2),
        kappa=scaled.frac_().mul_(2 * kappa_max).sub_(kappa_max),
        label=label_of.index_select(0, outcome.view(-1)).view(outcome.shape),
        query_parts=torch.cat([query, scaled_query.long() + n_idr], dim=-1),
        query_kappa=scaled_query.frac_().mul_(2 * kappa_max).sub_(kappa_max)[..., 0],
        target=1.0 - 2.0 * side[..., 0],
    )
