"""What Part I concludes, on data that break its assumptions, judged by the ledger's own criteria; and the law of the margin.

The law of L4 for the margin zF, with two things more: attention that is not all on the right contexts, and flipped labels.

Our derivation. Large neurons of one sign are copies (u; v) with u^T mu_i = f for all i, and rho = sign(a) v^T q / f. A query
whose pattern has coefficient sum S1 pools a feature that they read as S1 f, and a label z y that they read as rho f y.
Neurons of the right sign fire with f (S1 + rho |y|), the others with what is positive of f (S1 - rho |y|), so that
zF is proportional to sign(y) (min(S1, rho |y|) + rho |y|). Of the attention, ``mass`` lies on the n contexts with the query's
pattern, and the rest evenly on all others, among which the partner's speak for the opposite label and the rest cancel.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import binom

from book.claims import meets, passing
from icl_lib.softmax.assumptions import Assumptions, evaluate_under, vote_error
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.floors import exact_counts
from icl_lib.softmax.mechanism import is_small, neurons
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.pruning import prune
from icl_lib.softmax.tasks import Tasks
from icl_lib.softmax.training import initial_state
from icl_lib.stats import mean_interval
from icl_lib.validate import require, require_number

PerSeed = Float[ndarray, " E"]


def margin_law(
    f_in: PerSeed,
    rho: PerSeed,
    s1: float,
    counts: tuple[int, int, int],
    mass: PerSeed | float = 1.0,
    mass_in: PerSeed | float = 1.0,
    label_noise: float = 0.0,
) -> PerSeed:
    """Mean margin at S1 >= 0; nothing is fitted.

    Args:
        f_in: margin in domain, with clean labels.
        counts: contexts with the query's pattern, with its partner's, and all.
        mass, mass_in: attention on the contexts with the query's pattern, now and where ``f_in`` was measured.
        label_noise: probability with which a context's label is flipped; the mean over the votes of the first
            kind of contexts is exact, that of the others is taken inside.

    >>> f_in, rho = np.array([1.2]), np.array([3.0])
    >>> margin_law(f_in, rho, 2.0, (8, 8, 20)).tolist()  # f_in (S1 + rho) / (1 + rho)
    [1.5]
    """
    n_same, n_partner, n_context = counts
    require(
        0 < n_same < n_context and n_same + n_partner <= n_context, "counts", counts, "at least 1 and 1 other, in all"
    )
    require_number("s1", s1, 0)
    require_number("label_noise", label_noise, 0, 0.5)
    against = n_partner / (n_context - n_same)

    def label(vote: Float[ndarray, " k"], mass: PerSeed | float, clean: float) -> Float[ndarray, "E k"]:
        m = np.broadcast_to(np.asarray(mass, float), np.shape(f_in))[:, None]
        return m * vote - (1 - m) * clean * against

    right = np.arange(n_same + 1)
    chance = binom.pmf(right, n_same, 1 - label_noise)
    y = label(2 * right / n_same - 1, mass, 1 - 2 * label_noise)
    reads = np.asarray(rho)[:, None] * np.abs(y)
    answer = (np.sign(y) * (np.minimum(s1, reads) + reads)) @ chance
    y_in = label(np.ones(1), mass_in, 1.0)[:, 0]
    return np.asarray(f_in * answer / (np.minimum(1, rho * y_in) + rho * y_in))


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
    return bool(values.notna().all()) and meets(mean_interval(values), passing(claim, clause))
