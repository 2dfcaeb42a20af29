"""What Part I concludes about a trained one-layer model, measured in one go and judged by the ledger's own criteria."""

from collections.abc import Sequence

import pandas as pd
import torch

from icl_lib.claims import load_claims, meets
from icl_lib.open.assumptions import Assumptions, evaluate_under, vote_error
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.floors import exact_counts
from icl_lib.softmax.mechanism import is_small, neurons
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.pruning import prune
from icl_lib.softmax.tasks import Tasks
from icl_lib.softmax.train import initial_state
from icl_lib.stats import mean_interval

# Column of ``conclusions``: the clause of Part I whose criterion it is held to.
CLAUSES = {
    "excess": ("L1", "unseen_error"),
    "hinge": ("L1", "unseen_hinge"),
    "attention": ("L5", "in_domain_mass"),
    "feature_angle": ("L6", "feature_angle"),
    "label_angle": ("L6", "label_angle"),
    "small": ("L6", "small_fraction"),
    "cost": ("L7", "small_rows_cost"),
}


def conclusions(
    models: Ensemble,
    assumed: Sequence[Assumptions],
    tasks: Sequence[Tasks],
    prompts: PromptConfig,
    n_prompts: int = 4_000,
) -> pd.DataFrame:
    """One row per member: the columns of ``evaluate_under``, and those of ``CLAUSES``.

    Tested on the data that the models were trained on (``assumed``, exact counts), on ``tasks``.
    excess: error less that of a vote of the contexts with the query's pattern; feature_angle, label_angle (radians): median and
    mean over large neurons, NaN where there is none; small: fraction of neurons; cost: rise of the hinge loss without them.
    """
    found = evaluate_under(models, models.patterns, assumed, tasks, prompts, n_prompts)
    n_same = exact_counts(prompts.alpha, prompts.n_context)[0]
    found["excess"] = found["error"] - [vote_error(n_same, a.label_noise) for a in assumed]
    table = neurons(models.params, models.patterns, initial_state(models.configs).params)
    small = is_small(table)
    to_own = table["label_angle"].where(table["sign"] > 0, torch.pi - table["label_angle"])
    large = table.assign(to_own=to_own)[~small].groupby("member")
    found["feature_angle"] = found["member"].map(large["feature_angle"].median())
    found["label_angle"] = found["member"].map(large["to_own"].mean())
    found["small"] = found["member"].map(small.groupby(table["member"]).mean())
    kept = torch.tensor(~small.to_numpy()).view(len(found), -1)
    pruned = models._replace(params=prune(models.params, kept))
    without = evaluate_under(pruned, models.patterns, assumed, tasks, prompts, n_prompts)
    return found.assign(cost=without["hinge"] - found["hinge"])


def holds(values: pd.Series, conclusion: str) -> bool:
    """Whether a conclusion of Part I holds: the interval over seeds meets its criterion in the ledger; NaN never does.

    >>> holds(pd.Series([0.99, 0.98, 0.97]), "attention")
    True
    """
    claim, clause = CLAUSES[conclusion]
    return bool(values.notna().all()) and meets(mean_interval(values), load_claims()[claim].clauses[clause].passes)
