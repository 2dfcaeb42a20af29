"""Tasks and covers: each set is what its description says."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icl_lib.softmax.tasks import (
    Tasks,
    all_tasks,
    check_tasks,
    disjoint_cover,
    disjoint_pairs,
    random_tasks,
    split_unseen,
    star_cover,
    uniform_cover,
    unseen,
)
from icl_lib.validate import ConfigError

SIZES, SEEDS = st.integers(3, 12), st.integers(0, 1000)


def label_counts(tasks: Tasks) -> tuple[Counter, Counter]:
    """How often each pattern has label +1, and label -1."""
    return Counter(a for a, _ in tasks), Counter(b for _, b in tasks)


def assert_uniform(tasks: Tasks, n_idr: int, times: int) -> None:
    check_tasks(tasks, n_idr)
    expected = dict.fromkeys(range(n_idr), times)
    assert label_counts(tasks) == (expected, expected)


@given(SIZES)
def test_all_tasks(n_idr: int) -> None:
    tasks = all_tasks(n_idr)
    assert set(tasks) == {(a, b) for a in range(n_idr) for b in range(n_idr) if a != b}
    assert len(tasks) == n_idr * (n_idr - 1)
    assert_uniform(tasks, n_idr, n_idr - 1)


@given(SIZES, SEEDS, st.data())
def test_uniform_cover(n_idr: int, seed: int, data: st.DataObject) -> None:
    rounds = data.draw(st.integers(1, n_idr - 1))
    tasks = uniform_cover(n_idr, rounds, seed)
    assert len(tasks) == len(set(tasks)) == n_idr * rounds
    assert_uniform(tasks, n_idr, rounds)
    assert tasks[:n_idr] == uniform_cover(n_idr, 1, seed)  # nested
    if rounds == n_idr - 1:
        assert set(tasks) == set(all_tasks(n_idr))


def cycle_lengths(tasks: Tasks) -> list[int]:
    step, left, lengths = dict(tasks), set(dict(tasks)), []
    while left:
        at = start = min(left)
        length = 0
        while length == 0 or at != start:
            left.discard(at)
            at, length = step[at], length + 1
        lengths.append(length)
    return lengths


@given(SIZES, SEEDS)
def test_single_round_is_one_cycle(n_idr: int, seed: int) -> None:
    assert cycle_lengths(uniform_cover(n_idr, 1, seed)) == [n_idr]


@given(st.integers(2, 5), st.integers(1, 4), SEEDS)
def test_disjoint_cover(cycle: int, blocks: int, seed: int) -> None:
    n_idr = cycle * blocks
    tasks = disjoint_cover(n_idr, cycle, seed)
    assert_uniform(tasks, n_idr, 1)
    assert cycle_lengths(tasks) == [cycle] * blocks
    if cycle == 2:
        assert {(b, a) for a, b in tasks} == set(tasks)


@given(st.integers(2, 6), SEEDS)
def test_disjoint_pairs(half: int, seed: int) -> None:
    tasks = disjoint_pairs(2 * half, seed)
    assert sorted(i for task in tasks for i in task) == list(range(2 * half))
    with pytest.raises(ConfigError, match="never has label"):
        check_tasks(tasks, 2 * half)


@given(SIZES, SEEDS)
def test_star_cover(n_idr: int, seed: int) -> None:
    tasks = star_cover(n_idr, seed)
    check_tasks(tasks, n_idr)
    assert len(set(tasks)) == len(tasks) == 2 * (n_idr - 1)
    plus, minus = label_counts(tasks)
    assert sorted(plus.values()) == sorted(minus.values()) == [1] * (n_idr - 1) + [n_idr - 1]
    assert plus.most_common(1) == minus.most_common(1)  # the same hub


@given(SIZES, SEEDS, st.data())
def test_random_tasks(n_idr: int, seed: int, data: st.DataObject) -> None:
    tasks = random_tasks(n_idr, data.draw(st.integers(1, n_idr * (n_idr - 1))), seed)
    assert len(set(tasks)) == len(tasks) and set(tasks) <= set(all_tasks(n_idr))


def test_random_tasks_are_uniform() -> None:
    n, k = 4000, 3
    times = Counter(task for seed in range(n) for task in random_tasks(4, k, seed))
    p = k / 12
    assert all(abs(times[task] - n * p) < 4.5 * (n * p * (1 - p)) ** 0.5 for task in all_tasks(4))


@given(SIZES, SEEDS, st.data())
def test_seen_and_unseen(n_idr: int, seed: int, data: st.DataObject) -> None:
    """Training and unseen tasks are disjoint and together complete; reversed and unrelated split the unseen."""
    seen = random_tasks(n_idr, data.draw(st.integers(1, n_idr * (n_idr - 1))), seed)
    rest = unseen(seen, n_idr)
    assert not set(seen) & set(rest) and set(seen) | set(rest) == set(all_tasks(n_idr))
    backwards, unrelated = split_unseen(seen, n_idr)
    assert sorted(backwards + unrelated) == sorted(rest) and not set(backwards) & set(unrelated)
    assert all((b, a) in seen for a, b in backwards) and not any((b, a) in seen for a, b in unrelated)


@pytest.mark.parametrize(
    "cover", [lambda s: uniform_cover(7, 3, s), lambda s: star_cover(7, s), lambda s: disjoint_pairs(6, s)]
)
def test_seeds_matter(cover) -> None:  # type: ignore[no-untyped-def]
    assert len({cover(seed) for seed in range(20)}) > 10
    assert cover(3) == cover(3)


@given(SIZES, st.data())
def test_cover_is_required_pair_by_pair(n_idr: int, data: st.DataObject) -> None:
    """Taking every task of one (pattern, label) pair out of a complete set leaves a set that is refused, by name."""
    pattern, side = data.draw(st.integers(0, n_idr - 1)), data.draw(st.integers(0, 1))
    tasks = tuple(task for task in all_tasks(n_idr) if task[side] != pattern)
    label = ("+1", "-1")[side]
    with pytest.raises(
        ConfigError, match=rf"tasks=.*\(pattern {pattern} never has label \{label}\).*require_cover=False"
    ):
        check_tasks(tasks, n_idr)
    check_tasks(tasks, n_idr, require_cover=False)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ((), r"tasks=\(\): must be a tuple of at least one task"),
        (((0, 1), (2, 2)), r"tasks=\(2, 2\): must be pairs of two different patterns"),
        (((0, 1), (1, 4)), r"tasks=\(1, 4\): must be pairs of pattern numbers below n_idr = 4"),
        (((0, -1),), r"tasks=\(0, -1\): must be pairs of pattern numbers"),
        (((0, 1), (0, 1)), "tasks=.*: must be without repetition"),
        (((0, 1.0),), r"tasks=\(0, 1\.0\): must be pairs \(a, b\) of integers"),
        (((0, True),), "must be pairs .* of integers"),
        (((0, 1, 2),), r"tasks=\(0, 1, 2\): must be pairs"),
        ((5,), "tasks=5: must be pairs"),
        (("01",), "tasks='01': must be pairs"),
    ],
)
@pytest.mark.parametrize("require_cover", [True, False])
def test_refuses(tasks: Tasks, message: str, require_cover: bool) -> None:
    with pytest.raises(ConfigError, match=message):
        check_tasks(tasks, 4, require_cover)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: uniform_cover(6, 0, 0), "rounds=0: must be an integer between 1 and n_idr - 1 = 5"),
        (lambda: uniform_cover(6, 6, 0), "rounds=6: must be"),
        (lambda: uniform_cover(6, 1.5, 0), "rounds=1.5: must be an integer"),
        (lambda: disjoint_cover(6, 4, 0), "cycle=4: must be a divisor of n_idr = 6"),
        (lambda: disjoint_cover(6, 1, 0), "cycle=1: must be"),
        (lambda: disjoint_pairs(5, 0), "n_idr=5: must be even"),
        (lambda: random_tasks(6, 31, 0), "n_tasks=31: must be an integer between 1 and 30"),
        (lambda: random_tasks(6, 0, 0), "n_tasks=0: must be"),
    ],
)
def test_covers_refuse(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        build()
