"""Prompts of Paper L, kept as codes: which patterns each input is made of (Li et al. 2024, data model).

An input is x = mu_j + kappa nu_k, so a prompt is fully described by the numbers j, k, kappa and
the labels. The model works on these codes directly (``model.py``); ``dense`` writes the tokens out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.floors import READINGS, exact_counts
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.sampler import decode
from icl_lib.softmax.tasks import Tasks
from icl_lib.validate import require, require_choice, require_integer, require_members, require_memory, require_number

CHUNK = 8  # training steps whose prompts are drawn together; part of the random stream, so not a setting


@dataclass(frozen=True)
class PromptConfig:
    """The rule by which context inputs are drawn.

    Attributes:
        alpha: fraction of contexts that carry one of the task's two patterns (alpha' at test time).
        n_context: l, number of labelled examples before the query.
        kappa_max: K; the irrelevant part is kappa * nu with kappa uniform on [-K, K]. The paper has K <= 1/2.
        reading: "independent" or "exact", as ``floors`` defines them. In short exact prompts alpha is another fraction,
            ``floors.exact_alpha``.
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


def _bits(seeds: Sequence[int], purpose: str, step: int, n: int) -> Int[Tensor, "E n"]:
    """n times 32 random bits a seed; one draw of 64 bits serves two numbers."""
    bits = torch.empty(len(seeds), (n + 1) // 2, dtype=torch.int64)
    for row, seed in zip(bits, seeds, strict=True):
        row.random_(-(2**63), None, generator=generator(seed, purpose, step))
    return bits.view(torch.int32)


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
        tasks: of each member, each equally likely.
        seeds: one per member; member e draws from the stream (seeds[e], purpose, step) alone, as a solo run does.
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
    (n_idr, n_idi), l, reading = n_patterns, configs[0].n_context, configs[0].reading
    require(len({(c.n_context, c.reading) for c in configs}) == 1, "configs", configs, "alike in n_context and reading")
    configs = [*configs] * len(seeds) if len(configs) == 1 else configs
    one_each = len(configs) == len(tasks.n_tasks) == len(seeds)
    require(one_each, "configs, tasks", (len(configs), len(tasks.n_tasks)), f"one per seed, {len(seeds)}")
    shape = (len(seeds), n_prompts, l)
    require_memory("n_prompts, n_context", (n_prompts, l), 16.0 * math.prod(shape))
    bits = _bits(seeds, purpose, step, (2 * l + 3) * n_prompts)
    counts = [exact_counts(c.alpha, l) if reading == "exact" else (0, -1) for c in configs]
    only_pair = all(
        both == l if reading == "exact" else c.alpha == 1 for c, both in zip(configs, map(sum, counts), strict=True)
    )
    require(n_idr >= 3 or only_pair, "n_patterns", n_idr, "at least 3 relevant ones, for contexts off the task")
    per_member = [np.array(x, np.float32) for x in zip(*((c.alpha, c.kappa_max) for c in configs), strict=True)]
    n_query, n_both = np.ascontiguousarray(np.array([(same, same + partner) for same, partner in counts]).T)
    parts = torch.empty(
        2, *shape, dtype=torch.int64
    )  # both kinds one after the other in memory, as the model reads them
    prompts = Prompts(
        parts=parts.movedim(0, 2),
        kappa=torch.empty(shape),
        label=torch.empty(shape),
        query_parts=torch.empty(*shape[:2], 2, dtype=torch.int64),
        query_kappa=torch.empty(shape[:2]),
        target=torch.empty(shape[:2]),
    )
    filled = [parts.numpy(), *(part.numpy() for part in prompts[1:])]
    given = [part.numpy() for part in (bits, *tasks)]
    decode(*given, *per_member, n_query, n_both, n_idr, n_idi, l, *filled)
    return prompts
