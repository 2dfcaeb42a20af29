"""Fits that share a call against scikit-learn's single fits: the same decisions, to its own tolerance."""

import numpy as np
import pytest
import torch
from numpy import ndarray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks
from studies.L8 import GRIDS, TOGETHER, linear_svm, logistic, rbf_svm

FITS = {"logistic": logistic, "linear SVM": linear_svm, "RBF SVM": rbf_svm}
SINGLE = {
    "logistic": lambda **setting: LogisticRegression(tol=1e-10, solver="newton-cholesky", **setting),
    "linear SVM": lambda **setting: SVC(kernel="linear", **setting),
    "RBF SVM": SVC,
}


def problems(length: int, kappa_max: float, n: int) -> tuple[ndarray, ndarray, ndarray]:
    """Contexts, labels and queries of prompts in which both labels occur."""
    rule = PromptConfig(0.8, length, kappa_max)
    patterns = stack_patterns([draw_patterns(PatternConfig(), 7)])
    prompts = sample_prompts([rule], task_table([all_tasks(6)]), [7], patterns.counts, n, "check")
    x = prompts.dense(patterns)[0, :, :30].double().mT.numpy()
    y = prompts.label[0].numpy()
    both = np.ptp(y, axis=1) > 0
    return x[both, :-1], y[both], x[both, -1]


def single(name: str, x: ndarray, y: ndarray, query: ndarray, **setting: object) -> ndarray:
    model = SINGLE[name](**setting)
    return np.array([model.fit(a, b).decision_function(q[None])[0] for a, b, q in zip(x, y, query, strict=True)])


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(("length", "kappa_max"), [(4, 3.0), (6, 0.5), (20, 1.5)])
def test_every_setting_of_the_grids_decides_as_a_single_fit_does(name: str, length: int, kappa_max: float) -> None:
    data = problems(length, kappa_max, 2 * TOGETHER + 1)
    for setting in GRIDS[name]:
        np.testing.assert_allclose(
            FITS[name](*data, **setting), single(name, *data, **setting), rtol=1e-5, atol=1e-5, err_msg=str(setting)
        )


@pytest.mark.parametrize("name", FITS)
def test_two_thousand_answers_are_scikit_learns_by_default(name: str) -> None:
    default = {"logistic": LogisticRegression(), "linear SVM": SVC(kernel="linear"), "RBF SVM": SVC()}[name]
    for length, kappa_max in ((6, 0.5), (20, 1.5)):
        x, y, query = problems(length, kappa_max, 1_050)
        expected = [default.fit(a, b).predict(q[None])[0] for a, b, q in zip(x, y, query, strict=True)]
        assert len(x) >= 1_000 and np.array_equal(np.sign(FITS[name](x, y, query)), expected)


@pytest.mark.parametrize("name", FITS)
def test_a_problem_does_not_see_its_neighbours(name: str) -> None:
    x, y, query = problems(8, 1.0, 3 * TOGETHER)
    together = FITS[name](x, y, query)
    for i in (0, TOGETHER, len(x) - 1):
        alone = FITS[name](x[i : i + 1], y[i : i + 1], query[i : i + 1])
        assert alone == pytest.approx(together[i : i + 1], rel=1e-4, abs=1e-6)
    assert FITS[name](x[:0], y[:0], query[:0]).shape == (0,)


def test_points_may_be_more_than_dimensions() -> None:
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(9, 12, 3, generator=gen, dtype=torch.float64).numpy()
    y = np.tile([1.0, -1.0], (9, 6))
    for name, fit in FITS.items():
        np.testing.assert_allclose(fit(x, y, x[:, 0] / 2), single(name, x, y, x[:, 0] / 2), rtol=1e-5, atol=1e-5)
