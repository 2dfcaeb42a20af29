"""The GPT against its definition token by token, against the transformers package, and its written-out gradient."""

import math

import pytest
import torch
from torch import Tensor

from benchmarks.gpt2 import gpt2_model
from icl_lib.softmax import gpt, network
from icl_lib.softmax.gpt import GPTConfig, GPTParams, backward, forward, init_gpt
from icl_lib.softmax.patterns import PatternConfig, Patterns, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks
from icl_lib.validate import ConfigError

PATTERNS = PatternConfig(4, 3, 1.5, 8, 3)
Case = tuple[GPTParams, Patterns, Prompts]


def case(config: GPTConfig, members: int = 2, batch: int = 5, length: int = 6, double: bool = True) -> Case:
    """Weights far from the initial ones (biases and gains too), so that every term counts; drawn prompts."""
    gen = torch.Generator().manual_seed(0)
    starts = [init_gpt(config, PATTERNS, e) for e in range(members)]
    params = GPTParams(*(torch.cat(w) for w in zip(*starts, strict=True)))
    params = GPTParams(*(w + 0.3 * torch.randn(w.shape, generator=gen) for w in params))
    patterns = stack_patterns([draw_patterns(PATTERNS, e) for e in range(members)])
    rules, tasks = [PromptConfig(0.7, length)] * members, task_table([all_tasks(4)] * members)
    prompts = sample_prompts(rules, tasks, list(range(members)), (4, 3), batch, "gpt")
    if not double:
        return params, patterns, prompts
    return (
        GPTParams(*(w.double() for w in params)),
        patterns._replace(basis=patterns.basis.double()),
        Prompts(*(x.double() if x.is_floating_point() else x for x in prompts)),
    )


def norm(h: Tensor, gain_and_bias: Tensor) -> Tensor:
    gain, bias = gain_and_bias
    return gain * (h - h.mean()) / (h.var(correction=0) + 1e-5).sqrt() + bias


def one_prompt(p: GPTParams, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Output and the query's attention (L, h, T) of one member and prompt, token by token and head by head."""
    _, depth, _, _, heads, w_h = (1, *p.qkv.shape)
    stream = [column @ p.read_in + p.position[t] for t, column in enumerate(tokens.T)]
    seen = torch.zeros(depth, heads, len(stream), dtype=tokens.dtype)
    for i in range(depth):
        x = [norm(h, p.norm_1[i]) for h in stream]
        moved = []
        for t, h in enumerate(stream):
            out = h + p.out_bias[i]
            for j in range(heads):
                q, k, v = ([y @ p.qkv[i, :, c, j] + p.qkv_bias[i, c, j] for y in x[: t + 1]] for c in range(3))
                weights = torch.stack([q[t] @ key / math.sqrt(w_h) for key in k]).softmax(0)
                out = out + sum(a * value for a, value in zip(weights, v, strict=True)) @ p.out[i, j]
                seen[i, j, : t + 1] = weights  # the last token to write is the query
            moved.append(out)
        stream = []
        for h in moved:
            u = norm(h, p.norm_2[i]) @ p.up[i] + p.up_bias[i]
            u = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
            stream.append(h + u @ p.down[i] + p.down_bias[i])
    return norm(stream[-1], p.norm_out) @ p.read_out, seen


def naive(params: GPTParams, patterns: Patterns, prompts: Prompts) -> tuple[Tensor, Tensor]:
    tokens = prompts.dense(patterns)
    found = [[one_prompt(GPTParams(*(w[e] for w in params)), p) for p in some] for e, some in enumerate(tokens)]
    return tuple(torch.stack([torch.stack([r[i] for r in row]) for row in found]) for i in range(2))  # type: ignore[return-value]


CONFIGS = pytest.mark.parametrize(
    "config", [GPTConfig(3, 2, 8, 6), GPTConfig(1, 1, 4, 9), GPTConfig(2, 3, 6, 6)], ids=["3-2", "1-1", "2-3"]
)


@CONFIGS
def test_forward_and_gradient_against_the_definition(config: GPTConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs, attention, and the gradient of the hinge loss in every weight; slices of the batch change nothing."""
    params, patterns, prompts = case(config)
    leaves = GPTParams(*(w.clone().requires_grad_() for w in params))
    output, by_layer = naive(leaves, patterns, prompts)
    loss = (1 - prompts.target * output).relu().mean(1).sum()
    expected = torch.autograd.grad(loss, leaves)
    assert output.abs().max() > 0.1
    for size in (128, 2):
        monkeypatch.setattr(network, "SLICE", size)
        act, grad = backward(params, patterns, prompts)
        assert torch.allclose(act.output, output, atol=1e-10)
        assert torch.allclose(act.by_layer, by_layer, atol=1e-10)
        assert torch.allclose(act.attention, by_layer[..., :-1].mean((2, 3)), atol=1e-10)
        for name, found, slope in zip(GPTParams._fields, grad, expected, strict=True):
            assert torch.allclose(found, slope, atol=1e-10), name
        assert all(torch.equal(x, y) for x, y in zip(act, forward(params, patterns, prompts), strict=True))


def test_prompts_without_slope_are_left_out() -> None:
    """The gradient is linear in d_output, however many of its entries are 0; prompts beyond the margin count nothing."""
    params, patterns, prompts = case(GPTConfig(3, 2, 8, 6), batch=6)
    d_output = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _, whole = backward(params, patterns, prompts, d_output)
    parts = []
    for keep in ([0, 3], [1], [2, 4, 5]):
        some = torch.zeros_like(d_output)
        some[:, keep] = d_output[:, keep]
        parts.append(backward(params, patterns, prompts, some)[1])
    for name, x, *ys in zip(GPTParams._fields, whole, *parts, strict=True):
        assert torch.allclose(x, sum(ys), atol=1e-12), name  # type: ignore[arg-type]
    sure = params._replace(read_out=1e4 * params.read_out)
    right = prompts._replace(target=forward(sure, patterns, prompts).output.sign())
    act, none = backward(sure, patterns, right)
    assert act.output.abs().min() > 1 and not any(g.any() for g in none)


@pytest.mark.parametrize("config", [GPTConfig(), GPTConfig(2, 4, 32, 25)], ids=["published", "other"])
def test_equals_gpt2_of_transformers(config: GPTConfig) -> None:
    params, patterns, prompts = case(config, batch=10, length=20, double=False)
    act = forward(params, patterns, prompts)
    for e in range(2):
        with torch.no_grad():
            tokens = prompts.dense(patterns)[e].mT @ params.read_in[e]
            member = GPTParams(*(w[e : e + 1] for w in params))
            theirs = gpt2_model(member, attn_implementation="eager")(inputs_embeds=tokens, output_attentions=True)
        output = theirs.last_hidden_state[:, -1] @ params.read_out[e]
        attention = torch.stack([a[:, :, -1] for a in theirs.attentions], dim=1)
        assert (act.output[e] - output).abs().max() < 1e-5 * output.abs().max()
        assert (act.by_layer[e] - attention).abs().max() < 1e-5


def test_initialisation_is_that_of_gpt2() -> None:
    """Standard deviation .02, over sqrt(2 depth) for what writes to the residual stream; gains 1, biases 0."""
    p = init_gpt(GPTConfig(width=128, heads=4), PatternConfig(), 3)
    for name in ("read_in", "position", "qkv", "up", "read_out", "out", "down"):
        std = 0.02 / math.sqrt(6) if name in ("out", "down") else 0.02
        assert getattr(p, name).std().item() == pytest.approx(std, rel=0.2 if name == "read_out" else 0.05), name
        assert abs(getattr(p, name).mean().item()) < 0.3 * std
    for name in ("norm_1", "norm_2", "norm_out"):
        gain, bias = getattr(p, name).unbind(-2)
        assert (gain == 1).all() and not bias.any()
    assert not any(getattr(p, f"{name}_bias").any() for name in ("qkv", "out", "up", "down"))
    again, other = (init_gpt(GPTConfig(width=128, heads=4), PatternConfig(), seed) for seed in (3, 4))
    assert all(torch.equal(x, y) for x, y in zip(p, again, strict=True))
    assert not torch.equal(p.up, other.up)


def test_members_do_not_touch_each_other() -> None:
    params, patterns, prompts = case(GPTConfig(2, 2, 8, 6), members=3)
    together, grad = backward(params, patterns, prompts)
    for e in range(3):
        solo = GPTParams(*(w[e : e + 1] for w in params)), patterns._replace(basis=patterns.basis[e : e + 1])
        act, one = backward(*solo, Prompts(*(x[e : e + 1] for x in prompts)))
        assert all(torch.allclose(x[0], y[e], atol=1e-12) for x, y in zip(act, together, strict=True))
        assert all(torch.allclose(x[0], y[e], atol=1e-12) for x, y in zip(one, grad, strict=True))


def test_tokens_see_only_what_came_before() -> None:
    """In the way through the blocks, a changed context changes the stream at its place and later, and nowhere before."""
    config = GPTConfig(3, 2, 8, 6)
    params, patterns, prompts = case(config, members=1)
    seen: list[list[Tensor]] = []
    for label in (prompts.label, prompts.label * torch.tensor([1, 1, 1, -1, 1, 1])):
        tape: list[tuple[Tensor, ...]] = []
        maps = gpt._fold(params, patterns).of_member(0)
        codes = network.codes_of(Prompts(*(x[0] for x in prompts._replace(label=label))), len(maps.table))
        gpt.forward_pass(maps, codes, tape)
        seen.append([saved[0].view(5, 7, -1) for saved in tape[:5]])  # what goes into attention and MLP of each layer
    for one, two in zip(*seen, strict=True):
        if one.shape[2] == 8:  # all tokens; the MLP of the last layer sees the query alone
            assert torch.equal(one[:, :3], two[:, :3])
            assert not torch.equal(one[:, 3], two[:, 3])
    assert not torch.equal(seen[0][4][:, 5], seen[1][4][:, 5])  # later tokens do see it


def test_order_of_contexts_matters() -> None:
    """Unlike the one-layer learner: positions have embeddings."""
    params, patterns, prompts = case(GPTConfig(2, 2, 8, 6))
    turned = prompts._replace(parts=prompts.parts.flip(-1), kappa=prompts.kappa.flip(-1), label=prompts.label.flip(-1))
    one, two = forward(params, patterns, prompts).output, forward(params, patterns, turned).output
    assert (one - two).abs().min() > 1e-6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 0}, "depth=0: must be an integer >= 1"),
        ({"heads": 1.0}, "heads=1.0: must be an integer"),
        ({"width": 63}, "width=63: must be a multiple of heads = 2"),
        ({"max_context": -1}, "max_context=-1"),
    ],
)
def test_invalid_configs_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GPTConfig(**wrong)


def test_too_long_a_prompt_is_refused() -> None:
    params, patterns, prompts = case(GPTConfig(max_context=5))
    with pytest.raises(ConfigError, match="n_context=6: must be at most the network's max_context = 5"):
        forward(params, patterns, prompts)
