"""Where a training run ends, beside the learners that it is measured against: exact losses, one row per seed.

All losses are at the prompt length of training, without label noise, over all prompts of the law; only Q~ is a mean over inputs (``features``).
"""

import math

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.activations import activation
from icl_lib.mean_field.expressivity import best_losses
from icl_lib.mean_field.features import model_moments
from icl_lib.mean_field.finite_prompts import loss_n
from icl_lib.mean_field.measure import Particles, initial_particles, teachers
from icl_lib.mean_field.train_features import Trained
from icl_lib.validate import require

NAMES = {"oracle": "oracle", "raw inputs": "raw", "untrained": "untrained"}


def known(run: Trained) -> Particles:
    """The teachers of a run's members."""
    return teachers([c.teacher for c in run.configs], activation(run.configs[0].activation).kernel())


def final_losses(run: Trained, x: Float[Tensor, "S d"]) -> pd.DataFrame:
    """Loss of the trained models, with the W that training left them, and of what they are compared with.

    Args:
        run: members that differ in their seeds only, so that rows are replications.
        x: inputs over which Q~ is taken.

    Returns:
        Index seed; columns loss; oracle, raw and untrained (attention with its best W on f°, on x, and on the features of the
        start); floor (the best linear predictor); zero (predicting 0); gap (the share of floor - oracle that is left).
    """
    first = run.configs[0]
    alike = len({(c.mode, c.activation, c.prompts, c.constant) for c in run.configs}) == 1
    require(alike, "run", len(run.configs), "of members that differ in their seeds only")
    require(first.mode != "softmax", "mode", first.mode, "one of linear attention: that of softmax has no exact loss")
    act, teacher, n = activation(first.activation), known(run), first.prompts.n_context
    start = {"untrained": initial_particles([c.start for c in run.configs])}
    table = best_losses(act, teacher, start, [n, math.inf], x, first.constant)
    at_n = table[table["length"] == n].pivot_table("loss", "member", "learner").rename(columns=NAMES)
    linear = table[(table["learner"] == "raw inputs") & (table["length"] == math.inf)].set_index("member")
    of = activation("identity") if first.mode == "attention" else act
    m = model_moments(act, teacher, run.model.mu, x, first.constant, of)
    found = at_n.assign(loss=loss_n(m, run.model.attention, n).numpy(), floor=linear["loss"], zero=linear["zero"])
    found["gap"] = (found["loss"] - found["oracle"]) / (found["floor"] - found["oracle"])
    return found.set_axis(pd.Index([c.seed for c in run.configs], name="seed")).rename_axis(columns=None)


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
