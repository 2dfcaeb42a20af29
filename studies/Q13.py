"""Which modification pays: teacher x rule for W x modification, all cells at one setting (question Q13; ours).

A run is judged by the share that is left of what there is to learn, from the loss of predicting 0 down to the oracle's
(attention on f° with its best W): by the steps to a level, each of which costs one batch of prompts in every cell, and by
its exact loss at the end. The schedule is the same for all: steps of full length, then shortened ones, whatever the loss
does, so that no cell is stopped early and all have seen as many prompts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.changes import BirthDeath, Modification
from icl_lib.mean_field.kernels import activation
from icl_lib.mean_field.learners import best_losses, known
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.prompts import PromptConfig
from icl_lib.mean_field.training import TrainConfig, Trained
from icl_lib.stats import Interval
from icl_lib.validate import require, require_choice, require_number

TEACHERS = {"centred": "nonlinear", "uncentred": "random"}  # kind of each teacher
RULES = {  # mode of each rule for W
    "plain gradient": "joint_plain",
    "preconditioned": "joint",
    "optimum, n = ∞": "static",
    "optimum for n": "static_finite",
}
PLACEBO = {"births": "dead births", "perturbation": "isotropic", "both": "dead births and isotropic"}
MODIFICATIONS = ("none", *PLACEBO, *PLACEBO.values())
DEAD = 0.01  # size of newborns that cannot help


@dataclass(frozen=True)
class Change:
    """Births and perturbations, the same in all cells that have them; both fall linearly to nothing at time `until`."""

    rate: float = 0.05
    budget: float = 0.15
    every: float = 1.0
    until: float = 20.0


def modified(config: TrainConfig, name: str, change: Change) -> TrainConfig:
    """The config with one of ``MODIFICATIONS``.

    Births come from the law of the start, dead ones from the same law with |w| of size ``DEAD``; perturbations are drawn from
    the Gaussian process, "isotropic" ones have the same budget and times.
    """
    require_choice("name", name, MODIFICATIONS)
    if name == "none":
        return replace(config, modification=None)
    law = replace(config.start, size=DEAD) if "dead" in name else config.start
    born = "births" in name or name == "both"
    kind = "isotropic" if "isotropic" in name else "none" if "births" in name else "gaussian_process"
    births = BirthDeath(change.rate, law, change.until) if born else None
    return replace(config, modification=Modification(births, kind, change.budget, change.every, change.until))


def cell(base: TrainConfig, teacher: str, rule: str, seed: int) -> TrainConfig:
    """One run of a cell without a modification: teacher, start and prompts are those of the seed, alike in all cells."""
    require_choice("teacher", teacher, tuple(TEACHERS))
    require_choice("rule", rule, tuple(RULES))
    known = replace(base.teacher, kind=TEACHERS[teacher], seed=seed)
    return replace(base, mode=RULES[rule], teacher=known, start=replace(base.start, seed=seed), seed=seed)


def scheduled(
    teacher: TeacherConfig, start: InitConfig, prompts: PromptConfig, batch: int, epochs: int, full: int, **steps: float
) -> TrainConfig:
    """The setting shared by all cells: `epochs` of 20 batches of new prompts, `full` of them before steps are shortened.

    An improvement of 1 is asked for, which no epoch makes: steps are shortened after so many epochs, whatever the loss.
    """
    require(0 < full < epochs, "full", full, f"between 0 and epochs = {epochs}")
    rule = {"improvement": 1.0, "patience": full, "plateau": full, "n_shorten": 1, "max_epochs": epochs, "fresh": True}
    sizes = {"n_prompts": 20 * batch, "batch": batch}
    return TrainConfig(teacher=teacher, start=start, prompts=prompts, **sizes, **rule, **steps)  # type: ignore[arg-type]


def courses(run: Trained, x: Float[Tensor, "S d"]) -> pd.DataFrame:
    """The history of a run with the shares left of what there is to learn.

    Args:
        run: of members that differ in seeds and modification only.
        x: inputs over which the oracle's Q is taken.

    Returns:
        One row per seed and recorded step: seed, step, time, expected (exact loss), best_w, left (of `expected`) and left_best
        (of `best_w`: W at its optimum for n), shortened.
    """
    first = run.configs[0]
    table = best_losses(activation(first.activation), known(run), {}, [first.prompts.n_context], x)
    own = table[table["learner"] == "oracle"].set_index("member")
    found = run.history.join(own[["loss", "zero"]].add_prefix("oracle "), on="member")
    for name, column in (("left", "expected"), ("left_best", "best_w")):
        found[name] = (found[column] - found["oracle loss"]) / (found["oracle zero"] - found["oracle loss"])
    return found[["seed", "step", "time", "expected", "best_w", "left", "left_best", "shortened"]]


def first_below(course: pd.DataFrame, level: float, of: str = "step", column: str = "left") -> pd.Series:
    """Step (or flow time) at which a share is first below a level, by seed; never: twice the last one of that seed.

    >>> course = pd.DataFrame({"seed": [0, 0, 1, 1], "step": [0, 10, 0, 10], "left": [1.0, 0.4, 1.0, 0.6]})
    >>> first_below(course, 0.5).tolist()
    [10.0, 20.0]
    """
    require_number("level", level, 1e-9, 1)
    ends = 2.0 * course.groupby("seed")[of].max()
    return course[course[column] < level].groupby("seed")[of].min().reindex(ends.index).fillna(ends).astype(float)


def at_end(course: pd.DataFrame, column: str = "expected") -> pd.Series:
    """The last value, by seed."""
    return course.groupby("seed")[column].last()


def most_helpful(effects: Mapping[tuple[str, str, str], Interval]) -> tuple[str, str, str]:
    """The cell (teacher, rule, modification) whose effect has the lowest upper end; the first of equal ones.

    >>> most_helpful({("a", "b", "c"): Interval(-1.0, -3.0, 1.0, 2), ("a", "b", "d"): Interval(-0.5, -0.6, -0.4, 2)})
    ('a', 'b', 'd')
    """
    require(len(effects) > 0, "effects", len(effects), "at least one")
    return min(effects, key=lambda where: effects[where].high)
