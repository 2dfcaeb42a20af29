"""The compiled learner against the written-out one in float64."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lib.errors import Diverged
from icl_lib.softmax import fused, model
from icl_lib.softmax.assumptions import correlated
from icl_lib.softmax.descent import Written, descend, stacked_patterns
from icl_lib.softmax.model import ModelConfig, Params
from icl_lib.softmax.patterns import PatternConfig, Patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, batches, initial_state, learner, sgd
from icl_lib.validate import ConfigError


def configs(m: int = 10, l: int = 6, batch: int = 16, n_idr: int = 4, **changes: object) -> list[TrainConfig]:
    one = TrainConfig(
        uniform_cover(n_idr, 1, 0),
        patterns=PatternConfig(n_idr, 3, 1.5, n_idr + 5, 2),
        prompts=PromptConfig(0.6, l),
        model=ModelConfig(m, 0.5, 0.3, 0.3),
        batch_size=batch,
        step_size=1.0,
        n_steps=11,
    )
    one = replace(one, **changes)
    return [one, replace(one, seed=1, step_size=0.3, train_attention=False), replace(one, seed=2)]


def doubled(parts: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [part.double() if part.is_floating_point() else part for part in parts]


def exact(
    runs: list[TrainConfig], params: Params, patterns: Patterns, prompts: Prompts, n_steps: int
) -> tuple[torch.Tensor, Params]:
    """Losses and weights after some steps in float64."""
    basis, size = patterns._replace(basis=patterns.basis.double()), prompts.target.shape[1] // n_steps
    written = Written(model.backward, sgd, runs, Params(*doubled(params)), basis)
    every = Prompts(*doubled(prompts))
    parts = [Prompts(*(x[:, i * size : (i + 1) * size] for x in every)) for i in range(n_steps)]
    return torch.cat([written.advance(part, i, 1) for i, part in enumerate(parts)], 1), written.weights()


@given(
    st.integers(1, 30).map(lambda n: 2 * n), st.integers(1, 25), st.integers(1, 20), st.integers(3, 6),
    st.sampled_from([0.0, 0.5]), st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_steps_are_those_of_the_written_pass(m: int, l: int, batch: int, n_idr: int, c: float, n_steps: int) -> None:
    """Any sizes, orthogonal patterns or not, attention frozen in one member: to the rounding of float32."""
    runs = configs(m, l, batch, n_idr)
    patterns, start = correlated(stacked_patterns(runs), [c] * 3), initial_state(runs).params
    prompts = batches(runs)(0, n_steps)
    expected, weights = exact(runs, start, patterns, prompts, n_steps)
    compiled = fused.Learner(runs, start, patterns)
    losses = compiled.advance(prompts, 0, n_steps)
    assert (losses - expected).abs().max() < 1e-5
    for found, right in zip(compiled.weights(), weights, strict=True):
        assert (found - right).abs().max() < 2e-5 * (1 + right.abs().max())


def test_frozen_attention_stays_to_the_bit() -> None:
    runs = configs()
    start = initial_state(runs)
    done = descend(runs, start, 11, stacked_patterns(runs), batches(runs), learner)
    assert torch.equal(done.params.w_q[1], start.params.w_q[1]) and torch.equal(done.params.w_k[1], start.params.w_k[1])
    assert not torch.equal(done.params.w_v[1], start.params.w_v[1])


@pytest.mark.parametrize("reading", ["independent", "exact"])
@pytest.mark.parametrize("l", [1, 7, 33])
def test_forward(reading: str, l: int) -> None:
    runs = configs(30, l)
    params, patterns = initial_state(runs).params, stacked_patterns(runs)
    rules, tasks = [PromptConfig(0.6, l, reading=reading)] * 3, task_table([run.tasks for run in runs])
    prompts = sample_prompts(rules, tasks, [0, 1, 2], patterns.counts, 101, "eval")
    found = fused.forward(params, patterns, prompts)
    double = Params(*doubled(params)), patterns._replace(basis=patterns.basis.double()), Prompts(*doubled(prompts))
    for mine, right, same in zip(found, model.forward(*double), fused.forward(*double), strict=True):
        assert mine.shape == right.shape and (mine - right).abs().max() < 2e-6 * (1 + right.abs().max())
        assert torch.equal(right, same)  # other precision is left to the written pass
    one = fused.forward(
        Params(*(w[1:2] for w in params)),
        patterns._replace(basis=patterns.basis[1:2]),
        Prompts(*(x[1:2] for x in prompts)),
    )
    assert torch.equal(one.output[0], found.output[1])


def test_exponentials() -> None:
    """To what rounding x to float32 does, down to e^-87, at 0 exactly; what is not a number stays so."""
    x = np.concatenate([[0.0, -1e-8, -86.9], -np.random.default_rng(0).exponential(8, 997)]).astype(np.float32)[None]
    y, power = x.copy(), np.empty(x.shape[1], np.int32)
    fused._exp(y, power)
    expected = np.exp(np.maximum(x.astype(float), -87))
    assert (np.abs(y - expected) <= 1.2e-7 * (2 - x) * expected).all() and y[0, 0] == 1
    bad = np.array([[np.nan, -np.inf, -1e30]], np.float32)
    fused._exp(bad, power[:3])
    assert np.isnan(bad[0, 0]) and (bad[0, 1:] < 1e-37).all()


@pytest.mark.parametrize("part", ["w_qkv", "w_o"])
def test_what_is_not_a_number_is_seen(part: str) -> None:
    runs = configs()
    start = initial_state(runs)
    broken = getattr(start.params, part).clone()
    broken[2, 0, 0] = torch.nan
    state = start._replace(params=start.params._replace(**{part: broken}))
    with pytest.raises(Diverged, match="member 2, seed 2"):
        descend(runs, state, 3, stacked_patterns(runs), batches(runs), learner)


def test_the_written_pass_learns_the_same() -> None:
    """Two hundred steps, in which rounding has time to grow."""
    runs = configs(20, 8, 32, n_steps=200)
    patterns, start = stacked_patterns(runs), initial_state(runs)
    one, other = (
        descend(runs, start, 200, patterns, batches(runs), taught)
        for taught in (learner, partial(Written, model.backward, sgd))
    )
    assert (one.losses - other.losses).abs().max() < 1e-3


def test_what_does_not_fit_is_refused() -> None:
    """Machine code looks at no addresses: sizes and numbers of patterns are checked before."""
    runs = configs()
    params, patterns, prompts = initial_state(runs).params, stacked_patterns(runs), batches(runs)(0, 1)
    rows = patterns.basis.shape[1]
    for number in (-1, rows, rows + 500):
        parts = prompts.parts.clone()
        parts[0, 0, 0, 0] = number
        wrong = prompts._replace(parts=parts)
        with pytest.raises(ConfigError, match="prompts"):
            fused.Learner(runs, params, patterns).advance(wrong, 0, 1)
        with pytest.raises((RuntimeError, IndexError)):
            fused.forward(params, patterns, wrong)
    few = patterns._replace(basis=patterns.basis[:, :4])
    with pytest.raises(ConfigError, match="prompts"):
        fused.Learner(runs, params, few).advance(prompts, 0, 1)
    for count in (1, 2):
        with pytest.raises(ConfigError, match="configs, params, patterns"):
            fused.Learner(runs[:count], params, patterns)
    with pytest.raises(ConfigError, match="w_qkv"):
        fused.Learner(runs, params._replace(w_qkv=params.w_qkv[..., :-1]), patterns)
    one = Params(*(w[:1] for w in params)), patterns._replace(basis=patterns.basis[:1])
    assert torch.equal(fused.forward(*one, prompts).output, model.forward(*one, prompts).output)
    whole = prompts._replace(label=prompts.label.long())
    assert torch.allclose(
        fused.forward(params, patterns, whole).output, fused.forward(params, patterns, prompts).output
    )
