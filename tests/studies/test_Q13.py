"""The factorial: what a cell shares with the others, its modifications, and how a run is judged."""

from dataclasses import asdict

import pandas as pd
import pytest
import torch

from icl_lib.mean_field import InitConfig, PromptConfig, TeacherConfig, train
from icl_lib.mean_field.training import MODES
from icl_lib.stats import Interval
from icl_lib.validate import ConfigError
from studies.Q13 import (
    DEAD,
    MODIFICATIONS,
    PLACEBO,
    RULES,
    TEACHERS,
    Change,
    at_end,
    cell,
    courses,
    first_below,
    modified,
    most_helpful,
    scheduled,
)

D, K = 4, 2
BASE = scheduled(
    TeacherConfig("nonlinear", 8, D, K, 3.0, (1.0,) * K),
    InitConfig("aligned", 16, D, K, 3.0),
    PromptConfig(n_context=20, n_query=4),
    5,
    3,
    2,
    dt=2.0,
    cap=0.3,
    shorten=0.1,
)


def test_cells_differ_in_teacher_and_rule_alone() -> None:
    cells = [cell(BASE, teacher, rule, 7) for teacher in TEACHERS for rule in RULES]
    same = [{name: value for name, value in asdict(c).items() if name not in ("mode", "teacher")} for c in cells]
    assert all(one == same[0] for one in same) and {c.mode for c in cells} == set(RULES.values()) <= set(MODES)
    assert {c.teacher.kind for c in cells} == set(TEACHERS.values())
    assert {(c.seed, c.start.seed, c.teacher.seed) for c in cells} == {(7, 7, 7)}


def test_modifications_and_their_placebos() -> None:
    one, change = cell(BASE, "centred", "preconditioned", 3), Change(0.1, 0.2, 0.5, 9.0)
    found = {name: modified(one, name, change).modification for name in MODIFICATIONS}
    assert found["none"] is None
    kinds = {name: m.perturbation for name, m in found.items() if m is not None}
    sizes = {name: m.births and m.births.reference.size for name, m in found.items() if m is not None}
    assert kinds == {
        "births": "none",
        "perturbation": "gaussian_process",
        "both": "gaussian_process",
        "dead births": "none",
        "isotropic": "isotropic",
        "dead births and isotropic": "isotropic",
    }
    assert sizes == {
        "births": 3.0,
        "perturbation": None,
        "both": 3.0,
        "dead births": DEAD,
        "isotropic": None,
        "dead births and isotropic": DEAD,
    }
    for name, placebo in PLACEBO.items():  # the same budget, times and rates
        a, b = found[name], found[placebo]
        assert a is not None and b is not None
        assert (a.budget, a.every, a.until) == (b.budget, b.every, b.until) == (0.2, 0.5, 9.0)
        assert (a.births and a.births.rate) == (b.births and b.births.rate)


def test_the_schedule_is_the_same_whatever_the_loss() -> None:
    """Shortened after two epochs and ended after three, learning or not; new prompts in every epoch."""
    run = train([cell(BASE, "centred", rule, 1) for rule in ("optimum, n = ∞", "plain gradient")])
    shortened = run.history.groupby("member")["shortened"].apply(list)
    assert list(shortened) == [[0, 0, 0, 1]] * 2 and list(run.history.groupby("member")["step"].max()) == [60, 60]
    assert run.history.groupby("member")["loss"].nunique().min() == 3
    with pytest.raises(ConfigError, match="full"):
        scheduled(BASE.teacher, BASE.start, BASE.prompts, 5, 3, 3)


def test_shares_left_are_one_at_predicting_nothing_and_zero_at_the_oracle() -> None:
    x = torch.randn(2000, D, generator=torch.Generator().manual_seed(0))
    run = train([cell(BASE, "uncentred", "optimum for n", seed) for seed in (1, 2)], every=10)
    found = courses(run, x)
    assert (found["left_best"] <= found["left"] + 1e-9).all() and found["left"].between(0, 1).all()
    assert list(at_end(found).index) == [1, 2]
    for _, one in found.groupby("seed"):  # linear in the loss: the oracle's, and 0's, are the same at every step
        slope = one["left"].diff() / one["expected"].diff()
        assert slope.std() < 1e-6 * slope.mean()
        at_zero = one["left"].iloc[0] + slope.mean() * (K / 2 - one["expected"].iloc[0])
        assert at_zero == pytest.approx(1)


def test_first_below_and_the_surest_cell() -> None:
    table = pd.DataFrame({"seed": [0] * 3 + [1] * 3, "step": [0, 10, 20] * 2, "time": [0.0, 1, 3] * 2})
    table["left"] = [1.0, 0.4, 0.6, 1.0, 0.9, 0.8]
    assert first_below(table, 0.5).tolist() == [10.0, 40.0] and first_below(table, 0.5, "time").tolist() == [1.0, 6.0]
    assert at_end(table, "left").tolist() == [0.6, 0.8]
    sure, wide = Interval(-0.2, -0.3, -0.1, 10), Interval(-0.9, -2.0, 0.2, 10)
    assert most_helpful({("a", "r", "wide"): wide, ("a", "r", "sure"): sure}) == ("a", "r", "sure")
    with pytest.raises(ConfigError, match="level"):
        first_below(table, 0.0)
