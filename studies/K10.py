"""One search for every model: as many random trials for each, from one space, and the least training loss wins.

Nothing but training loss is looked at, and no test prompt is drawn. The ranges are our choice.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.changes import BirthDeath, Modification
from icl_lib.mean_field.kernels import activation
from icl_lib.mean_field.learners import best_losses, known
from icl_lib.mean_field.training import TrainConfig, Trained
from icl_lib.published import FOLDER
from icl_lib.rng import generator
from icl_lib.validate import require, require_choice, require_integer

MODES = {"joint": "joint", "static": "static", "modified": "static", "raw inputs": "attention"}  # mode of each model
PARTICLES = {"dt": (0.3, 5.0), "cap": (0.05, 1.0), "size": (1.5, 4.0)}
W = {"w_rate": (0.2, 1.5), "w_start": (0.1, 1.0)}
MODIFIED = {"rate": (0.001, 0.1), "until": (10.0, 300.0), "budget": (0.01, 0.3)}
SPACE = {"joint": PARTICLES | W, "static": PARTICLES, "modified": PARTICLES | MODIFIED, "raw inputs": W}
BATCHES = (25, 50, 100)
# When steps are shortened and training ends, for all models alike; fixed before the search.
RULE: dict[str, Any] = {
    "patience": 1,
    "plateau": 6,
    "improvement": 0.1,
    "shorten": 0.3,
    "n_shorten": 4,
    "max_epochs": 40,
}


def setting(model: str, trial: int) -> dict[str, float]:
    """Trial number `trial`: a batch size, and a value from each range, log-uniform; stream (trial, "search").

    Trials with the same number have the same batch, dt, cap and size in all models that have these.
    """
    require_choice("model", model, tuple(SPACE))
    require_integer("trial", trial, 0)
    gen = generator(trial, "search")
    found: dict[str, float] = {"batch": BATCHES[int(torch.randint(len(BATCHES), (), generator=gen))]}
    for name, (low, high) in SPACE[model].items():
        share = float(torch.rand((), generator=gen, dtype=torch.float64))
        found[name] = float(f"{low * (high / low) ** share:.3g}")
    return found


def configured(model: str, base: TrainConfig, chosen: Mapping[str, float]) -> TrainConfig:
    """`base` trained as `model`, with what a trial or the search has chosen.

    "modified" has births from the law of the start and perturbations by the Gaussian process, both annealed to nothing
    at time `until`.
    """
    require_choice("model", model, tuple(SPACE))
    names = {"batch", *SPACE[model]}
    require(set(chosen) == names, "chosen", sorted(chosen), f"values of {sorted(names)}")
    values: dict[str, Any] = {"batch": int(chosen["batch"])} | {
        name: chosen[name] for name in ("dt", "cap", *W) if name in names
    }
    start = replace(base.start, size=chosen["size"]) if "size" in names else base.start
    config = replace(base, mode=MODES[model], start=start, modification=None, **values)
    if model != "modified":
        return config
    births = BirthDeath(chosen["rate"], config.start, chosen["until"])
    change = Modification(
        births, "gaussian_process", chosen["budget"], every=chosen["until"] / 20, until=chosen["until"]
    )
    return replace(config, modification=change)


def best(table: pd.DataFrame, model: str) -> dict[str, float]:
    """The setting of least training loss in a table of trials: model, trial, loss, and a column for every setting.

    A trial that diverged has no loss; `loss` is the mean over the seeds of a trial.
    """
    require_choice("model", model, tuple(SPACE))
    rows = table[(table["model"] == model) & table["loss"].map(math.isfinite)]
    require(len(rows) > 0, "table", len(table), f"at least one trial of {model} that ended with a loss")
    row = rows.sort_values("loss").iloc[0].to_dict()
    return {name: float(row[name]) for name in ("batch", *SPACE[model])}


def trials() -> pd.DataFrame:
    """The recorded search, one row per model and trial: loss, epochs, converged (of the pilot seeds), and the setting."""
    return pd.read_csv(FOLDER / "search.csv")


def known_part(run: Trained, k: int, x: Float[Tensor, "S d"]) -> pd.Series:
    """Loss of attention with its best W on (f°_1, .., f°_k, 1), by seed: the oracle of a model with fewer features than f°.

    Where C = 1 no other k features of f° would do better at infinite prompt length.
    """
    first, teacher = run.configs[0], known(run)
    require(0 < k <= teacher.a.shape[2], "k", k, f"from 1 to the teacher's {teacher.a.shape[2]}")
    part = {"part": teacher._replace(a=teacher.a[..., :k])}
    table = best_losses(activation(first.activation), teacher, part, [first.prompts.n_context], x)
    losses = table[table["learner"] == "part"]["loss"].to_numpy()
    return pd.Series(losses, pd.Index([c.seed for c in run.configs], name="seed"))
