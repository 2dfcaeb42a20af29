"""Classical baselines: many prompts in one fit against scikit-learn called for every prompt.

The published size is 20 contexts with the learners' default settings; 60 prompts are timed. Answers may differ where a decision lies
within the solver's tolerance of 0.
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor

from benchmarks.case import Case, Size, beside, sizes
from benchmarks.training import configs_of, draw
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import Prompts
from studies.L8 import answers

PROMPTS = 60
AXES = sizes("l", 20, least=3)
UNIT = "s per prompt"
MAKERS: dict[str, Callable[[], object]] = {
    "logistic": LogisticRegression,
    "linear SVM": lambda: SVC(kernel="linear"),
    "RBF SVM": SVC,
    "1-NN": lambda: KNeighborsClassifier(1),
    "3-NN": lambda: KNeighborsClassifier(3),
}


def by_prompt(make: Callable[[], object], prompts: Prompts, patterns: Patterns) -> Tensor:
    """One estimator a prompt; contexts of one class predict that class."""
    tokens = prompts.dense(patterns)[0, :, : patterns.d_x].double().mT.numpy()
    given = []
    for x, y in zip(tokens, prompts.label[0].numpy(), strict=True):
        if (y == y[0]).all():
            given.append(y[0])
        else:
            given.append(make().fit(x[:-1], y).predict(x[-1:])[0])  # type: ignore[attr-defined]
    return torch.tensor(np.array(given))


def at(size: Size) -> list[Case]:
    """Every learner at one context length."""
    config = configs_of(size)[0]
    patterns, prompts = stacked_patterns([config]), draw([config], PROMPTS)
    l, d = config.prompts.n_context, patterns.d_x

    def pair(name: str) -> list[Case]:
        flop = 2 * d * l if name.endswith("NN") else 2 * d * l * (l + 1)  # distances, or the kernel
        ours = lambda: answers(name, prompts, patterns, [config.prompts])[0]  # noqa: E731
        case = Case(f"baseline, {name}", "ours", size, UNIT, ours, PROMPTS, flop=flop, precision="float64")
        others = {"scikit-learn": lambda: by_prompt(MAKERS[name], prompts, patterns)}
        return beside(case, others, 1 / PROMPTS + 1e-9, lambda a, b: float((a != b).double().mean()))

    return [case for name in MAKERS for case in pair(name)]
