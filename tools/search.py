"""The search for the settings of chapter K10: ``python -m tools.search`` writes ``icl_lib/data/search.csv``.

The same number of trials for every model, on pilot seeds that no chapter uses, at a smaller width and prompt length than the
published ones: in the mean-field scaling the best step does not depend on N. Interrupted, it goes on where it stopped.
"""

import math
import statistics
import sys

import pandas as pd
from joblib import Parallel, delayed

from book.terminal import command
from icl_lib.errors import Diverged
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.prompts import PromptConfig
from icl_lib.mean_field.runs import trained_one
from icl_lib.mean_field.training import TrainConfig
from icl_lib.paths import cache_dir, root, write_atomic
from studies.K10 import RULE, SPACE, configured, setting

TRIALS, SEEDS = 8, (1000, 1001)
N, D, K, LENGTH, QUERIES = 250, 20, 5, 250, 32


def base(seed: int) -> TrainConfig:
    """Everything but what is searched; the rule that ends training is that of chapter K10."""
    return TrainConfig(
        teacher=TeacherConfig("nonlinear", 40, D, K, 4.0, (1.0,) * K, seed),
        start=InitConfig("aligned", N, D, K, seed=seed),
        prompts=PromptConfig(n_context=LENGTH, n_query=QUERIES),
        seed=seed,
        **RULE,
    )


def outcome(model: str, trial: int) -> dict[str, object]:
    """One trial: its setting, and training loss of the last epoch and number of epochs, means over the pilot seeds."""
    chosen, runs = setting(model, trial), []
    try:
        for seed in SEEDS:
            runs.append(trained_one(configured(model, base(seed), chosen), 10**6, cache_dir()))
    except Diverged as error:
        print(f"{model}, trial {trial}: {error}", file=sys.stderr)
        return {"model": model, "trial": trial, "loss": math.nan, "epochs": math.nan, "converged": 0, **chosen}
    found = {
        "loss": float(f"{statistics.fmean(history['loss'].iloc[-1] for _, history in runs):.6g}"),
        "epochs": statistics.fmean(state.epoch for state, _ in runs),
        "converged": sum(state.converged for state, _ in runs),
    }
    print(f"{model:10} trial {trial:2}: {found}", flush=True)
    return {"model": model, "trial": trial, **found, **chosen}


def main() -> None:
    cache_dir().mkdir(parents=True, exist_ok=True)
    work = [delayed(outcome)(model, trial) for trial in range(TRIALS) for model in SPACE]
    table = pd.DataFrame(Parallel(n_jobs=2)(work)).sort_values(["model", "trial"])
    write_atomic(root() / "icl_lib" / "data" / "search.csv", table.to_csv(index=False).encode())


if __name__ == "__main__":
    sys.exit(command(main)())
