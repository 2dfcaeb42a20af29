"""Classical learners: scikit-learn's own answers, exact nearest neighbours, and the Bayes classifier against its floor."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.floors import bayes_floor
from icl_lib.softmax.model import ModelConfig, forward
from icl_lib.softmax.patterns import PatternConfig, build_patterns, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig, train
from icl_lib.stats import mean_interval, simultaneous
from icl_lib.validate import ConfigError
from studies.L8 import GRIDS, LEARNERS, answers, compare, prompts_needed, tuned

SMALL = PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3)
PATTERNS = stack_patterns([draw_patterns(SMALL, seed) for seed in (1, 2)])
RULE = PromptConfig(alpha=0.7, n_context=7, kappa_max=1.5)
PROMPTS = sample_prompts([RULE] * 2, task_table([all_tasks(4)] * 2), [1, 2], (4, 3), 60, "check")
RULES = [RULE] * 2
PLAIN = {
    "logistic": LogisticRegression(),
    "linear SVM": SVC(kernel="linear"),
    "RBF SVM": SVC(),
    "1-NN": KNeighborsClassifier(1),
    "3-NN": KNeighborsClassifier(3),
}


@pytest.mark.parametrize("name", PLAIN)
def test_each_answer_is_scikit_learns(name: str) -> None:
    given = answers(name, PROMPTS, PATTERNS, RULES)
    tokens = PROMPTS.dense(PATTERNS)[:, :, :8].double().numpy()
    for e, b in np.ndindex(2, 60):
        x, y = tokens[e, b, :, :-1].T, PROMPTS.label[e, b].numpy()
        expected = y[0] if len(set(y)) == 1 else PLAIN[name].fit(x, y).predict(tokens[e, b, :, -1:].T)[0]
        assert given[e, b] == expected


def one_prompt(patterns: list[int], labels: list[float], query: int) -> Prompts:
    """Contexts with the given relevant patterns and labels and no irrelevant part."""
    l = len(patterns)
    parts = torch.stack([torch.tensor(patterns), torch.full((l,), 4)])[None, None]
    query_parts = torch.tensor([[[query, 4]]])
    return Prompts(
        parts, torch.zeros(1, 1, l), torch.tensor(labels)[None, None], query_parts, torch.zeros(1, 1), torch.ones(1, 1)
    )


ONE = stack_patterns([build_patterns(2 * torch.eye(8)[:4], 2 * torch.eye(8)[4:7], torch.eye(3)[0])])


@pytest.mark.parametrize("name", LEARNERS)
def test_contexts_of_one_class_predict_it(name: str) -> None:
    prompts = one_prompt([0, 1, 2], [-1.0, -1.0, -1.0], 0)
    assert answers(name, prompts, ONE, [RULE]).item() == -1


def test_few_contexts_and_equal_distances() -> None:
    # at equal distance the earlier context counts, as in scikit-learn; two contexts of a 3-NN can tie
    assert answers("1-NN", one_prompt([1, 2], [-1.0, 1.0], 0), ONE, [RULE]).item() == -1
    assert answers("3-NN", one_prompt([1, 2], [-1.0, 1.0], 0), ONE, [RULE]).item() == 0
    assert answers("3-NN", one_prompt([0, 1, 2, 3], [1.0, -1.0, 1.0, -1.0], 0), ONE, [RULE]).item() == 1


def test_bayes_reasons_about_the_partner() -> None:
    # the query's pattern 0 is absent; 1 was seen with both labels (no partner), 2 with - three times, 3 with + once
    prompts = one_prompt([1, 1, 2, 2, 2, 3], [1.0, -1.0, -1.0, -1.0, -1.0, 1.0], 0)
    assert answers("Bayes", prompts, ONE, [PromptConfig(alpha=0.8, n_context=6)]).item() == 1
    # with alpha = 0.05 the partner is rarer than others: what was seen often is unlikely to be it
    assert answers("Bayes", prompts, ONE, [PromptConfig(alpha=0.05, n_context=6)]).item() == -1
    # seen with its label, the query's pattern decides
    assert answers("Bayes", one_prompt([0, 2, 2], [-1.0, -1.0, -1.0], 0), ONE, [RULE]).item() == -1
    # nothing is known
    assert answers("Bayes", one_prompt([1, 1], [1.0, -1.0], 0), ONE, [RULE]).item() == 0


@pytest.mark.parametrize(("alpha", "l"), [(0.6, 4), (0.3, 3), (1.0, 3)])
def test_bayes_reaches_the_bayes_floor(alpha: float, l: int) -> None:
    n, rule = 40_000, PromptConfig(alpha=alpha, n_context=l)
    prompts = sample_prompts([rule], task_table([all_tasks(4)]), [3], (4, 3), n, "check")
    given = answers("Bayes", prompts, ONE, [rule])
    error = ((given != prompts.target).double() - 0.5 * (given == 0)).mean().item()
    floor = bayes_floor(alpha, l, 4)
    assert abs(error - floor) < 4 * math.sqrt(max(floor, 1e-4) / n)


def test_easy_prompts_are_solved_by_all() -> None:
    rule = PromptConfig(alpha=1.0, n_context=8, kappa_max=0.1, reading="exact")
    prompts = sample_prompts([rule] * 2, task_table([all_tasks(4)] * 2), [1, 2], (4, 3), 30, "check")
    for name in LEARNERS:
        assert torch.equal(answers(name, prompts, PATTERNS, [rule] * 2), prompts.target), name


def test_comparison_is_on_the_same_held_out_prompts() -> None:
    config = TrainConfig(
        tasks=uniform_cover(4, 1, 0),
        patterns=SMALL,
        model=ModelConfig(m=10, a_scale=0.1),
        batch_size=16,
        n_steps=30,
        seed=1,
    )
    ensemble, tasks = train([config]), [all_tasks(4)]
    table = compare(ensemble, tasks, RULE, 2_000, {"1-NN": ("1-NN", {}), "Bayes": ("Bayes", {})}).set_index("learner")
    assert table["seed"].eq(1).all() and table["n_prompts"].eq(2_000).all()
    of_model = evaluate(ensemble, tasks, RULE, 2_000)  # the same stream in one block
    assert table.loc["ICL", "n_errors"] == of_model["n_errors"].item()
    prompts = sample_prompts([RULE], task_table(tasks), [1], (4, 3), 2_000, "eval")
    wrong = answers("1-NN", prompts, ensemble.patterns, [RULE]) != prompts.target
    assert table.loc["1-NN", "n_errors"] == wrong.sum().item()
    of_icl = (forward(ensemble.params, ensemble.patterns, prompts).output.sign() != prompts.target)[0]
    assert table.loc["1-NN", "disagree"] == pytest.approx((of_icl != wrong[0]).double().mean().item())
    assert table.loc["ICL", "disagree"] == 0
    assert table.loc["Bayes", "error"] < table.loc["1-NN", "error"]
    assert table["one_class"].iloc[0] == pytest.approx(
        (prompts.label == prompts.label[..., :1]).all(-1).float().mean().item()
    )


def test_tuning_takes_the_best_of_its_grid_on_its_own_stream() -> None:
    """The first of the best settings on the prompts of "tune"; on those of "eval" others would be best."""
    best, of_stream = tuned(PATTERNS, [1, 2], [all_tasks(4)] * 2, RULE, 20), {}
    for stream in ("tune", "eval"):
        prompts = sample_prompts(RULES, task_table([all_tasks(4)] * 2), [1, 2], (4, 3), 20, stream)
        for name, grid in GRIDS.items():
            wrong = [(answers(name, prompts, PATTERNS, RULES, **s) != prompts.target).sum().item() for s in grid]
            of_stream[stream, name] = grid[wrong.index(min(wrong))]
    assert best == {name: of_stream["tune", name] for name in GRIDS}
    assert best != {name: of_stream["eval", name] for name in GRIDS}


def test_bad_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="name='5-NN': must be one of"):
        answers("5-NN", PROMPTS, PATTERNS, RULES)
    with pytest.raises(ConfigError, match="labels other than ICL"):
        compare(None, [], RULE, 10, {"ICL": ("1-NN", {})})


def test_so_many_prompts_decide_nine_times_in_ten() -> None:
    """Two learners that err equally often and never together, 20 seeds, one of 64 intervals: simulated."""
    error, margin, together = 0.02, 0.005, 64
    n = math.ceil(prompts_needed(2 * error, margin, 20, together))
    rng = np.random.default_rng(0)
    ends = []
    for _ in range(500):
        ours, both = rng.binomial(n, error, 20), rng.binomial(n, error, 20)
        ends.append(mean_interval((ours - both) / n, simultaneous(0.95, together)).high)
    assert 0.82 < np.mean(np.array(ends) < margin) < 0.95
    assert prompts_needed(0.1, margin, 20, together, difference=margin) == math.inf
    assert prompts_needed(0.1, margin, 20, together, difference=-0.05) < prompts_needed(0.1, margin, 20, together) / 100
