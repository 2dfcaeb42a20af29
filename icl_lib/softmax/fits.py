"""Logistic regression and SVMs for many small problems, with scikit-learn's answers (tests compare with single fits).

A fit on 20 points is 20 microseconds of work, to which scikit-learn adds 700 of checks. So logistic regression is solved
here, for all problems at once, and several SVMs share one call of ``fit``: the kernel is zero between them.
"""

from collections.abc import Callable

import numpy as np
import sklearn
from jaxtyping import Float
from numpy import ndarray
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

TOGETHER = 6  # SVMs in one fit: a machine for each pair of classes still costs little
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

    scikit-learn's problem, with its unpenalised intercept b, by Newton's method on the coefficients c of the weights in
    the points. A step is a least-squares problem with weights C p (1 - p); what does not descend is halved.
    """
    kernel, (n, l) = x @ x.mT, y.shape

    def height(state: ndarray) -> ndarray:
        z, c, b = state[:, :l], state[:, l:-1], state[:, -1:]
        return (c * (z - b)).sum(1) / 2 + C * np.logaddexp(0, -y * z).sum(1)

    state, size = np.zeros((n, 2 * l + 1)), np.inf  # log-odds z = K c + b at the points, c, b
    while size > 1e-6:
        z = state[:, :l]
        root = C**0.5 / (2 * np.cosh(z / 2))
        goals = np.stack([z + y * (1 + np.exp(-y * z)), np.ones_like(z)], -1)
        system = np.eye(l) + root[:, :, None] * kernel * root[:, None]
        of_goal, of_one = np.moveaxis(root[..., None] * np.linalg.solve(system, root[..., None] * goals), -1, 0)
        b = of_goal.sum(1, keepdims=True) / of_one.sum(1, keepdims=True)  # the coefficients add up to 0
        c = of_goal - b * of_one
        move = np.concatenate([(kernel @ c[..., None])[..., 0] + b, c, b], 1) - state
        limit = height(state) * (1 + 1e-9)
        while (worse := height(state + move) > limit).any():
            move[worse] /= 2
        state, size = state + move, np.abs(move[:, :l]).max(initial=0)
    return ((query[:, None] @ x.mT)[:, 0] * state[:, l:-1]).sum(1) + state[:, -1]


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
