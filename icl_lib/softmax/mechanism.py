"""What training does to the weights: growth of W_Q and W_K along patterns, and the kinds of neurons.

Source: Li et al. 2024, propositions on attention and on the MLP. The paper states orders for wide models and long training;
these are exact measurements of one finite model.
"""

import math
from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icl_lib.softmax.evaluation import BLOCK
from icl_lib.softmax.model import Params, forward
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks


def growth(params: Params, patterns: Patterns, kappa_max: float) -> pd.DataFrame:
    """Root mean squares of W p, along p's own relevant pattern and along another one, for W_Q and W_K.

    p = (mu_j + kappa nu_k; 0) with j and k uniform and kappa uniform on [-K, K]; the mean is taken exactly.

    Returns:
        One row per member and matrix: member, matrix, norm (of W p), own (its component along mu_j), other (root mean
        square, per other relevant pattern, of the component along it), off (the component along no relevant pattern).
    """
    basis, n_idr = patterns.basis[:, :-1], patterns.n_relevant
    unit = basis / basis.norm(dim=-1, keepdim=True)
    kappa2 = kappa_max**2 / 3  # mean of kappa squared
    rows = []
    for name, weight in (("W_Q", params.w_q), ("W_K", params.w_k)):
        image = basis @ weight.mT  # (E, P, d), rows W c
        norm2 = image.square().sum(-1)
        along = (image @ unit[:, :n_idr].mT).square()  # (E, P, R): squared component along each relevant pattern
        of_nu = along[:, n_idr:].mean(1)  # (E, R), from the irrelevant part, whose pattern is independent of j
        own = along[:, :n_idr].diagonal(dim1=1, dim2=2) + kappa2 * of_nu
        every = along[:, :n_idr].mean(1).sum(-1) + kappa2 * of_nu.sum(-1)  # along all relevant patterns together
        total = norm2[:, :n_idr].mean(1) + kappa2 * norm2[:, n_idr:].mean(1)
        other = (every - own.mean(1)) / (n_idr - 1)
        columns = torch.stack([total, own.mean(1), other, total - every], dim=1).clamp(min=0).sqrt()
        rows += [(i, name, *values) for i, values in enumerate(columns.tolist())]
    return pd.DataFrame(rows, columns=["member", "matrix", "norm", "own", "other", "off"])


def score_gap(params: Params, patterns: Patterns) -> Float[Tensor, " E"]:
    """How much higher a context with the query's pattern scores than another one, on average over pairs of patterns.

    The mean over j and k != j of (W_K mu_j - W_K mu_k)^T W_Q mu_j.
    """
    basis = patterns.basis[:, : patterns.n_relevant]
    scores = (basis @ params.w_q.mT) @ (basis @ params.w_k.mT).mT  # (E, query, context)
    own = scores.diagonal(dim1=1, dim2=2).mean(1)
    other = (scores.sum((1, 2)) / patterns.n_relevant - own) / (patterns.n_relevant - 1)
    return own - other


def mass_of_gap(gap: Float[Tensor, " E"], n_same: int, n_context: int) -> Float[Tensor, " E"]:
    """Attention mass on n_same of n_context contexts, n e^gap / (n e^gap + l - n), if all gaps are equal and kappa = 0.

    >>> round(float(mass_of_gap(torch.tensor([0.0]), n_same=3, n_context=10)), 4)
    0.3
    """
    if n_same == n_context:
        return torch.ones_like(gap)
    return (gap + math.log(n_same / (n_context - n_same))).sigmoid()


def _angle(vectors: Float[Tensor, "E m d"], direction: Float[Tensor, "E d"]) -> Float[Tensor, "E m"]:
    """Angles in [0, pi]."""
    return torch.nn.functional.cosine_similarity(vectors, direction[:, None], dim=-1).clamp(-1, 1).arccos()


def neurons(params: Params, patterns: Patterns, start: Params | None = None) -> pd.DataFrame:
    """Every neuron, a row (u; v) of W_O W_V: lengths and angles (radians) of feature part u and label part v.

    Args:
        start: the weights at initialisation, for the column start_row (NaN without).

    Returns:
        member, neuron, sign (of a), row (length of its row of W_O), start_row, feature (length of u),
        feature_angle (to mu_bar, the mean relevant pattern), label (length of v), label_angle (to +q).
    """
    value = params.w_o @ params.w_v
    u, v = value[..., : patterns.d_x], value[..., patterns.d_x :]
    first = start.w_o.norm(dim=-1) if start else torch.full(params.a.shape, torch.nan)
    columns = {
        "sign": params.a.sign(),
        "row": params.w_o.norm(dim=-1),
        "start_row": first,
        "feature": u.norm(dim=-1),
        "feature_angle": _angle(u, patterns.relevant.mean(1)),
        "label": v.norm(dim=-1),
        "label_angle": _angle(v, patterns.label),
    }
    n_members, m = params.a.shape
    table = pd.DataFrame({name: column.flatten().numpy() for name, column in columns.items()})
    table.insert(0, "member", [i for i in range(n_members) for _ in range(m)])
    table.insert(1, "neuron", [*range(m)] * n_members)
    return table


def label_to_feature(params: Params, patterns: Patterns, among: Bool[Tensor, "E m"]) -> Float[Tensor, " E"]:
    """rho: how strongly the neurons ``among`` read the label against how strongly they read a relevant pattern.

    Neuron i with row (u; v) of W_O W_V answers the pooled token (mu_j; y q) with u^T mu_j + y v^T q before the ReLU;
    rho is the mean of sign(a_i) v^T q over the mean of u^T mu_j, over neurons and patterns.
    """
    reads = params.w_o @ params.w_v @ patterns.basis.mT  # (E, m, P + 1)
    label = (reads[..., -1] * params.a.sign() * among).sum(1)
    feature = (reads[..., : patterns.n_relevant].mean(-1) * among).sum(1)
    return label / feature


def is_small(table: pd.DataFrame, factor: float = 2.0) -> pd.Series:
    """Our rule for a small neuron: its row of W_O is less than ``factor`` times as long as at the start."""
    return table["row"] < factor * table["start_row"]


@torch.no_grad()
def activity(
    params: Params, patterns: Patterns, seeds: Sequence[int], tasks: Sequence[Tasks], prompts: PromptConfig
) -> Float[Tensor, "E m"]:
    """Share of held-out prompts with z = sign(a_i) on which neuron i fires; 1 for the proof's lucky neurons."""
    table = task_table(tasks)
    drawn = sample_prompts([prompts] * len(seeds), table, seeds, patterns.counts, BLOCK, "check")
    fires = (forward(params, patterns, drawn).hidden > 0).float()  # (E, B, m)
    own_side = (drawn.target[..., None] == params.a.sign()[:, None]).float()
    return (fires * own_side).sum(1) / own_side.sum(1)
