"""Prompts against their laws: every deviation is measured in exact standard errors, seeds are fixed."""

import math
from functools import lru_cache
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import jaxtyped
from scipy import stats
from torch import Tensor

from icl_lib.softmax.floors import bayes_floor, exact_counts, vote_floor
from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks, all_tasks, uniform_cover
from icl_lib.validate import ConfigError

M1, M2, N = 6, 5, 20_000
SIGMAS = 4.5


@lru_cache
def draw(
    alpha: float,
    length: int,
    reading: str = "independent",
    tasks: Tasks = ((0, 1),),
    m1: int = M1,
    kappa_max: float = 0.5,
) -> Prompts:
    """N prompts of one member."""
    config = PromptConfig(alpha, length, kappa_max, reading)
    return sample_prompts([config], task_table([tasks]), [11], (m1, M2), N, "law")


def assert_rate(hits: Tensor, p: float) -> None:
    """Independent trials hit at rate p, up to SIGMAS standard errors."""
    n = hits.numel()
    assert abs(float(hits.double().mean()) - p) <= SIGMAS * math.sqrt(p * (1 - p) / n)


READINGS = pytest.mark.parametrize("reading", ["independent", "exact"])


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.37, 0.8, 1.0])
def test_pattern_frequencies_independent(alpha: float) -> None:
    relevant = draw(alpha, 9).parts[0, :, 0]
    for j, p in enumerate([alpha / 2, alpha / 2] + [(1 - alpha) / (M1 - 2)] * (M1 - 2)):
        assert_rate(relevant == j, p)
        for i in (0, 8):  # at every position, not only on average
            assert_rate(relevant[:, i] == j, p)
    # contexts are independent: the number with the query's pattern is binomial
    counts = torch.bincount(draw(alpha, 9).same_pattern()[0].sum(-1), minlength=10)
    expected = N * stats.binom(9, alpha / 2).pmf(range(10))
    likely = expected > 5
    if likely.sum() > 1:
        assert (((counts.numpy() - expected) ** 2 / expected)[likely]).sum() < stats.chi2(likely.sum() - 1).isf(1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("length", [1, 2, 7, 10])
def test_pattern_counts_exact(alpha: float, length: int) -> None:
    prompts = draw(alpha, length, "exact")
    relevant, query = prompts.parts[0, :, 0], prompts.query_parts[0, :, 0]
    n_query, n_partner = exact_counts(alpha, length)
    assert ((relevant == query[:, None]).sum(1) == n_query).all()
    assert ((relevant == 1 - query[:, None]).sum(1) == n_partner).all()
    others = relevant[relevant > 1]
    assert others.numel() == N * (length - n_query - n_partner)
    for j in range(2, M1) if others.numel() else ():
        assert_rate(others == j, 1 / (M1 - 2))


@READINGS
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_labels(alpha: float, reading: str) -> None:
    """a -> +1, b -> -1, a fair coin otherwise; the query carries a or b, evenly, and its target follows the rule."""
    a, b = 4, 2
    prompts = draw(alpha, 9, reading, ((a, b),))
    relevant, label = prompts.parts[0, :, 0], prompts.label[0]
    assert set(label.unique().tolist()) <= {-1.0, 1.0}
    assert (label[relevant == a] == 1).all() and (label[relevant == b] == -1).all()
    for j in set(range(M1)) - {a, b}:
        coins = label[relevant == j]
        if coins.numel():
            assert_rate(coins == 1, 0.5)
    query, target = prompts.query_parts[0, :, 0], prompts.target[0]
    assert torch.equal(query, torch.where(target == 1, a, b))
    assert_rate(target == 1, 0.5)
    if reading == "independent":
        assert_rate(label == 1, 0.5)
        same = (relevant[:, :1] == a).double()[:, 0]
        assert abs(torch.corrcoef(torch.stack([same, target.double()]))[0, 1].nan_to_num()) < SIGMAS / math.sqrt(N)


@READINGS
def test_tasks_are_uniform(reading: str) -> None:
    tasks = uniform_cover(M1, 2, 3)
    prompts = draw(1.0, 8, reading, tasks)
    relevant, label = prompts.parts[0, :, 0], prompts.label[0]
    plus = torch.where(label > 0, relevant, -1).amax(1)  # alpha = 1: the contexts give the task away, if both appear
    minus = torch.where(label < 0, relevant, -1).amax(1)
    both = (plus >= 0) & (minus >= 0)
    found = torch.stack([plus, minus], 1)[both]
    assert {tuple(pair) for pair in found.unique(dim=0).tolist()} == set(tasks)
    for task in tasks:
        assert_rate((found == torch.tensor(task)).all(1), 1 / len(tasks))
    query = prompts.query_parts[0, :, 0]
    assert torch.equal(query[both], torch.where(prompts.target[0, both] > 0, found[:, 0], found[:, 1]))
    for j in range(M1):  # a uniform cover: every pattern is asked for equally often, with either label
        for z in (1, -1):
            assert_rate((query == j) & (prompts.target[0] == z), 1 / (2 * M1))


@pytest.mark.parametrize("kappa_max", [0.0, 0.5, 3.0])
@READINGS
def test_irrelevant_parts(kappa_max: float, reading: str) -> None:
    """k uniform, kappa uniform on [-K, K], and neither tells anything about the other, the pattern or the label."""
    prompts = draw(0.6, 6, reading, kappa_max=kappa_max)
    irrelevant = torch.cat([prompts.parts[0, :, 1], prompts.query_parts[0, :, 1:]], dim=1)
    relevant = torch.cat([prompts.parts[0, :, 0], prompts.query_parts[0, :, :1]], dim=1)
    label = torch.cat([prompts.label[0], prompts.target[0][:, None]], dim=1)
    kappa = torch.cat([prompts.kappa[0], prompts.query_kappa[0][:, None]], dim=1)
    assert irrelevant.min() == M1 and irrelevant.max() == M1 + M2 - 1
    if kappa_max == 0:
        assert not kappa.any()
        return
    assert kappa.abs().max() <= kappa_max
    sd = kappa_max / math.sqrt(3)
    for k in range(M1, M1 + M2):
        assert_rate(irrelevant == k, 1 / M2)
        part = kappa[irrelevant == k].double()
        assert abs(part.mean()) < SIGMAS * sd / math.sqrt(part.numel())
        assert stats.kstest(part.numpy()[:20_000], stats.uniform(-kappa_max, 2 * kappa_max).cdf).pvalue > 1e-5
    table = np.zeros((M1, M2))
    np.add.at(table, (relevant.flatten().numpy(), irrelevant.flatten().numpy() - M1), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-5
    for of in (relevant, label, irrelevant):
        r = torch.corrcoef(torch.stack([of.flatten().double(), kappa.flatten().double()]))[0, 1]
        assert abs(r) < SIGMAS / math.sqrt(kappa.numel())
    neighbours = torch.corrcoef(kappa.T.double()) - torch.eye(7)
    assert neighbours.abs().max() < SIGMAS / math.sqrt(N)


@given(st.integers(1, 4), st.integers(0, 50), st.integers(1, 5))
def test_shapes_and_ranges(n_members: int, seed: int, length: int) -> None:
    configs = [PromptConfig(0.2 * (i + 1), length, 0.1 * i) for i in range(n_members)]
    seeds = [seed + i for i in range(n_members)]
    prompts = sample_prompts(
        configs, task_table([all_tasks(4)[: i + 1] for i in range(n_members)]), seeds, (4, 3), 7, "x"
    )
    with jaxtyped("context"):
        for field, value in prompts._asdict().items():
            assert isinstance(value, Prompts.__annotations__[field]), field
    assert prompts.parts.shape == (n_members, 7, 2, length)
    assert prompts.parts[:, :, 0].max() < 4 and prompts.query_parts[:, :, 0].max() < 4


@READINGS
def test_member_draws_what_a_solo_run_draws(reading: str) -> None:
    """Bit for bit, whatever the settings and task sets beside it; never what a neighbour, a step or a purpose draws."""
    configs = [PromptConfig(a, 7, k, reading) for a, k in ((0.8, 0.5), (0.1, 0.0), (1.0, 2.0))]
    sets = [all_tasks(M1), ((2, 5),), uniform_cover(M1, 1, 0)]
    seeds = [5, 5, 8]
    together = sample_prompts(configs, task_table(sets), seeds, (M1, M2), 50, "train", 3)
    for i, (config, tasks, seed) in enumerate(zip(configs, sets, seeds, strict=True)):
        alone = sample_prompts([config], task_table([tasks]), [seed], (M1, M2), 50, "train", 3)
        assert all(torch.equal(a[i], b[0]) for a, b in zip(together, alone, strict=True))
        for purpose, step in (("train", 4), ("eval", 3)):
            other = sample_prompts([config], task_table([tasks]), [seed], (M1, M2), 50, purpose, step)
            assert not torch.equal(alone.parts, other.parts)


@READINGS
def test_dense(reading: str) -> None:
    """Column i is (mu_j + kappa nu_k; y q), the last one (mu_j + kappa nu_k; 0)."""
    config = PatternConfig(4, 3, 1.7, 9, 4)
    members = [draw_patterns(config, seed) for seed in (0, 1)]
    rule = [PromptConfig(0.6, 5, 0.9, reading)] * 2
    prompts = sample_prompts(rule, task_table([all_tasks(4)] * 2), [0, 1], (4, 3), 6, "x")
    dense = prompts.dense(stack_patterns(members))
    assert dense.shape == (2, 6, 13, 6)
    for e, patterns in enumerate(members):
        for b in range(6):
            tokens = [(*prompts.parts[e, b, :, i], prompts.kappa[e, b, i], prompts.label[e, b, i]) for i in range(5)]
            tokens.append((*prompts.query_parts[e, b], prompts.query_kappa[e, b], torch.tensor(0.0)))
            for i, (j, k, kappa, y) in enumerate(tokens):
                x = patterns.relevant[j] + kappa * patterns.irrelevant[k - 4]
                assert torch.allclose(dense[e, b, :, i], torch.cat([x, y * patterns.label]), atol=1e-6)
            same = [torch.equal(prompts.parts[e, b, 0, i], prompts.query_parts[e, b, 0]) for i in range(5)]
            assert prompts.same_pattern()[e, b].tolist() == same


def vote_error(prompts: Prompts) -> Tensor:
    """Error of the attention voter on each prompt, 1/2 in a tie."""
    same = prompts.same_pattern()[0]
    weight = torch.where(same.any(1, keepdim=True), same, True)
    return (1 - prompts.target[0] * (weight * prompts.label[0]).sum(1).sign()) / 2


def bayes_error(prompts: Prompts, alpha: float, m1: int) -> Tensor:
    """Error of the posterior over all tasks, from the rule by which independent contexts are drawn."""
    tasks = torch.tensor(list(permutations(range(m1), 2)))
    likelihood = torch.full((len(tasks), m1, 2), (1 - alpha) / (2 * (m1 - 2)), dtype=torch.float64)
    for t, (a, b) in enumerate(tasks.tolist()):
        likelihood[t, a] = torch.tensor([0.0, alpha / 2])
        likelihood[t, b] = torch.tensor([alpha / 2, 0.0])
    sign = (prompts.label[0] > 0).long()
    posterior = likelihood[:, prompts.parts[0, :, 0], sign].prod(-1)  # (tasks, prompts)
    query = prompts.query_parts[0, :, 0]
    plus, minus = (((tasks[:, side, None] == query) * posterior).sum(0) for side in (0, 1))
    said = torch.where(torch.isclose(plus, minus, rtol=1e-9, atol=0), 0.0, (plus - minus).sign())
    return (1 - prompts.target[0] * said) / 2


@pytest.mark.parametrize(("alpha", "length", "m1"), [(0.3, 5, 6), (0.6, 4, 5), (0.8, 3, 6), (0.1, 9, 4), (1.0, 2, 3)])
def test_floors_on_drawn_prompts(alpha: float, length: int, m1: int) -> None:
    prompts = draw(alpha, length, "independent", all_tasks(m1), m1)
    for error, floor in ((vote_error(prompts), vote_floor), (bayes_error(prompts, alpha, m1), bayes_floor)):
        exact = floor(alpha, length, m1)
        assert abs(float(error.mean()) - exact) <= SIGMAS * math.sqrt(exact * (1 - exact) / N) + 1e-12, floor.__name__


def test_exact_counts_leave_no_floor() -> None:
    assert not vote_error(draw(0.3, 5, "exact", all_tasks(M1))).any()
    assert_rate(vote_error(draw(0.0, 5, "exact", all_tasks(M1))), 0.5)


@given(st.floats().filter(lambda a: not 0 <= a <= 1))
def test_alpha_in_unit_interval(alpha: float) -> None:
    with pytest.raises(ConfigError, match=r"^alpha=.*: must be a finite number in \[0, 1\]$"):
        PromptConfig(alpha=alpha)


@given(st.integers(max_value=0))
def test_a_context_at_least(length: int) -> None:
    with pytest.raises(ConfigError, match=f"^n_context={length}: must be an integer >= 1$"):
        PromptConfig(n_context=length)


@given(st.floats(max_value=-1e-300) | st.just(math.nan) | st.just(math.inf))
def test_kappa_not_below_zero(kappa_max: float) -> None:
    with pytest.raises(ConfigError, match=r"^kappa_max=.*: must be a finite number in \[0, 1e\+06\]$"):
        PromptConfig(kappa_max=kappa_max)


@pytest.mark.parametrize(
    "bad",
    [
        {"alpha": "0.5"},
        {"alpha": None},
        {"alpha": True},
        {"n_context": 2.0},
        {"n_context": "2"},
        {"kappa_max": [1]},
        {"reading": "both"},
        {"reading": 1},
    ],
)
def test_wrong_types(bad: dict) -> None:
    ((field, value),) = bad.items()
    with pytest.raises(ConfigError) as error:
        PromptConfig(**bad)
    assert str(error.value).startswith(f"{field}={value!r}: must be ")


def test_members_must_agree() -> None:
    for other in (PromptConfig(n_context=4), PromptConfig(n_context=5, reading="exact")):
        with pytest.raises(ConfigError, match="alike in n_context and reading"):
            sample_prompts([PromptConfig(n_context=5), other], task_table([all_tasks(6)] * 2), [0, 1], (6, 24), 3, "x")


def test_two_patterns_leave_none_for_other_contexts() -> None:
    tasks = task_table([((0, 1),)])
    for rule in (PromptConfig(0.8, 5), PromptConfig(0.4, 5, reading="exact")):
        with pytest.raises(ConfigError, match="n_patterns=2"):
            sample_prompts([rule], tasks, [0], (2, 5), 10, "eval")
    for rule in (PromptConfig(1.0, 6), PromptConfig(1.0, 6, reading="exact")):
        prompts = sample_prompts([rule], tasks, [0], (2, 5), 50, "eval")
        assert set(prompts.parts[:, :, 0].flatten().tolist()) == {0, 1}


def test_one_rule_serves_all_seeds_and_other_numbers_are_refused() -> None:
    rule, tasks = PromptConfig(0.8, 5), task_table([((0, 1),)] * 3)
    one, three = (sample_prompts(rules, tasks, [0, 1, 2], (4, 5), 10, "eval") for rules in ([rule], [rule] * 3))
    assert all(torch.equal(x, y) for x, y in zip(one, three, strict=True))
    for rules, seeds in (([rule] * 2, [0, 1, 2]), ([rule] * 2, [0, 1])):
        with pytest.raises(ConfigError, match="configs, tasks"):
            sample_prompts(rules, tasks, seeds, (4, 5), 10, "eval")
