"""The residual stack against its formula token by token; one layer of it is Paper L's learner."""

import pytest
import torch
from torch import Tensor

from icl_lib.softmax import model, network
from icl_lib.softmax.patterns import PatternConfig, Patterns, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.stack import StackConfig, StackParams, backward, forward, init_stack
from icl_lib.softmax.tasks import all_tasks
from icl_lib.validate import ConfigError

PATTERNS = PatternConfig(4, 3, 1.5, 8, 3)
Case = tuple[StackParams, Patterns, Prompts]


def case(depth: int = 3, members: int = 2, batch: int = 4, length: int = 5, m: int = 6) -> Case:
    """Random full weights in float64 and drawn prompts."""
    gen, d = torch.Generator().manual_seed(0), PATTERNS.d_x + PATTERNS.d_y

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64) / d**0.5

    patterns = stack_patterns([draw_patterns(PATTERNS, e) for e in range(members)])
    rules, tasks = [PromptConfig(0.7, length)] * members, task_table([all_tasks(4)] * members)
    prompts = sample_prompts(rules, tasks, list(range(members)), (4, 3), batch, "stack")
    shapes = ((depth, 3, d, d), (depth, m, d), (depth - 1, d, m), (m,))
    return (
        StackParams(*(normal(members, *shape) for shape in shapes)),  # type: ignore[call-arg]
        patterns._replace(basis=patterns.basis.double()),
        Prompts(*(x.double() if x.is_floating_point() else x for x in prompts)),
    )


def one_prompt(p: StackParams, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, attention (L, 1, l) and neurons (L, m) of the query, for one member and prompt, token by token."""
    stream, weights, neurons = list(tokens.T), [], []
    depth = len(p.w_o)
    for s in range(depth):
        w_q, w_k, w_v = p.qkv[s]
        moved = []
        for h in stream:
            attention = torch.stack([(w_k @ other) @ (w_q @ h) for other in stream[:-1]]).softmax(0)
            v = sum((a * (w_v @ other) for a, other in zip(attention, stream[:-1], strict=True)), torch.zeros_like(h))
            hidden = (p.w_o[s] @ v).relu()
            moved.append(h + v + p.u[s] @ hidden if s < depth - 1 else h)
        weights.append(attention[None])  # of the last token, the query
        neurons.append(hidden)
        stream = moved
    return p.a @ hidden, torch.stack(weights), torch.stack(neurons)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_forward_and_gradient_against_the_formula(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    params, patterns, prompts = case(depth)
    leaves = StackParams(*(w.clone().requires_grad_() for w in params))  # type: ignore[call-arg]
    tokens = prompts.dense(patterns)
    found = [
        [one_prompt(StackParams(*(w[e] for w in leaves)), p) for p in some]  # type: ignore[call-arg]
        for e, some in enumerate(tokens)
    ]
    output, by_layer, neurons = (torch.stack([torch.stack([r[i] for r in row]) for row in found]) for i in range(3))
    expected = torch.autograd.grad((1 - prompts.target * output).relu().mean(1).sum(), leaves[:3], allow_unused=True)
    for size in (128, 3):
        monkeypatch.setattr(network, "SLICE", size)
        act, grad = backward(params, patterns, prompts)
        assert torch.allclose(act.output, output, atol=1e-12)
        assert torch.allclose(act.by_layer, by_layer, atol=1e-12)
        assert torch.allclose(act.neurons, neurons, atol=1e-12)
        assert torch.allclose(act.attention, by_layer[:, :, :, 0].mean(2), atol=1e-12)
        for name, x, y in zip(StackParams._fields, grad, expected, strict=False):
            assert y is None or torch.allclose(x, y, atol=1e-12), name
        assert not grad.a.any() and grad.qkv.abs().max() > 1e-4
        assert not any(part.requires_grad for part in act)


def test_one_layer_is_the_learner_of_the_paper() -> None:
    params, patterns, prompts = case(depth=1)
    one = model.Params(params.qkv[:, 0].flatten(1, 2), params.w_o[:, 0], params.a)
    expected, found = model.forward(one, patterns, prompts), forward(params, patterns, prompts)
    assert torch.allclose(found.output, expected.output, atol=1e-12)
    assert torch.allclose(found.attention, expected.attention, atol=1e-12)
    assert torch.allclose(found.neurons[:, :, 0], expected.hidden, atol=1e-12)


def test_members_do_not_touch_each_other() -> None:
    params, patterns, prompts = case(members=3)
    together, grad = backward(params, patterns, prompts)
    for e in range(3):
        solo = StackParams(*(w[e : e + 1] for w in params))  # type: ignore[call-arg]
        act, one = backward(
            solo, patterns._replace(basis=patterns.basis[e : e + 1]), Prompts(*(x[e : e + 1] for x in prompts))
        )
        assert all(torch.allclose(x[0], y[e], atol=1e-12) for x, y in zip(act, together, strict=True))
        assert all(torch.allclose(x[0], y[e], atol=1e-12) for x, y in zip(one, grad, strict=True))


def test_order_of_contexts() -> None:
    params, patterns, prompts = case()
    order = torch.randperm(5, generator=torch.Generator().manual_seed(0))
    shuffled = prompts._replace(
        parts=prompts.parts[..., order], kappa=prompts.kappa[..., order], label=prompts.label[..., order]
    )
    one, two = forward(params, patterns, prompts), forward(params, patterns, shuffled)
    assert torch.allclose(one.output, two.output, atol=1e-12)
    assert torch.allclose(one.by_layer[..., order], two.by_layer, atol=1e-12)


def test_initial_weights() -> None:
    config = StackConfig(depth=2, m=40, delta=0.3, xi=0.05, a_scale=0.5)
    p = init_stack(config, PATTERNS, 1)
    d = 11
    for layer in p.qkv[0]:
        assert torch.equal(layer[2], 0.3 * torch.eye(d))
        for block in layer[:2]:
            assert torch.equal(block, torch.diag(torch.tensor([0.3] * 8 + [0.0] * 3)))
    assert p.w_o.std().item() == pytest.approx(0.05, rel=0.1) and p.u.std().item() == pytest.approx(0.05, rel=0.1)
    assert p.a.abs().unique().tolist() == [0.5] and p.a.sum() == 0
    assert torch.equal(p.w_o, init_stack(config, PATTERNS, 1).w_o)
    assert not torch.equal(p.w_o, init_stack(config, PATTERNS, 2).w_o)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 0}, "depth=0: must be an integer >= 1"),
        ({"m": 7}, "m=7: must be even"),
        ({"delta": 0.0}, "delta=0.0: must be a finite number in"),
        ({"xi": float("nan")}, "xi=nan"),
        ({"a_scale": -1}, "a_scale=-1"),
    ],
)
def test_invalid_configs_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StackConfig(**wrong)
