"""Linear and softmax attention on the same features, each with W = scale B~^{-1} at its best scale, on the regression tasks of Paper K."""

from collections.abc import Sequence

import pandas as pd
import torch

from icl_lib.mean_field.activations import activation
from icl_lib.mean_field.expressivity import softmax_losses
from icl_lib.mean_field.features import model_moments
from icl_lib.mean_field.finite_prompts import loss_n
from icl_lib.mean_field.landscape import trace
from icl_lib.mean_field.measure import Particles, member
from icl_lib.mean_field.regression import PromptConfig, Source
from icl_lib.rng import generator
from icl_lib.validate import require

INPUTS = 16_384  # of the fourth moment in the exact loss of linear attention


def attention_losses(
    act: str, teacher: Particles, mu: Particles, seeds: Sequence[int], scales: Sequence[float], n_context: int, n: int,
    of: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row per member and attention: seed, attention ("linear", "softmax"), scale, loss, relative (to predicting 0).

    Features have a constant beside them. The loss of linear attention is the exact mean over prompts at each scale; that of
    softmax is a mean over n held-out prompts, at the scale that was best on n others.

    Args:
        act: sigma of the teacher, and of the model.
        of: "identity" if mu holds raw inputs instead.
    """
    require(len(scales) > 0, "scales", list(scales), "at least one")
    of = act if of is None else of
    x = torch.randn(INPUTS, teacher.w.shape[2], generator=generator(0, "inputs"))
    moments = model_moments(activation(act), teacher, mu, x, True, activation(of))
    zero = trace(moments.cov.c) / 2
    tried = torch.stack([loss_n(moments, scale * moments.cov.optimum, n_context) for scale in scales])
    linear, best = tried.min(0)
    law = PromptConfig(n_context=n_context, n_query=16)
    sources = [Source(law, member(teacher, e), act, seed) for e, seed in enumerate(seeds)]
    softmax = softmax_losses(of, act, teacher, mu, sources, scales, n)
    found = {
        "linear": (torch.tensor(scales, dtype=torch.float64)[best], linear),
        "softmax": (softmax.scale, softmax.loss),
    }
    return pd.concat(
        [
            pd.DataFrame(
                {"seed": list(seeds), "attention": name, "scale": scale, "loss": loss, "relative": loss / zero}
            )
            for name, (scale, loss) in found.items()
        ],
        ignore_index=True,
    )
