"""Criteria agree with finite differences, and networks with neurons taken out with the masked ones."""

import pytest
import torch

from icl_lib.softmax import gpt, model
from icl_lib.softmax.descent import State, stacked_patterns
from icl_lib.softmax.gpt import GPTConfig, init_gpt
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.pruning import keep, magnitude, prune
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, initial_state, train
from icl_lib.validate import ConfigError
from studies.Q3 import (
    balanced,
    effects,
    gpt_effects,
    gpt_magnitude,
    keep_in_layers,
    prune_gpt,
    take,
    take_gpt,
    train_kept,
)

SEEDS = (0, 1)
CONFIGS = [
    TrainConfig(tasks=uniform_cover(6, 3, s), seed=s, model=ModelConfig(m=12, a_scale=1 / 12), n_steps=25)
    for s in SEEDS
]
STEP = 1e-5


def double(parts):
    return type(parts)(*(part.double() if getattr(part, "dtype", None) == torch.float32 else part for part in parts))


@pytest.fixture(scope="module")
def patterns():
    return double(stacked_patterns(CONFIGS))


@pytest.fixture(scope="module")
def prompts():
    table = task_table([c.tasks for c in CONFIGS])
    return double(sample_prompts([PromptConfig()] * 2, table, SEEDS, (6, 24), 60, "train"))


@pytest.fixture(scope="module")
def params():
    return double(train(CONFIGS).params)


@pytest.fixture(scope="module")
def gpts():
    members = [init_gpt(GPTConfig(depth=2, heads=2, width=8), PatternConfig(), s) for s in SEEDS]
    grown = [5 * torch.cat(part) for part in zip(*members, strict=True)]  # beyond the linear part of GELU
    return double(gpt.GPTParams(*grown))


def logistic(output: torch.Tensor, prompts: Prompts) -> torch.Tensor:
    return torch.nn.functional.softplus(-prompts.target * output).mean(1)


def test_effects_are_the_slopes_of_a_factor_on_each_neuron(params, patterns, prompts):
    hidden, found = model.forward(params, patterns, prompts).hidden, effects(params, patterns, prompts)
    for neuron in range(12):

        def loss(factor, neuron=neuron):
            gates = torch.ones(12).double().index_fill(0, torch.tensor(neuron), factor)
            return logistic((hidden * gates * params.a[:, None]).sum(-1), prompts)

        slope = (loss(1 + STEP) - loss(1 - STEP)) / (2 * STEP)
        torch.testing.assert_close(found[:, neuron], slope.abs(), rtol=1e-5, atol=1e-9)
    assert found.max() > 1e-3


def test_effects_of_a_gpt_are_the_slopes_of_a_factor_on_what_a_neuron_sends_out(gpts, patterns, prompts):
    found = gpt_effects(gpts, patterns, prompts)
    for layer, neuron in ((0, 0), (0, 31), (1, 7)):

        def loss(factor, layer=layer, neuron=neuron):
            gates = torch.ones(1, 2, 32, 1).double()
            gates[0, layer, neuron] = factor
            return logistic(gpt.forward(gpts._replace(down=gpts.down * gates), patterns, prompts).output, prompts)

        slope = (loss(1 + STEP) - loss(1 - STEP)) / (2 * STEP)
        torch.testing.assert_close(found[:, layer, neuron], slope.abs(), rtol=1e-4, atol=1e-9)
    assert found.max() > 1e-6


def test_both_signs_lose_equally_many_each_its_lowest_first(params):
    scores = magnitude(params, SEEDS)
    kept = keep(balanced(scores, params), [0.5])[:, 0]
    for member, mask in enumerate(kept):
        for side in (params.a[member] > 0, params.a[member] < 0):
            assert (mask & side).sum() == 3
            assert scores[member][mask & side].min() > scores[member][~mask & side].max()


def test_neurons_taken_out_leave_the_outputs_of_the_masked_model(params, patterns, prompts):
    kept = keep(magnitude(params, SEEDS), [0.5])[:, 0]
    small = take(params, kept)
    assert small.w_o.shape[1] == small.a.shape[1] == 6
    masked = model.forward(prune(params, kept), patterns, prompts).output
    torch.testing.assert_close(model.forward(small, patterns, prompts).output, masked)
    assert (masked - model.forward(params, patterns, prompts).output).abs().max() > 1e-3
    torch.testing.assert_close(model.forward(take(params, kept, 2.0), patterns, prompts).output, 2 * masked)


def test_neurons_taken_out_of_a_gpt_leave_the_outputs_of_the_masked_one(gpts, patterns, prompts):
    kept = keep_in_layers(gpt_magnitude(gpts), 0.75)
    small = take_gpt(gpts, kept)
    assert (small.up.shape[-1], small.up_bias.shape[-1], small.down.shape[-2]) == (8, 8, 8)
    masked = gpt.forward(prune_gpt(gpts, kept), patterns, prompts).output
    torch.testing.assert_close(gpt.forward(small, patterns, prompts).output, masked)
    assert (masked - gpt.forward(gpts, patterns, prompts).output).abs().max() > 1e-4


def test_kept_neurons_learn_as_they_do_beside_silent_ones():
    """A row of W_O that is 0 stays 0, so training the masked model is training the small one."""
    start = initial_state(CONFIGS).params
    kept = keep(balanced(magnitude(start, SEEDS), start), [0.5])[:, 0]
    masked = train(CONFIGS, State(0, prune(start, kept), torch.zeros(2, 0)))
    small = train_kept(CONFIGS, kept)
    torch.testing.assert_close(take(masked.params, kept).w_o, small.params.w_o)
    torch.testing.assert_close(small.losses, masked.losses)
    assert not torch.equal(small.params.w_o, take(start, kept).w_o)


def test_members_that_keep_different_numbers_are_refused(params):
    kept = torch.ones(2, 12, dtype=torch.bool)
    kept[1, 0] = False
    with pytest.raises(ConfigError, match="kept"):
        take(params, kept)
