"""Exact error floors of Paper L's prompts: what no context can tell, whatever the learner.

Two classifiers without any error of training: the *attention voter*, the limit of the one-layer Transformer (it attends to the
query's own pattern alone if it can), and the *Bayes* classifier, which knows everything but the task. Both see the patterns
themselves; the irrelevant part and its coefficient kappa carry no information.

With M1 = `n_idr` patterns and l = `n_context` contexts, the query carries pattern j and its task pairs j with a partner.
Contexts with j carry the query's label, contexts with the partner the opposite one, all others a fair coin each. Two readings
of "a fraction alpha/2 of the contexts" (Li et al., ICML 2024, arXiv:2402.15607):

- ``"independent"``: each context carries j with probability alpha/2, the partner with alpha/2, each of the other
  M1 - 2 patterns with (1 - alpha)/(M1 - 2);
- ``"exact"``: the counts of `exact_counts`, the rest uniform over the other M1 - 2 patterns.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binom

from icl_lib.validate import require, require_choice, require_integer, require_number

READINGS = ("independent", "exact")
MAX_CASES = 20_000_000  # of `bayes_floor`: about 0.3 s and 100 MB


def exact_counts(alpha: float, n_context: int) -> tuple[int, int]:
    """Contexts with the query's pattern, ceil(alpha l / 2), and with its partner's, as many as still fit.

    A tolerance of 1e-9 keeps rounding from adding a context: alpha = 0.6, l = 10 gives 3 of each.

    Raises:
        ConfigError: alpha outside [0, 1] or n_context < 1.

    >>> exact_counts(alpha=0.6, n_context=10)
    (3, 3)
    """
    _check(alpha, n_context, 3, "exact")
    n_query = max(math.ceil(alpha * n_context / 2 - 1e-9), int(alpha > 0))
    return n_query, min(n_query, n_context - n_query)


def exact_alpha(alpha: float, n_context: int) -> float:
    """The fraction of contexts with a pattern of the task that "exact" prompts really have: counts are whole numbers.

    >>> exact_alpha(alpha=0.6, n_context=10), exact_alpha(alpha=0.6, n_context=2)
    (0.6, 1.0)
    """
    return sum(exact_counts(alpha, n_context)) / n_context


def vote_floor(alpha: float, n_context: int, n_idr: int, reading: str = "independent") -> float:
    """Error of the attention voter, as a probability over prompts.

    The voter takes the label of the contexts with the query's pattern, if there is one. If not, it weighs all contexts equally
    and takes the sign of the summed labels; a tie counts one half.

    Independent contexts: a context carries the query's pattern (alpha/2), or votes wrong (partner and half of the others: 1/2),
    or right (half of the others: (1 - alpha)/2). So the floor is a binomial tail, for every M1, and 1/2 at l = 1:
    (1 - alpha/2)^l [P(k < l/2) + P(k = l/2)/2], k ~ Bin(l, (1 - alpha)/(2 - alpha)).
    Exact counts: 0, as the query's pattern is always there, except at alpha = 0, where labels are coins: 1/2.

    Raises:
        ConfigError: alpha outside [0, 1], n_context < 1, n_idr < 3 or an unknown reading.

    >>> vote_floor(alpha=0.8, n_context=1, n_idr=6)
    0.5
    >>> round(vote_floor(alpha=0.8, n_context=20, n_idr=6), 7)
    3.65e-05
    """
    _check(alpha, n_context, n_idr, reading)
    if reading == "exact":
        return 0.0 if exact_counts(alpha, n_context)[0] else 0.5
    right = binom(n_context, (1 - alpha) / (2 - alpha))
    below, tie = right.cdf((n_context - 1) // 2), 0.0 if n_context % 2 else right.pmf(n_context // 2)
    return float((1 - alpha / 2) ** n_context * (below + tie / 2))


def bayes_floor(alpha: float, n_context: int, n_idr: int, reading: str = "independent") -> float:
    """Error of the Bayes-optimal classifier, as a probability over prompts; at most 1/2, never above `vote_floor`.

    It knows the patterns, alpha and the uniform prior over all M1 (M1 - 1) tasks, not the task. Given the query's pattern, the
    label z is a fair coin and the partner uniform over the other M1 - 1 patterns. It errs only where no context carries the
    query's pattern; then each of these M1 - 1 patterns is absent (as a partner it speaks for neither label), pure (all its
    labels equal: as a partner it speaks for the opposite z) or mixed (no partner). With r = alpha/2 and
    s = (1 - alpha)/(2 M1 - 4) a pattern seen n times has likelihood r^n s^(l - n) as the partner. The error is the sum over all
    prompts of the smaller of the two joint probabilities of z. It runs over the partitions of the contexts among patterns of
    pure + and pure - labels, each weighted with the exact number of prompts; c mixed patterns with n contexts are counted at
    once, by the surjections of n things onto 2c (pattern, label) pairs.

    Cost: grows like l^(M1 - 1); at M1 = 6 about 25 ms for l = 40 and 0.2 s for l = 90.

    Raises:
        ConfigError: alpha outside [0, 1], n_context < 1, n_idr < 3, an unknown reading, or n_context so large that
            more than `MAX_CASES` pairs of partitions would have to be enumerated.

    >>> bayes_floor(alpha=0.8, n_context=20, n_idr=6) <= vote_floor(alpha=0.8, n_context=20, n_idr=6)
    True
    """
    _check(alpha, n_context, n_idr, reading)
    if reading == "exact":
        return 0.0 if exact_counts(alpha, n_context)[0] else 0.5
    length, others = n_context, n_idr - 1
    cases = _n_cases(length, others)
    require(length <= 150 and cases <= MAX_CASES, "n_context", length, f"shorter: {cases:.1e} cases for n_idr={n_idr}")
    r, s = alpha / 2, (1 - alpha) / (2 * n_idr - 4)
    seen = np.arange(length + 1)
    likelihood = np.power(r, seen) * np.power(s, length - seen)  # of a partner seen n times; 0**0 = 1
    ways, absent = _ways(length, others)
    pure = _pure_patterns(length, others, likelihood)
    total = 0.0
    for k_plus in range(others + 1):
        for k_minus in range(min(k_plus, others - k_plus) + 1):  # the rest by symmetry of the labels
            plus, minus, k = pure[k_plus], pure[k_minus], k_plus + k_minus
            part = 0.0
            for n_minus in np.unique(minus.total):
                end = np.searchsorted(plus.total, length - n_minus, side="right")
                group = minus.total == n_minus
                left = length - n_minus - plus.total[:end]  # contexts left to the mixed patterns
                smaller = np.minimum(plus.value[:end, None], minus.value[group]) @ minus.weight[group]
                neither = absent[k, left] * likelihood[0] * minus.weight[group].sum()
                part += float(plus.weight[:end] @ (ways[k, left] * smaller + neither))
            total += part if k_plus == k_minus else 2 * part
    return total / (2 * others)


def floor_table(
    alphas: Sequence[float], lengths: Sequence[int], n_idr: int, reading: str = "independent"
) -> pd.DataFrame:
    """Both floors on a grid, tidy: columns alpha, n_context, floor ("vote" or "bayes"), error."""
    rows = [
        (alpha, length, name, floor(alpha, length, n_idr, reading))
        for alpha in alphas
        for length in lengths
        for name, floor in (("vote", vote_floor), ("bayes", bayes_floor))
    ]
    return pd.DataFrame(rows, columns=["alpha", "n_context", "floor", "error"])


class _Pure(NamedTuple):
    """Partitions of up to l contexts into exactly k patterns, sorted by total; arrays of one length."""

    total: np.ndarray  # contexts used
    weight: np.ndarray  # 1 / (product of part! and of multiplicity!)
    value: np.ndarray  # sum of the parts' likelihoods as a partner


def _pure_patterns(length: int, others: int, likelihood: np.ndarray) -> list[_Pure]:
    """For k = 0 … others, the partitions into exactly k parts, grown by one part not below the last."""
    total, last, run = np.zeros(1, int), np.zeros(1, int), np.zeros(1, int)
    weight, value = np.ones(1), np.zeros(1)
    pure = [_Pure(total, weight, value)]
    for _ in range(others):
        new = []
        for n in range(1, length + 1):
            rows = np.flatnonzero((last <= n) & (total + n <= length))
            times = np.where(last[rows] == n, run[rows] + 1, 1)
            grown = weight[rows] / (float(math.factorial(n)) * times)
            new.append((total[rows] + n, np.full(len(rows), n), times, grown, value[rows] + likelihood[n]))
        total, last, run, weight, value = (np.concatenate(column) for column in zip(*new, strict=True))
        order = np.argsort(total, kind="stable")
        total, last, run, weight, value = (column[order] for column in (total, last, run, weight, value))
        pure.append(_Pure(total, weight, value))
    return pure


def _ways(length: int, others: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts per unit of weight, [pure patterns, contexts left], and the same times the number of absent patterns."""
    onto = [[1] + [0] * (2 * others)]  # onto[n][k]: surjections of n things onto k
    for _ in range(length):
        row = onto[-1]
        onto.append([0] + [k * (row[k] + row[k - 1]) for k in range(1, 2 * others + 1)])
    ways, absent = np.zeros((2, others + 1, length + 1))
    for k in range(others + 1):
        for n in range(length + 1):
            for mixed in range(others - k + 1):
                empty = others - k - mixed
                kinds = math.factorial(others) // (math.factorial(mixed) * math.factorial(empty))
                number = float(math.perm(length, length - n) * kinds * onto[n][2 * mixed])
                ways[k, n] += number
                absent[k, n] += number * empty
    return ways, absent


def _n_cases(length: int, others: int) -> float:
    """Pairs of partitions that `bayes_floor` goes through (about half of them, by symmetry)."""
    pairs = np.zeros((others + 1, length + 1))
    pairs[0, 0] = 1
    for n in [*range(1, length + 1)] * 2:
        for k in range(1, others + 1):
            pairs[k, n:] += pairs[k - 1, : length + 1 - n]
    return float(pairs.sum())


def _check(alpha: float, n_context: int, n_idr: int, reading: str) -> None:
    require_number("alpha", alpha, 0, 1)
    require_integer("n_context", n_context, 1)
    require_integer("n_idr", n_idr, 3, allowed="an integer >= 3: a task takes two patterns, contexts need a third")
    require_choice("reading", reading, READINGS)
