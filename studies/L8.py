"""Classical learners fitted on the contexts of one prompt and asked for its query (Li et al. 2024, figure on ICL).

Each prompt is a small classification problem: l points x_i with labels y_i. Nearest neighbours are computed for all prompts at
once and equal scikit-learn's (a test). All learners see x alone: they know neither patterns nor tasks. The Bayes classifier does.

Logistic regression and SVMs are scikit-learn's, and several problems share one call of ``fit``. A fit on 20 points is 20 microseconds of work and 700 of checks. Neither way of sharing changes what is solved for
a problem. Problems do not see each other: features, or kernel, are zero between them. Tests compare with single fits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy import stats as scipy_stats
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from torch import Tensor

from icl_lib.softmax.model import forward
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks
from icl_lib.stats import simultaneous
from icl_lib.validate import require, require_choice, require_integer, require_number

TOGETHER = 6  # problems in one fit: a machine for each pair of classes, and 6^2 blocks of features, still cost little
# The constant feature that stands for each problem's own intercept. scikit-learn leaves the intercept unpenalised;
# here its penalty is 10^-8 of a weight's, which changes the answer less than the default tolerance does.
INTERCEPT = 1e4

Decisions = Float[ndarray, " n"]  # positive: class +1


def _in_groups(n: int, fit: Callable[[Float[ndarray, " k"]], Decisions]) -> Decisions:
    """``fit`` for TOGETHER problems at a time, given by their numbers; the last group is filled up with the first."""
    groups = np.resize(np.arange(n), (-(-n // TOGETHER), TOGETHER))
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True), threadpool_limits(1):
        return np.array([fit(group) for group in groups]).reshape(-1)[:n]


def _block_diagonal(blocks: Float[ndarray, "k r c"]) -> Float[ndarray, "k_r k_c"]:
    k, rows, columns = blocks.shape
    full = np.zeros((k, rows, k, columns))
    full[np.arange(k), :, np.arange(k)] = blocks
    return full.reshape(k * rows, k * columns)


def logistic(
    x: Float[ndarray, "n l d"], y: Float[ndarray, "n l"], query: Float[ndarray, "n d"], C: float = 1.0
) -> Decisions:
    """Logistic regression on l points each, both classes among them: the log-odds of +1 at the query.

    Each problem has features of its own, so that the sum of losses and penalties splits into the single problems.
    """
    # the weights lie in the span of the points, whose coordinates are fewer; a rotation leaves the penalty as it is
    axes, coordinates = np.linalg.qr(x.mT)
    one = np.full((len(x), 1, 1), INTERCEPT)
    points = np.concatenate([coordinates.mT, one.repeat(x.shape[1], 1)], -1)
    asked = np.concatenate([query[:, None] @ axes, one], -1)[:, 0]
    # newton-cholesky solves the default's problem faster than lbfgs does at this size; tol is for a mean over problems
    model = LogisticRegression(C=C, solver="newton-cholesky", fit_intercept=False, tol=1e-4 / TOGETHER)

    def fit(group: ndarray) -> Decisions:
        model.fit(_block_diagonal(points[group]), y[group].ravel())
        return (model.coef_.reshape(TOGETHER, -1) * asked[group]).sum(-1)

    return _in_groups(len(x), fit)


def svm(
    kernel: Float[ndarray, "n l l"], y: Float[ndarray, "n l"], query: Float[ndarray, "n l"], C: float = 1.0
) -> Decisions:
    """SVM on l points each, both classes among them: the decision at the query, from its kernel with the points.

    libsvm trains one machine for each pair of classes. With two classes to each problem, its own machine is one of them.
    """
    model = SVC(C=C, kernel="precomputed", decision_function_shape="ovo")
    first, second = np.triu_indices(2 * TOGETHER, 1)
    own = np.flatnonzero((first % 2 == 0) & (second == first + 1))

    def fit(group: ndarray) -> Decisions:
        classes = 2 * np.arange(TOGETHER)[:, None] + (y[group] > 0)
        model.fit(_block_diagonal(kernel[group]), classes.ravel())
        decisions = model.decision_function(_block_diagonal(query[group][:, None]))
        return -decisions[np.arange(TOGETHER), own]  # positive for the first class of a pair

    return _in_groups(len(kernel), fit)


def linear_svm(
    x: Float[ndarray, "n l d"], y: Float[ndarray, "n l"], query: Float[ndarray, "n d"], C: float = 1.0
) -> Decisions:
    """SVM with the linear kernel, as ``svm``."""
    return svm(x @ x.mT, y, (query[:, None] @ x.mT)[:, 0], C)


def rbf_svm(
    x: Float[ndarray, "n l d"],
    y: Float[ndarray, "n l"],
    query: Float[ndarray, "n d"],
    C: float = 1.0,
    gamma: float | str = "scale",
) -> Decisions:
    """SVM with the Gaussian kernel, as ``svm``; gamma "scale" is 1 / (d Var[x]) of each problem's points."""
    width = 1 / (x.shape[-1] * x.var((1, 2))) if gamma == "scale" else np.full(len(x), gamma)
    # differences, as libsvm takes them: with products it would stop elsewhere within its tolerance
    distances = np.stack([np.square(x - x[:, i, None]).sum(-1) for i in range(x.shape[1])], 1)
    asked = np.square(x - query[:, None]).sum(-1)
    return svm(np.exp(-width[:, None, None] * distances), y, np.exp(-width[:, None] * asked), C)


Answers = Float[Tensor, "E B"]  # +1, -1, or 0 for a tie

# scikit-learn's defaults, C = 1 and gamma = 1 / (d_x Var[x]) ("scale"), come first, so that they win ties in tuning.
# SVC(kernel="linear") and not LinearSVC, which penalises the intercept and squares the hinge.
SCALES = (1.0, 0.1, 10.0, 0.01, 100.0)
GRIDS: dict[str, list[dict[str, Any]]] = {
    "logistic": [{"C": c} for c in SCALES],
    "linear SVM": [{"C": c} for c in SCALES],
    "RBF SVM": [{"C": c, "gamma": g} for c in (1.0, 0.1, 10.0) for g in ("scale", 0.003, 0.01, 0.03, 0.1)],
}
LEARNERS = (*GRIDS, "1-NN", "3-NN", "Bayes")


def _fitted(name: str, prompts: Prompts, patterns: Patterns, **setting: Any) -> Answers:
    """scikit-learn's answer to every prompt; contexts of one class predict that class."""
    tokens = prompts.dense(patterns)[:, :, : patterns.d_x].double().mT  # (E, B, l + 1, d_x)
    given = prompts.label[..., 0].clone()
    both = (prompts.label != given[..., None]).any(-1)
    x, y = tokens[both].numpy(), prompts.label[both].numpy()
    fit = {"logistic": logistic, "linear SVM": linear_svm, "RBF SVM": rbf_svm}[name]
    given[both] = torch.tensor(fit(x[:, :-1], y, x[:, -1], **setting) > 0).to(given.dtype) * 2 - 1
    return given


def _nearest(k: int, prompts: Prompts, patterns: Patterns) -> Answers:
    """Majority of the k nearest contexts (all of them if there are fewer), the earlier one first at equal distance."""
    tokens = prompts.dense(patterns)[:, :, : patterns.d_x].double().mT
    distance = (tokens[:, :, :-1] - tokens[:, :, -1:]).square().sum(-1)  # (E, B, l)
    order = distance.sort(dim=-1, stable=True).indices[..., : min(k, distance.shape[-1])]
    return prompts.label.gather(-1, order).sum(-1).sign()


def _bayes(prompts: Prompts, n_idr: int, alpha: Sequence[float]) -> Answers:
    """The more likely label, given the patterns, alpha and the uniform prior over tasks (see ``floors.bayes_floor``).

    With the query's pattern among the contexts, their label. Without it, z = +1 means that the partner b has label -1
    wherever it appears: its weight is (r / s)^(times seen), with r = alpha / 2 and s = (1 - alpha) / (2 M1 - 4) per
    context and label, and 0 if it was seen with label +1; so for z = -1 with the labels exchanged.
    """
    carries = torch.nn.functional.one_hot(prompts.parts[:, :, 0], n_idr).double()  # (E, B, l, M1)
    plus, minus = (((prompts.label == y).double()[..., None] * carries).sum(2) for y in (1, -1))
    own = prompts.query_parts[..., :1]
    known = (plus - minus).gather(-1, own)[..., 0].sign()
    a = torch.tensor(alpha, dtype=torch.float64)[:, None, None]
    odds = (a / 2).clamp(min=1e-12) / ((1 - a) / (2 * n_idr - 4)).clamp(min=1e-12)
    others = torch.ones_like(plus).scatter(-1, own, 0.0)
    positive = (others * (plus == 0) * odds.pow(minus)).sum(-1)
    negative = (others * (minus == 0) * odds.pow(plus)).sum(-1)
    tie = (positive - negative).abs() <= 1e-9 * (positive + negative)
    guess = torch.where(tie, 0.0, (positive - negative).sign())
    return torch.where(known != 0, known, guess).to(prompts.target.dtype)


def answers(name: str, prompts: Prompts, patterns: Patterns, rules: Sequence[PromptConfig], **setting: Any) -> Answers:
    """One learner's answers, +1 or -1 (0: a tie), to every prompt.

    Args:
        name: one of ``LEARNERS``.
        rules: the rule of each member's prompts (the Bayes classifier knows alpha).
        setting: of the scikit-learn estimator; its defaults otherwise.

    >>> from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
    >>> patterns = stack_patterns([draw_patterns(PatternConfig(), seed=0)])
    >>> rule = PromptConfig(alpha=1.0, n_context=40)
    >>> prompts = sample_prompts([rule], task_table([((0, 1),)]), [0], patterns.counts, 200, "eval")
    >>> bool((answers("Bayes", prompts, patterns, [rule]) == prompts.target).all())
    True
    """
    require_choice("name", name, LEARNERS)
    if name == "Bayes":
        return _bayes(prompts, patterns.n_relevant, [rule.alpha for rule in rules])
    if name.endswith("NN"):
        return _nearest(int(name[0]), prompts, patterns)
    return _fitted(name, prompts, patterns, **setting)


def _draw(
    patterns: Patterns, seeds: Sequence[int], tasks: Sequence[Tasks], rule: PromptConfig, n: int, purpose: str
) -> Prompts:
    require_integer("n_prompts", n, 1)
    return sample_prompts([rule] * len(seeds), task_table(tasks), seeds, patterns.counts, n, purpose)


def tuned(
    patterns: Patterns, seeds: Sequence[int], tasks: Sequence[Tasks], rule: PromptConfig, n_prompts: int
) -> dict[str, dict[str, Any]]:
    """The setting in ``GRIDS`` with the fewest errors, for each learner that has one.

    Chosen on prompts of the stream "tune", ``n_prompts`` a seed, pooled over seeds; the first of equals.
    """
    prompts, rules = _draw(patterns, seeds, tasks, rule, n_prompts, "tune"), [rule] * len(seeds)
    best = {}
    for name, grid in GRIDS.items():
        wrong = [float((answers(name, prompts, patterns, rules, **s) != prompts.target).sum()) for s in grid]
        best[name] = grid[wrong.index(min(wrong))]
    return best


def compare(
    ensemble: Any,
    tasks: Sequence[Tasks],
    rule: PromptConfig,
    n_prompts: int,
    learners: Mapping[str, tuple[str, dict[str, Any]]],
) -> pd.DataFrame:
    """The model ("ICL") and classical learners on the same held-out prompts (stream "eval").

    Args:
        ensemble: has ``params``, ``patterns`` and ``seeds`` of a one-layer model.
        tasks: one set per member.
        n_prompts: per seed.
        learners: label in the table -> (name in ``LEARNERS``, setting).

    Returns:
        One row per seed and learner: seed, learner, n_prompts, n_errors (a tie counts 1/2), error, disagree (mean square of the
        difference to the model's errors: where nothing is tied, the share of prompts that only one of the two gets right),
        one_class (share of prompts whose contexts all have one label).
    """
    require("ICL" not in learners, "learners", list(learners), "labels other than ICL, which is the model")
    seeds, patterns = list(ensemble.seeds), ensemble.patterns
    prompts, rules = _draw(patterns, seeds, tasks, rule, n_prompts, "eval"), [rule] * len(seeds)
    given = {"ICL": forward(ensemble.params, patterns, prompts).output.sign()}
    given |= {label: answers(name, prompts, patterns, rules, **setting) for label, (name, setting) in learners.items()}
    one_class = (prompts.label == prompts.label[..., :1]).all(-1).float().mean(1).tolist()
    wrong = {label: (a != prompts.target).double() - 0.5 * (a == 0) for label, a in given.items()}
    rows = []
    for label, mistakes in wrong.items():
        n_errors, disagree = mistakes.sum(1).tolist(), (mistakes - wrong["ICL"]).square().mean(1).tolist()
        rows += [
            (s, label, n_prompts, n, n / n_prompts, apart, one)
            for s, n, apart, one in zip(seeds, n_errors, disagree, one_class, strict=True)
        ]
    return pd.DataFrame(rows, columns=["seed", "learner", "n_prompts", "n_errors", "error", "disagree", "one_class"])


def prompts_needed(
    disagree: float, margin: float, n_seeds: int, n_together: int, difference: float = 0.0, power: float = 0.9
) -> float:
    """Prompts per seed with which the interval of a paired difference of errors ends below a margin.

    A prompt's difference is -1, 0 or 1, and not 0 with probability ``disagree``, so its variance is at most that, and the mean over all prompts of
    all seeds has the standard error sqrt(disagree / (n_seeds n)), if seeds do not differ by more than their prompts. The end of the interval lies t
    of these above the estimate, and in a share ``power`` of repetitions that lies less than z above ``difference``: n from (t + z) s.e. = margin - difference.

    Args:
        disagree: share of prompts on which only one of the two errs; between two that err equally often, at most twice that.
        n_together: number of intervals that hold together (95 %, Bonferroni).
        difference: the true one; infinitely many prompts are needed where it is not below the margin.

    >>> round(prompts_needed(0.1, 0.01, 20, 1))
    569
    """
    require_number("disagree", disagree, 0, 1)
    require_integer("n_seeds", n_seeds, 2)
    if difference >= margin:
        return math.inf
    t = scipy_stats.t.ppf((1 + simultaneous(0.95, n_together)) / 2, n_seeds - 1)
    return float(disagree * ((t + scipy_stats.norm.ppf(power)) / (margin - difference)) ** 2 / n_seeds)
