"""scikit-learn's logistic regression and SVMs for many small problems: several share one call of ``fit``.

A fit on 20 points is 20 microseconds of work and 700 of checks. Neither way of sharing changes what is solved for
a problem. Problems do not see each other: features, or kernel, are zero between them. Tests compare with single fits.
"""

from collections.abc import Callable

import numpy as np
import sklearn
from jaxtyping import Float
from numpy import ndarray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

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
