"""Attention layer by layer: against a direct computation, and with one layer against the one-layer model."""

import dataclasses

import numpy as np
import pytest
import torch

import icl_lib.softmax.evaluation as evaluate_module
from icl_lib.softmax import gpt, stack
from icl_lib.softmax.deep import DeepConfig, train_deep, untrained
from icl_lib.softmax.evaluation import evaluate_params
from icl_lib.softmax.gpt import GPTConfig
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.tasks import uniform_cover, unseen
from studies import L9
from studies.L9 import (
    layer_masses,
    layer_params,
    mass_history,
    neuron_changes,
    signed_start,
    signed_untrained,
    train_signed,
)

CONFIG = DeepConfig(
    tasks=uniform_cover(4, 1, 0),
    patterns=PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3),
    prompts=PromptConfig(n_context=6),
    model=StackConfig(depth=2, m=10),
    optimiser="sgd",
    step_size=0.5,
    batch_size=16,
    n_steps=6,
    min_context=6,
)
CONFIGS = [dataclasses.replace(CONFIG, seed=seed) for seed in (0, 3)]
UNSEEN = [unseen(CONFIG.tasks, 4)] * 2
TEST = PromptConfig(alpha=0.6, n_context=5)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(L9, "BLOCK", 100)
    monkeypatch.setattr(evaluate_module, "BLOCK", 100)


@pytest.mark.parametrize("kind", ["stack", "gpt"])
def test_masses_of_every_head(kind: str) -> None:
    configs, module = CONFIGS, stack
    if kind == "gpt":
        sizes = GPTConfig(depth=2, heads=2, width=8, max_context=6)
        configs, module = [dataclasses.replace(c, model=sizes, optimiser="adam", step_size=1e-3) for c in CONFIGS], gpt
    ensemble = train_deep(configs)
    found = layer_masses(ensemble, UNSEEN, TEST, 150)
    drawn = [sample_prompts([TEST] * 2, task_table(UNSEEN), [0, 3], (4, 3), 100, "eval", i) for i in range(2)]
    for (member, layer, head), part in found.groupby(["member", "layer", "head"]):
        shares = []
        for prompts in drawn:
            weights = module.forward(ensemble.params, ensemble.patterns, prompts).by_layer[
                member, :, layer - 1, head - 1
            ]
            for b in range(100):
                same = prompts.parts[member, b, 0] == prompts.query_parts[member, b, 0]
                shares.append((weights[b, :5][same].sum() / weights[b, :5].sum()).item())
        assert part["mass"].item() == pytest.approx(np.mean(shares), rel=1e-4)
    assert found.shape == (2 * 2 * (2 if kind == "gpt" else 1), 5) and found["seed"].unique().tolist() == [0, 3]


def test_a_stack_of_one_layer_is_the_one_layer_model() -> None:
    configs = [dataclasses.replace(c, model=StackConfig(depth=1, m=10)) for c in CONFIGS]
    ensemble = train_deep(configs)
    one = layer_params(ensemble.params, 1, ensemble.patterns)
    found = evaluate_params(one, ensemble.patterns, [0, 3], UNSEEN, [TEST] * 2, 200)
    as_stack = evaluate_params(
        ensemble.params, ensemble.patterns, [0, 3], UNSEEN, [TEST] * 2, 200, forward=stack.forward
    )
    for column in ("error", "hinge", "attention", "margin"):
        np.testing.assert_allclose(found[column], as_stack[column], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer_masses(ensemble, UNSEEN, TEST, 200)["mass"], found["attention"], rtol=1e-4)


def test_history_starts_untrained_and_ends_trained() -> None:
    history, ensemble = mass_history(CONFIGS, UNSEEN, TEST, 3)
    assert history["step"].unique().tolist() == [0, 3, 6]
    assert mass_history(CONFIGS, UNSEEN, TEST, 4)[0]["step"].unique().tolist() == [0, 4, 6]  # the last step in any case
    for step, state in ((0, untrained(CONFIGS)), (6, train_deep(CONFIGS))):
        alone = layer_masses(state, UNSEEN, TEST)
        np.testing.assert_allclose(history[history["step"] == step]["mass"], alone["mass"], rtol=1e-5)
    assert torch.equal(ensemble.params.w_o, train_deep(CONFIGS).params.w_o)


def test_some_members_are_an_ensemble() -> None:
    second = train_deep(CONFIGS).members(slice(1, 2))
    alone = train_deep(CONFIGS[1:])
    assert second.configs == alone.configs and second.seeds == [3]
    for mine, theirs in zip(
        (*second.params, second.patterns.basis, second.losses),
        (*alone.params, alone.patterns.basis, alone.losses),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_every_layer_has_its_own_fixed_signs() -> None:
    """Layer 1 writes one number, a^T ReLU(W_O v), along q; U is not trained, all other maps are."""
    start = signed_start(CONFIGS)
    label = signed_untrained(CONFIGS).patterns.basis[:, -1]
    for e in range(2):
        assert torch.linalg.matrix_rank(start.u[e, 0]) == 1
        a = label[e] @ start.u[e, 0]
        torch.testing.assert_close(start.u[e, 0], torch.outer(label[e], a))
        torch.testing.assert_close(a.abs(), start.a[e].abs())
        assert (a > 0).sum() == 5
    assert not torch.equal(start.u[0], start.u[1])
    trained = train_signed(CONFIGS).params
    assert torch.equal(trained.u, start.u) and torch.equal(trained.a, start.a)
    assert not torch.equal(trained.qkv[:, 0], start.qkv[:, 0]) and not torch.equal(trained.w_o[:, 0], start.w_o[:, 0])


def test_fixed_signs_take_the_steps_of_gradient_descent() -> None:
    """Two steps by hand with U held fixed; it is not the run in which U is trained."""
    configs = [dataclasses.replace(c, n_steps=2, model=StackConfig(2, 10, 0.5, 0.3, 0.3)) for c in CONFIGS]
    now, patterns = signed_start(configs), signed_untrained(configs).patterns
    for step in range(2):
        rules = [c.prompts for c in configs]
        tasks = task_table([c.tasks for c in configs])
        drawn = sample_prompts(rules, tasks, [0, 3], (4, 3), 16, "train", step)
        _, grad = stack.backward(now, patterns, drawn)
        now = now._replace(qkv=now.qkv - 0.5 * grad.qkv, w_o=now.w_o - 0.5 * grad.w_o)
    found = train_signed(configs).params
    for name in ("qkv", "w_o", "u"):
        torch.testing.assert_close(getattr(found, name), getattr(now, name), rtol=1e-5, atol=1e-6)
    free = train_deep(configs, start=signed_start(configs)).params
    assert not torch.allclose(free.qkv, found.qkv, atol=1e-6)


def test_history_of_fixed_signs() -> None:
    history, ensemble = mass_history(CONFIGS, UNSEEN, TEST, 3, signed=True)
    for step, state in ((0, signed_untrained(CONFIGS)), (6, train_signed(CONFIGS))):
        alone = layer_masses(state, UNSEEN, TEST)
        np.testing.assert_allclose(history[history["step"] == step]["mass"], alone["mass"], rtol=1e-5)
    signs = layer_params(ensemble.params, 1, ensemble.patterns).a
    torch.testing.assert_close(signs.abs(), ensemble.params.a.abs())
    assert torch.equal(layer_params(ensemble.params, 2, ensemble.patterns).a, ensemble.params.a)


def test_turns_and_growth() -> None:
    """Rows that were put where they are: turned by a known angle, three times as long, nothing along irrelevant patterns."""
    start = layer_params(signed_start(CONFIGS), 1, signed_untrained(CONFIGS).patterns)
    patterns = signed_untrained(CONFIGS).patterns
    one = torch.eye(start.w_v.shape[-1]).expand_as(start.w_v)
    first = start._replace(w_qkv=torch.cat([start.w_q, start.w_k, one], 1))
    mean, aside = (torch.nn.functional.normalize(p.mean(1), dim=-1) for p in (patterns.relevant, patterns.irrelevant))
    rows = torch.zeros_like(first.w_o)
    rows[..., :8] = 0.1 * aside[:, None]
    before = first._replace(w_o=rows)
    rows = rows.clone()
    rows[:, :5, :8] = 0.1 * (aside + 3 * mean)[:, None]
    found = neuron_changes(before._replace(w_o=rows), before, patterns)
    angle = np.arctan2(3, 1)
    np.testing.assert_allclose(found["turned"], angle / 2, atol=1e-3)
    np.testing.assert_allclose(found["aside"], -angle / 2, atol=1e-3)
    np.testing.assert_allclose(found["grown"], 0.5)
    np.testing.assert_allclose(found["idle"], 0.0)
