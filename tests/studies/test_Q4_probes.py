"""Prompts that take something away, and the exact error of a weighted vote, each against the other and by hand."""

from types import SimpleNamespace

import pytest
import torch

from icl_lib.softmax.assumptions import vote_error
from icl_lib.softmax.descent import Ensemble, stacked_patterns
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig, initial_state
from icl_lib.validate import ConfigError
from studies.Q4 import errors_without, take_away, weighted_vote_error

EXACT = PromptConfig(0.8, 20, reading="exact")


def voter(other: float):
    """A stand-in for a model: contexts with the query's pattern have the weight 1, all others the same other one."""

    def forward(params, patterns, prompts):
        weights = torch.where(prompts.same_pattern(), 1.0, other)
        return SimpleNamespace(output=(weights * prompts.label).sum(-1))

    return forward


def test_what_is_taken_away_is_gone_and_the_rest_stays() -> None:
    drawn = sample_prompts([EXACT] * 2, task_table([all_tasks(6)] * 2), [0, 1], (6, 24), 400, "eval")
    partner = drawn.parts[:, :, 0, 8:9]
    for gone in (0, 8):
        less = take_away(drawn, 6, 8, gone, [0, 1])
        relevant = less.parts[:, :, 0]
        assert not less.same_pattern().any()
        assert bool((relevant == partner).any()) == (gone == 0)
        assert torch.equal(relevant[..., 8 + gone :], drawn.parts[:, :, 0, 8 + gone :])
        assert torch.equal(less.label[..., 8 + gone :], drawn.label[..., 8 + gone :])
        assert torch.equal(less.parts[:, :, 1], drawn.parts[:, :, 1]) and torch.equal(less.target, drawn.target)
        new = less.label[..., : 8 + gone]
        assert set(new.unique().tolist()) == {-1.0, 1.0} and abs(float((new * less.target[..., None]).mean())) < 0.05
        counts = torch.bincount(relevant[..., : 8 + gone].flatten(), minlength=6) / (800 * (8 + gone))
        assert torch.allclose(counts, torch.full((6,), 1 / 6), atol=0.02)
    first, again = (take_away(drawn, 6, 8, 0, [0, 1], step) for step in (0, 1))
    assert not torch.equal(first.label, again.label)


@pytest.mark.parametrize("other", [1.0, -0.2, 0.3])
@pytest.mark.parametrize("partner_too", [False, True])
def test_errors_are_those_of_the_exact_vote(other: float, partner_too: bool) -> None:
    configs = tuple(TrainConfig(uniform_cover(6, 3, s), seed=s, n_steps=0) for s in range(2))
    models = Ensemble(configs, stacked_patterns(configs), initial_state(configs).params, torch.zeros(2, 0))
    found = errors_without(models, [all_tasks(6)] * 2, EXACT, partner_too, 8000, voter(other))
    exact = weighted_vote_error((0, 0 if partner_too else 8, 20), other)
    assert found["seed"].tolist() == [0, 1] and (found["n_prompts"] == 8000).all()
    assert (found["error"] - exact).abs().max() < 4 * (0.25 / 8000) ** 0.5
    assert partner_too == (exact == pytest.approx(0.5))


def test_a_weighted_vote_in_closed_cases() -> None:
    assert weighted_vote_error((8, 8, 20), 0.0, 0.3) == pytest.approx(vote_error(8, 0.3))
    assert weighted_vote_error((8, 8, 16), -1.0, 0.3) == pytest.approx(
        vote_error(16, 0.3)
    )  # the partner's count in full
    assert weighted_vote_error((0, 8, 8), 1.0) == 1  # the partner's labels, believed
    assert weighted_vote_error((3, 2, 10), -0.2) == 0  # the others cannot outvote them
    assert weighted_vote_error((1, 0, 2), 1.0) == pytest.approx(0.25)  # wrong never, a tie every second time
    by_length = [weighted_vote_error((1, 1, l), -0.2) for l in (5, 20, 50, 200)]
    assert by_length[0] == 0 and by_length == sorted(by_length)
    assert weighted_vote_error((8, 8, 20), -0.2, 0.3) < vote_error(8, 0.3)


def test_refuses() -> None:
    drawn = sample_prompts([PromptConfig(0.8, 20)], task_table([all_tasks(6)]), [0], (6, 24), 50, "eval")
    for call, message in (
        (lambda: take_away(drawn, 6, 8, 0, [0]), "prompts="),
        (lambda: errors_without(None, [], PromptConfig(), False, 0), "n_prompts=0"),
        (lambda: weighted_vote_error((8, 8, 10), 0.0), "counts="),
        (lambda: weighted_vote_error((1, 1, 10), float("nan")), "ratio=nan"),
        (lambda: weighted_vote_error((1, 1, 10), 0.0, 0.7), "label_noise=0.7"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
