"""Tasks: ordered pairs (a, b) of relevant patterns, and the covers that training uses.

Task (a, b): label +1 if an input carries mu_a, -1 if it carries mu_b, a fair coin otherwise. Sets with a seed are
random, from (seed, "tasks"). A number that allows no such set raises ConfigError.
"""

import itertools

import torch

from icl_lib.rng import generator
from icl_lib.validate import require, require_integer

Task = tuple[int, int]
Tasks = tuple[Task, ...]


def all_tasks(n_idr: int) -> Tasks:
    """All M1 (M1 - 1) ordered pairs."""
    return tuple(itertools.permutations(range(n_idr), 2))


def unseen(tasks: Tasks, n_idr: int) -> Tasks:
    """All tasks that are not in ``tasks``.

    >>> unseen(((0, 1), (1, 2), (2, 0)), n_idr=3)
    ((0, 2), (1, 0), (2, 1))
    """
    return tuple(task for task in all_tasks(n_idr) if task not in tasks)


def check_tasks(tasks: Tasks, n_idr: int, require_cover: bool = True) -> None:
    """Refuse a task with a = b, an unknown pattern, a repetition, or a set that misses a (pattern, label) pair."""
    require(isinstance(tasks, tuple) and len(tasks) > 0, "tasks", tasks, "a tuple of at least one task")
    for pair in tasks:
        pair_of_integers = isinstance(pair, tuple) and [type(i) for i in pair] == [int, int]
        require(pair_of_integers, "tasks", pair, "pairs (a, b) of integers")
        require(pair[0] != pair[1], "tasks", pair, "pairs of two different patterns")
        known = 0 <= min(pair) and max(pair) < n_idr
        require(known, "tasks", pair, f"pairs of pattern numbers below n_idr = {n_idr}")
    require(len(set(tasks)) == len(tasks), "tasks", tasks, "without repetition")
    missing = sorted({(side, i) for side in (0, 1) for i in range(n_idr)} - {(s, t[s]) for t in tasks for s in (0, 1)})
    if require_cover and missing:
        first = f"pattern {missing[0][1]} never has label {('+1', '-1')[missing[0][0]]}"
        require(False, "tasks", tasks, f"a cover of every (pattern, label) pair ({first}), or set require_cover=False")


def _order(n_idr: int, seed: int) -> list[int]:
    return torch.randperm(n_idr, generator=generator(seed, "tasks")).tolist()


def uniform_cover(n_idr: int, rounds: int, seed: int) -> Tasks:
    """M1 * rounds tasks in which every pattern has each label equally often.

    The patterns are put in a random circle; round s adds the tasks (i, i + s) for every i. The order of the rounds is
    random too, except that the first is always the cycle of length M1.

    >>> tasks = uniform_cover(n_idr=6, rounds=3, seed=0)
    >>> len(tasks), sorted(a for a, b in tasks) == sorted(b for a, b in tasks)
    (18, True)
    """
    require_integer("rounds", rounds, 1, n_idr - 1, f"an integer between 1 and n_idr - 1 = {n_idr - 1}")
    order = _order(n_idr, seed)
    others = (torch.randperm(n_idr - 2, generator=generator(seed, "task rounds")) + 2).tolist()
    shifts = [1, *others][:rounds]
    return tuple((order[i], order[(i + s) % n_idr]) for s in shifts for i in range(n_idr))


def disjoint_cover(n_idr: int, cycle: int, seed: int) -> Tasks:
    """M1 tasks that form disjoint cycles of one length, a divisor of M1; length 2 gives pairs both ways."""
    require(cycle >= 2 and n_idr % cycle == 0, "cycle", cycle, f"a divisor of n_idr = {n_idr}, at least 2")
    order = _order(n_idr, seed)
    blocks = [order[i : i + cycle] for i in range(0, n_idr, cycle)]
    return tuple((block[i], block[(i + 1) % cycle]) for block in blocks for i in range(cycle))


def disjoint_pairs(n_idr: int, seed: int) -> Tasks:
    """M1 / 2 tasks on disjoint pairs: every pattern appears, but with one label only."""
    require(n_idr % 2 == 0, "n_idr", n_idr, "even, to be split into pairs")
    order = _order(n_idr, seed)
    return tuple((order[i], order[i + 1]) for i in range(0, n_idr, 2))


def star_cover(n_idr: int, seed: int) -> Tasks:
    """2 (M1 - 1) tasks that pair one pattern with every other, both ways: a cover, but not uniform."""
    hub, *rest = _order(n_idr, seed)
    return tuple((hub, i) for i in rest) + tuple((i, hub) for i in rest)


def random_tasks(n_idr: int, n_tasks: int, seed: int) -> Tasks:
    """n_tasks different tasks drawn uniformly; they may miss a (pattern, label) pair."""
    every = all_tasks(n_idr)
    require_integer("n_tasks", n_tasks, 1, len(every), f"an integer between 1 and {len(every)}")
    return tuple(every[i] for i in torch.randperm(len(every), generator=generator(seed, "tasks")).tolist()[:n_tasks])


def split_unseen(tasks: Tasks, n_idr: int) -> tuple[Tasks, Tasks]:
    """Unseen tasks as (reversed, unrelated): (b, a) of a training task (a, b), and all others."""
    seen = set(tasks)
    rest = unseen(tasks, n_idr)
    return tuple(t for t in rest if t[::-1] in seen), tuple(t for t in rest if t[::-1] not in seen)
