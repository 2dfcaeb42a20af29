"""The floors against every prompt, against count tables, and in their limits; ``test_prompts`` has drawn prompts."""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lib.softmax.floors import bayes_floor, exact_alpha, exact_counts, vote_floor
from icl_lib.validate import ConfigError

Prompt = tuple[tuple[int, int], ...]  # (pattern, label) of each context


def vote(prompt: Prompt, query: int) -> float:
    """Label the attention voter gives, 0 in a tie."""
    same = [label for pattern, label in prompt if pattern == query]
    return float(np.sign(sum(same or [label for _, label in prompt])))


def likelihood(prompt: Prompt, query: int, partner: int, z: int, alpha: float, m1: int, reading: str) -> float:
    """P(contexts | task that gives `query` the label z and `partner` the label -z), context by context."""
    total = 1.0
    for pattern, label in prompt:
        if pattern in (query, partner):
            total *= label == (z if pattern == query else -z)
            total *= alpha / 2 if reading == "independent" else 1
        else:
            total *= 0.5 * ((1 - alpha) if reading == "independent" else 1) / (m1 - 2)
    if reading == "exact":
        counts = exact_counts(alpha, len(prompt))
        seen = [sum(pattern == which for pattern, _ in prompt) for which in (query, partner)]
        places = math.factorial(len(prompt)) // math.prod(map(math.factorial, (*counts, len(prompt) - sum(counts))))
        total *= (tuple(seen) == counts) / places
    return total


def brute_force(alpha: float, length: int, m1: int, reading: str) -> tuple[float, float]:
    """(vote, Bayes) error summed over all (2 M1)^l prompts; the query carries pattern 0."""
    vote_error = bayes_error = 0.0
    for prompt in product(product(range(m1), (1, -1)), repeat=length):
        joint = {z: sum(likelihood(prompt, 0, b, z, alpha, m1, reading) for b in range(1, m1)) for z in (1, -1)}
        joint = {z: p / (2 * (m1 - 1)) for z, p in joint.items()}
        bayes_error += min(joint.values())
        vote_error += sum(p * (1 - z * vote(prompt, 0)) / 2 for z, p in joint.items())
    return vote_error, bayes_error


@pytest.mark.parametrize("reading", ["independent", "exact"])
@pytest.mark.parametrize(("length", "m1"), [(1, 3), (2, 3), (4, 3), (1, 4), (3, 4), (2, 5)])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
def test_every_prompt(alpha: float, length: int, m1: int, reading: str) -> None:
    floors = vote_floor(alpha, length, m1, reading), bayes_floor(alpha, length, m1, reading)
    assert floors == pytest.approx(brute_force(alpha, length, m1, reading), abs=1e-13)


def compositions(total: int, cells: int) -> Iterator[tuple[int, ...]]:
    if cells == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in compositions(total - first, cells - 1):
            yield (first, *rest)


@pytest.mark.parametrize(("alpha", "length", "m1"), [(0.6, 6, 6), (0.95, 16, 4), (0.1, 40, 3)])
def test_count_tables(alpha: float, length: int, m1: int) -> None:
    """Longer prompts without the query's pattern, grouped by the number of contexts of each (pattern, label)."""
    r, s = alpha / 2, (1 - alpha) / (2 * (m1 - 2))
    error = 0.0
    for table in compositions(length, 2 * (m1 - 1)):
        pairs = list(zip(table[::2], table[1::2], strict=True))
        joint = [
            sum(r ** (p + m) * s ** (length - p - m) for p, m in pairs if (p, m)[against] == 0) for against in (0, 1)
        ]
        prompts = math.factorial(length) // math.prod(map(math.factorial, table))
        error += prompts * min(joint) / (2 * (m1 - 1))
    assert bayes_floor(alpha, length, m1) == pytest.approx(error, rel=1e-10)


def test_known_values() -> None:
    for length, error in ((4, 0.0413), (6, 0.0131), (8, 0.0041)):
        assert bayes_floor(0.6, length, 6) == pytest.approx(error, abs=5e-5)
    for alpha, length, wrong in ((0.3, 2, 0.588), (0.6, 4, 0.802), (0.6, 14, 0.951), (0.8, 12, 0.995)):
        assert vote_floor(alpha, length, 6) / (1 - alpha / 2) ** length == pytest.approx(wrong, abs=5e-4)


@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_limits(length: int) -> None:
    assert bayes_floor(0, length, 6) == pytest.approx(0.5, abs=1e-12)  # contexts say nothing about the query
    assert vote_floor(0, length, 6) == pytest.approx(0.5, abs=1e-12)
    assert bayes_floor(1, length, 6) == 0  # every context gives the task away
    assert vote_floor(1, length, 6) == pytest.approx(0.5**length)  # wrong unless the query's pattern appears
    for floor in (vote_floor, bayes_floor):
        assert floor(0, length, 6, "exact") == 0.5
        assert floor(0.1, length, 6, "exact") == 0


@given(st.floats(0, 1), st.integers(1, 20), st.integers(3, 7))
@settings(max_examples=80)
def test_bounds_and_monotone(alpha: float, length: int, m1: int) -> None:
    vote_now, bayes_now = vote_floor(alpha, length, m1), bayes_floor(alpha, length, m1)
    no_query = (1 - alpha / 2) ** length
    assert 0 <= bayes_now <= vote_now + 1e-12
    assert vote_now <= min(0.5, no_query) + 1e-12
    assert bayes_floor(alpha, length + 1, m1) <= bayes_now + 1e-12  # more contexts cannot hurt
    assert vote_floor(alpha, length + 1, m1) <= vote_now + 1e-12


def test_exact_counts() -> None:
    assert exact_counts(0.6, 10) == (3, 3)  # 0.6 * 10 / 2 is 3, whatever the rounding
    assert exact_counts(0.1 * 3, 20) == (3, 3)
    assert exact_counts(1, 5) == (3, 2)
    assert exact_counts(0.8, 1) == (1, 0)
    assert exact_counts(1e-12, 1) == (1, 0)
    assert exact_counts(0, 9) == (0, 0)


@given(st.floats(0, 1), st.integers(1, 200))
def test_exact_counts_fit(alpha: float, length: int) -> None:
    n_query, n_partner = exact_counts(alpha, length)
    assert n_query >= alpha * length / 2 - 1e-6
    assert 0 <= n_partner <= n_query and n_query + n_partner <= length


def test_numpy_arguments() -> None:
    assert bayes_floor(np.float64(0.6), np.int64(8), np.int64(6)) == bayes_floor(0.6, 8, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("floor", [vote_floor, bayes_floor])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 4, 6), r"alpha=1\.5: must be .*\[0, 1\]"),
        ((float("nan"), 4, 6), "alpha=nan: must be a finite number"),
        ((0.5, 0, 6), "n_context=0: must be an integer >= 1"),
        ((0.5, 2.0, 6), "n_context=2.0: must be an integer"),
        ((0.5, 4, 2), "n_idr=2: must be an integer >= 3: .*third"),
        ((0.5, 4, 6, "both"), "reading='both': must be one of 'independent', 'exact'"),
    ],
)
def test_refuses(floor, arguments: tuple, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        floor(*arguments)


def test_refuses_what_takes_too_long() -> None:
    with pytest.raises(ConfigError, match="n_context=140: must be shorter"):
        bayes_floor(0.5, 140, 8)


def test_exact_prompts_say_which_fraction_they_really_have() -> None:
    assert exact_alpha(0.8, 20) == 0.8 and exact_alpha(0.6, 2) == exact_alpha(0.1, 2) == 1.0
    for alpha, length in product((0.0, 0.1, 0.33, 0.8, 1.0), (1, 2, 7, 400)):
        assert alpha <= exact_alpha(alpha, length) + 1e-9 <= min(1.0, alpha + 2 / length) + 2e-9
