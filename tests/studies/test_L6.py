"""Rows of W_O W_V of weights made by hand."""

import numpy as np
import torch

from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
from studies.L6 import product_rows, stretch

PATTERNS = stack_patterns([draw_patterns(PatternConfig(n_idr=4, n_idi=3, d_x=9, d_y=3), 1)])
MEAN = PATTERNS.basis[0, :4].mean(0) / PATTERNS.basis[0, :4].mean(0).norm()
LABEL = PATTERNS.basis[0, -1]
AWAY = PATTERNS.basis[0, 4] / PATTERNS.basis[0, 4].norm()  # an irrelevant pattern, orthogonal to both


def weights(w_v: torch.Tensor, rows: torch.Tensor) -> Params:
    eye = torch.eye(12)
    return Params(torch.cat([eye, eye, w_v])[None], rows[None], torch.ones(1, len(rows)))


def test_a_still_row_is_turned_by_what_stretches_the_mean_pattern() -> None:
    rows = torch.stack([AWAY - 0.2 * MEAN, AWAY + 0.2 * MEAN, 0.5 * LABEL])
    grown = torch.eye(12) + 9 * MEAN.outer(MEAN) + 3 * LABEL.outer(LABEL)
    table = product_rows(weights(grown, rows), PATTERNS, weights(torch.eye(12), rows))
    np.testing.assert_allclose(table["away_first"], [np.arctan(5), np.pi - np.arctan(5), np.pi / 2], atol=1e-3)
    np.testing.assert_allclose(table["away"], [np.arctan(0.5), np.pi - np.arctan(0.5), np.pi / 2], atol=1e-3)
    np.testing.assert_allclose(table["growth"], [np.sqrt(5 / 1.04)] * 2 + [4], rtol=1e-4)
    np.testing.assert_allclose(table["law"], 0, atol=2e-3)  # W_V is what the derivation says, so it is exact
    factors = stretch(weights(grown, rows), PATTERNS, weights(torch.eye(12), rows))
    np.testing.assert_allclose(factors[["mean", "label", "other"]].to_numpy(), [[10, 4, 1]], rtol=1e-5)


def test_the_law_misses_what_else_w_v_does() -> None:
    other = PATTERNS.basis[0, 5] / PATTERNS.basis[0, 5].norm()
    turned = torch.eye(12) + AWAY.outer(other)
    table = product_rows(weights(turned, AWAY[None]), PATTERNS, weights(torch.eye(12), AWAY[None]))
    np.testing.assert_allclose(table["law"], np.pi / 4, atol=1e-3)
