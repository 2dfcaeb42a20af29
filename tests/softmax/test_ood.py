"""Out-of-domain frames: the stated geometry, paired over S1, pooled by seed."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from icl_lib.softmax.evaluation import evaluate_params
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.ood import FRAMES, evaluate_ood, frames, out_of_domain_test, outside_span, pool_frames
from icl_lib.softmax.patterns import PatternConfig, draw_patterns, out_of_domain, stack_patterns
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, train
from icl_lib.validate import ConfigError

PATTERNS = PatternConfig(n_idr=6, n_idi=4, d_x=16, d_y=3)
CONFIG = TrainConfig(
    tasks=uniform_cover(6, 2, 0), patterns=PATTERNS, model=ModelConfig(m=10, a_scale=0.1), batch_size=16, n_steps=20
)
ENSEMBLE = train([dataclasses.replace(CONFIG, seed=seed) for seed in (0, 3)])
TRAINED = stack_patterns([draw_patterns(PATTERNS, seed) for seed in (0, 3)])


@pytest.mark.parametrize("span", ["inside", "outside"])
def test_geometry_of_the_frames(span: str) -> None:
    new = frames(TRAINED, [0, 3], 0.7, 3, n_odr=3, n_odi=4, span=span)
    assert new.basis.shape == (6, 3 + 4 + 1, 19) and new.counts == (3, 4)
    assert torch.equal(frames(TRAINED, [0, 3], 0.7, 3, span=span).basis, new.basis)  # as many nu' as nu
    for row in range(6):
        trained = TRAINED._replace(basis=TRAINED.basis[row // 3])
        relevant, irrelevant = new.relevant[row], new.irrelevant[row]
        both = torch.cat([relevant, irrelevant])
        torch.testing.assert_close(both @ both.T, 4 * torch.eye(7), atol=2e-5, rtol=0)  # orthogonal, norm beta = 2
        coefficients = relevant @ trained.relevant.T / 4
        torch.testing.assert_close(coefficients.sum(1), torch.full((3,), 0.7), atol=1e-5, rtol=0)
        assert (irrelevant @ trained.relevant.T).abs().max() < 1e-5
        inside = (irrelevant @ trained.irrelevant.T).square().sum() / 16
        assert inside == pytest.approx(4.0 if span == "inside" else 0.0, abs=1e-4)


def test_frames_are_paired_over_s1_and_differ_between_seeds_and_draws() -> None:
    one, other = (frames(TRAINED, [0, 3], s1, 2, n_odi=4) for s1 in (0.2, 1.1))
    assert torch.equal(one.irrelevant, other.irrelevant), "S1 changes nothing but mu'"
    centred = [x.relevant - x.relevant.mean(1, keepdim=True) for x in (one, other)]
    # e_j, the part of mu'_j that does not lie along the mean pattern, spans the same plane at every S1
    for a, b in zip(*centred, strict=True):
        assert torch.linalg.matrix_rank(torch.cat([a, b]), tol=1e-3) == torch.linalg.matrix_rank(a, tol=1e-3)
    assert not torch.allclose(one.irrelevant[0], one.irrelevant[1])
    mine = out_of_domain(TRAINED._replace(basis=TRAINED.basis[1]), 3, 4, 0.2, FRAMES * 3 + 1)
    assert torch.equal(one.basis[3], mine.basis)


def test_evaluation_pools_the_frames_of_a_seed() -> None:
    rule = PromptConfig(alpha=0.8, n_context=4)
    pooled = evaluate_ood(ENSEMBLE, rule, 0.5, n_frames=2, n_prompts=2_000, n_odi=4)
    test = out_of_domain_test(ENSEMBLE, 0.5, 2, n_odi=4)
    each = evaluate_params(test.params, test.patterns, test.streams, test.tasks, [rule] * 4, 2_000)
    assert test.streams == [0, 1, 3 * FRAMES, 3 * FRAMES + 1] and test.seeds == [0, 0, 3, 3]
    assert pooled["seed"].tolist() == [0, 3] and pooled["n_prompts"].tolist() == [4_000, 4_000]
    errors = each["n_errors"].to_numpy()
    np.testing.assert_allclose(pooled["n_errors"], [errors[:2].sum(), errors[2:].sum()])
    np.testing.assert_allclose(pooled["error"], pooled["n_errors"] / 4_000)
    np.testing.assert_allclose(pooled["hinge"], each["hinge"].to_numpy().reshape(2, 2).mean(1))
    assert pooled["largest_output"].iloc[1] == each["largest_output"].iloc[2:].max()


def test_pooling_keeps_other_columns_apart() -> None:
    rows = {"seed": [0, 0, 0, 0], "mask": [0, 1, 0, 1], "n_prompts": 10, "n_errors": [1, 2, 3, 4], "n_lossy": 0}
    table = pd.DataFrame({**rows, "hinge": [0.0, 1.0, 0.5, 2.0], "largest_output": 1.0})
    pooled = pool_frames(table, by=["mask"])
    assert pooled[["mask", "n_errors", "hinge"]].to_numpy().tolist() == [[0, 4, 0.25], [1, 6, 1.5]]
    assert pooled["error"].tolist() == [0.2, 0.3]


def test_bad_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="span='beside': must be one of 'inside', 'outside'"):
        frames(TRAINED, [0, 3], 1.0, 1, span="beside")
    with pytest.raises(ConfigError, match="n_odi=7.*free dimensions d_x - M1 - M2 = 6"):
        outside_span(TRAINED._replace(basis=TRAINED.basis[0]), 7, 0)
    with pytest.raises(ConfigError, match=f"n_frames={FRAMES + 1}"):
        frames(TRAINED, [0, 3], 1.0, FRAMES + 1)
    with pytest.raises(ConfigError, match="s1="):
        frames(TRAINED, [0, 3], 1.5, 1, n_odi=4)
