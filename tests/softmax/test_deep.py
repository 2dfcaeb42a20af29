"""Training of the networks of several layers: the optimisers, ensembles, streams, refusals, and the cache."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import icl_lib.softmax.deep as deep
from benchmarks import gpt2
from icl_lib.errors import Diverged
from icl_lib.softmax.deep import DeepConfig, initial_params, network, train_deep, trained_deep
from icl_lib.softmax.descent import Ensemble, stacked_patterns
from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.gpt import GPTConfig
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.network import Network
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.tasks import all_tasks, disjoint_pairs, uniform_cover
from icl_lib.validate import ConfigError

GPT = DeepConfig(
    tasks=uniform_cover(4, 1, 0),
    patterns=PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3),
    prompts=PromptConfig(n_context=6),
    model=GPTConfig(2, 2, 8, 6),
    batch_size=16,
    step_size=3e-3,
    n_steps=5,
)
STACK = dataclasses.replace(GPT, model=StackConfig(2, 10, 0.5, 0.3, 0.3), optimiser="sgd", step_size=0.3)
BOTH = pytest.mark.parametrize("config", [GPT, STACK], ids=["gpt", "stack"])


def changed(config: DeepConfig, **changes: Any) -> DeepConfig:
    return dataclasses.replace(config, **changes)


def assert_same(one: Ensemble, two: Ensemble, tolerance: float = 0) -> None:
    assert one.configs == two.configs and torch.equal(one.patterns.basis, two.patterns.basis)
    for x, y in zip((*one.params, one.losses), (*two.params, two.losses), strict=True):
        assert x.shape == y.shape and (not x.numel() or (x - y).abs().max() <= tolerance)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Prompts]:
    """Every batch on which a step is taken."""
    seen: list[Prompts] = []

    def spied(config: DeepConfig) -> Network:
        net = network(config)

        def spy(params, patterns, prompts):  # type: ignore[no-untyped-def]
            seen.append(prompts)
            return net.backward(params, patterns, prompts)

        return net._replace(backward=spy)

    monkeypatch.setattr(deep, "network", spied)
    return seen


@BOTH
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_steps_against_the_formula(config: DeepConfig, optimiser: str, batches: list[Prompts]) -> None:
    """Weights after a few steps, from the networks' own gradients by the rule of the optimiser written out."""
    config = changed(config, optimiser=optimiser, step_size=0.01)
    done = train_deep([config])
    net, patterns, params = network(config), stacked_patterns([config]), initial_params([config])
    first, second = ([torch.zeros_like(w) for w in params] for _ in range(2))
    for t, prompts in enumerate(list(batches), start=1):
        _, grads = net.backward(params, patterns, prompts)
        moved = []
        for w, g, m, v in zip(params, grads, first, second, strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            adam = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            moved.append(w - 0.01 * (adam if optimiser == "adam" else g))
        params = type(params)(*moved)
    assert t == 5
    for name, x, y in zip(type(params)._fields, done.params, params, strict=True):
        assert not x.numel() or (x - y).abs().max() < (2e-4 if optimiser == "adam" else 1e-6), name
    assert any((x - y).abs().max() > 1e-3 for x, y in zip(done.params, initial_params([config]), strict=True))


def test_trains_as_gpt2_of_transformers_does() -> None:
    """Same prompts of changing length, same gradients, same Adam: the losses stay together."""
    config = changed(GPT, model=GPTConfig(2, 2, 16, 6), n_steps=15)
    learner = gpt2.GPT2Learner(initial_params([config]))
    losses = gpt2.train_gpt2(learner, gpt2.batches(config), config.step_size, 15)
    torch.testing.assert_close(losses, train_deep([config]).losses[0], rtol=0, atol=1e-4)
    other = gpt2.train_gpt2(learner, gpt2.batches(config), 0.0, 15)
    assert (losses - other).abs().max() > 1e-2  # the steps did matter


@BOTH
def test_batches_are_those_of_the_streams(config: DeepConfig, batches: list[Prompts]) -> None:
    """Fresh prompts of (seed, "train", step), of one length a step that varies over the allowed ones."""
    config = changed(config, n_steps=30, min_context=3, seed=4)
    train_deep([config])
    lengths = [prompts.label.shape[-1] for prompts in batches]
    assert set(lengths) == {3, 4, 5, 6} and len(lengths) == 30
    for step in (0, 7):
        rule = dataclasses.replace(config.prompts, n_context=lengths[step])
        expected = sample_prompts([rule], task_table([config.tasks]), [4], (4, 3), 16, "train", step)
        assert all(torch.equal(x, y) for x, y in zip(batches[step], expected, strict=True))
    batches.clear()
    train_deep([changed(config, min_context=6)])
    assert {prompts.label.shape[-1] for prompts in batches} == {6}


@BOTH
def test_member_equals_solo_run(config: DeepConfig) -> None:
    """Settings mixed in one ensemble: each member as if alone."""
    configs = [
        config,
        changed(config, step_size=1e-3),
        changed(config, seed=1, prompts=PromptConfig(0.3, 6, 0.0)),
        changed(config, seed=2, tasks=all_tasks(4), patterns=PatternConfig(4, 3, 3.0, 8, 3)),
        changed(config, seed=3, tasks=disjoint_pairs(4, 0), require_cover=False),
        changed(config, seed=4, train_attention=False),
    ]
    together = train_deep(configs)
    assert together.seeds == [0, 0, 1, 2, 3, 4] and together.step == 5
    for i, one in enumerate(configs):
        assert_same(together.members(slice(i, i + 1)), train_deep([one]), 1e-5)
    start = initial_params(configs)
    for w, before in zip(together.params.queries_and_keys(), start.queries_and_keys(), strict=True):
        assert torch.equal(w[5], before[5]) and not torch.equal(w[4], before[4])


@BOTH
def test_progress(config: DeepConfig) -> None:
    seen = []
    done = train_deep([config], lambda steps, params: seen.append((steps, params[0].clone())))
    assert [steps for steps, _ in seen] == [1, 2, 3, 4, 5]
    assert torch.equal(seen[-1][1], done.params[0]) and not torch.equal(seen[0][1], seen[1][1])
    again = train_deep([config], start=done.params)
    assert again.losses[0, 0] != done.losses[0, 0] and torch.equal(seen[-1][1], done.params[0])
    none = train_deep([changed(config, n_steps=0)])
    assert none.losses.shape == (1, 0) and torch.equal(none.params[0], initial_params([config])[0])


def test_divergence_is_named() -> None:
    configs = [STACK, changed(STACK, seed=7, step_size=1e6, n_steps=5)]
    with pytest.raises(Diverged, match=r"at step \d with step_size=1000000.0 \(member 1, seed 7\)"):
        train_deep(configs)
    with pytest.raises(Diverged, match="member 0, seed 3"):
        train_deep([changed(GPT, seed=3, optimiser="sgd", step_size=1e30)])


def test_both_learn() -> None:
    """A small setting with its own tasks; untrained, half of the answers are wrong. The median of five seeds: on which of
    them training is still on its first plateau differs between processors.
    """
    common = {"tasks": uniform_cover(4, 2, 0), "prompts": PromptConfig(n_context=8), "min_context": 8, "n_steps": 250}
    common |= {"batch_size": 64, "patterns": PatternConfig(4, 3, 2.0, 8, 3)}
    gpt = changed(GPT, **common, model=GPTConfig(2, 2, 32, 8), step_size=1e-3)
    for config in (gpt, changed(STACK, **common)):
        configs = [changed(config, seed=seed) for seed in range(5)]
        ask: Any = {"tasks": [config.tasks] * 5, "prompts": PromptConfig(0.8, 8), "n_prompts": 2000}
        ask["forward"] = network(config).forward
        before = evaluate(train_deep([changed(c, n_steps=0) for c in configs]), **ask)["error"]
        after = evaluate(train_deep(configs), **ask)["error"]
        assert before.min() > 0.3 and after.median() < 0.1, config.model


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": ModelConfig()}, "must be a GPTConfig or a StackConfig"),
        ({"prompts": 6}, "prompts=6: must be a PromptConfig"),
        ({"optimiser": "adamw"}, "optimiser='adamw': must be one of 'adam', 'sgd'"),
        ({"step_size": 0.0}, "step_size=0.0: must be a finite number above 0"),
        ({"min_context": 7}, "min_context=7: must be an integer in \\[1, 6\\]"),
        ({"tasks": disjoint_pairs(4, 0)}, "a cover of every"),
        ({"prompts": PromptConfig(n_context=7)}, "prompts.n_context=7: must be at most model.max_context = 6"),
        ({"prompts": PromptConfig(n_context=6, reading="exact")}, "prompts.reading='exact': must be \"independent\""),
    ],
)
def test_invalid_configs_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(GPT, **wrong)


@pytest.mark.parametrize("other", [STACK, changed(GPT, min_context=3), changed(GPT, model=GPTConfig(2, 1, 8, 6))])
def test_members_must_fit_together(other: DeepConfig) -> None:
    with pytest.raises(ConfigError, match="alike in sizes, lengths and optimiser"):
        train_deep([GPT, other])


def test_initial_sizes_need_not_be_alike() -> None:
    """An integer among them is no size of an array."""
    other = changed(STACK, model=StackConfig(2, 10, 1, 0.3, 0.3))
    assert train_deep([STACK, other]).step == 5


@BOTH
def test_cache_round_trip(config: DeepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained once; a spoilt file is trained again; any change in the configs is another ensemble."""
    runs: list[int] = []
    real = train_deep

    def spy(*arguments: Any) -> Ensemble:
        runs.append(1)
        return real(*arguments)

    monkeypatch.setattr(deep, "train_deep", spy)
    configs = [config, changed(config, seed=1)]
    first, second = trained_deep(configs, tmp_path), trained_deep(configs, tmp_path)
    assert len(runs) == 1
    assert_same(first, second)
    (file,) = tmp_path.glob("*.safetensors")
    data = file.read_bytes()
    file.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    assert_same(first, trained_deep(configs, tmp_path))
    assert len(runs) == 2
    trained_deep([config, changed(config, seed=2)], tmp_path)
    trained_deep([changed(c, min_context=3) for c in configs], tmp_path)
    assert len(runs) == 4 and len(list(tmp_path.glob("*.safetensors"))) == 3
