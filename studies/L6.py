"""Rows of W_O W_V, of which the proposition on the MLP speaks: how much longer they became, and how W_V turned them."""

import pandas as pd
import torch

from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns


def product_rows(params: Params, patterns: Patterns, start: Params) -> pd.DataFrame:
    """Every row of W_O W_V against the start, and against the direction away from the mean pattern.

    Returns:
        member, neuron, growth (its length over that at the start), away (its angle to (-mu_bar; 0), radians),
        away_first (the same angle for the row of W_O times the W_V of the start), law (its angle to the row of W_O times
        W_V as ``stretch`` has it: the start's W_V, longer along mu_bar and q only).
    """
    first, mean, along = start.w_v, _axis(patterns), stretch(params, patterns, start)
    rows, begun = params.w_o @ params.w_v, params.w_o @ first
    label = patterns.basis[:, -1] / patterns.basis[:, -1].norm(dim=-1, keepdim=True)
    law = begun
    for axis, name in ((mean, "mean"), (label, "label")):
        factor = torch.tensor(along[name].to_numpy(), dtype=rows.dtype)[:, None, None]
        law = law + (factor - 1) * (begun @ axis[..., None]) * axis[:, None]
    columns = {
        "growth": rows.norm(dim=-1) / (start.w_o @ first).norm(dim=-1),
        "away": _angle(rows, -mean[:, None]),
        "away_first": _angle(begun, -mean[:, None]),
        "law": _angle(rows, law),
    }
    n_members, m = params.a.shape
    table = pd.DataFrame({name: column.flatten().numpy() for name, column in columns.items()})
    table.insert(0, "member", [i for i in range(n_members) for _ in range(m)])
    table.insert(1, "neuron", [*range(m)] * n_members)
    return table


def stretch(params: Params, patterns: Patterns, start: Params) -> pd.DataFrame:
    """By what factor W_V became longer along mu_bar (mean), along q (label), and on average along the other irrelevant patterns.

    Returns:
        One row per member: member, mean, label, other.
    """

    def factor(axes: torch.Tensor) -> torch.Tensor:
        now, before = (((axes @ w.mT) * axes).sum(-1) for w in (params.w_v, start.w_v))
        return now / before

    unit = patterns.basis / patterns.basis.norm(dim=-1, keepdim=True)
    columns = {
        "mean": factor(_axis(patterns)[:, None])[:, 0],
        "label": factor(unit[:, -1:])[:, 0],
        "other": factor(unit[:, patterns.n_relevant : -1]).mean(1),
    }
    table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
    table.insert(0, "member", range(len(table)))
    return table


def _axis(patterns: Patterns) -> torch.Tensor:
    """Unit vector along (mu_bar; 0), (E, d)."""
    mean = patterns.basis[:, : patterns.n_relevant].mean(1)
    return mean / mean.norm(dim=-1, keepdim=True)


def _angle(rows: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Angles in [0, pi], radians."""
    return torch.nn.functional.cosine_similarity(rows, direction, dim=-1).clamp(-1, 1).arccos()
