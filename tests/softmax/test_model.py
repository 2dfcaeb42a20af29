"""The learner against the paper's formula written out token by token, its gradient against two others, its symmetries."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from icl_lib.softmax.model import Activations, ModelConfig, Params, backward, forward, hinge, init_params, wrong
from icl_lib.softmax.patterns import PatternConfig, Patterns, build_patterns, draw_patterns, orthonormal, stack_patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks
from icl_lib.validate import ConfigError

WEIGHTS = ("w_q", "w_k", "w_v", "w_o")
Case = tuple[Params, Patterns, Prompts]


def one_output(w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor, a: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """F = a^T ReLU(W_O sum_i W_V p_i softmax_i((W_K p_i)^T W_Q p_query)) and the attention, for one prompt matrix."""
    *contexts, query = tokens.T
    attention = torch.stack([(w_k @ p) @ (w_q @ query) for p in contexts]).softmax(0)
    pooled = torch.zeros_like(query)
    for weight, p in zip(attention, contexts, strict=True):
        pooled = pooled + weight * (w_v @ p)
    return a @ (w_o @ pooled).relu(), attention


def naive(weights: dict[str, Tensor], a: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (E, B) and attention (E, B, l), prompt by prompt and token by token."""
    found = [[one_output(*(weights[w][e] for w in WEIGHTS), a[e], p) for p in of_e] for e, of_e in enumerate(tokens)]
    return torch.stack([torch.stack([f for f, _ in row]) for row in found]), torch.stack(
        [torch.stack([w for _, w in row]) for row in found]
    )


def to_float64(params: Params, patterns: Patterns, prompts: Prompts) -> Case:
    return (
        Params(*(t.double() for t in params)),
        patterns._replace(basis=patterns.basis.double()),
        Prompts(*(t.double() if t.is_floating_point() else t for t in prompts)),
    )


def case(
    seed: int = 0, members: int = 2, batch: int = 4, length: int = 5, m: int = 6, m1: int = 4, m2: int = 3,
    d_x: int = 8, d_y: int = 3, kappa_max: float = 0.8, reading: str = "independent", correlated: bool = False,
) -> Case:  # fmt: skip
    """Random full weights in float64 (no block is zero, so labels enter the scores) and drawn prompts."""
    gen = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64)

    if correlated:
        rows = [(normal(m1, d_x), normal(m2, d_x), normal(d_y)) for _ in range(members)]
        patterns = stack_patterns([build_patterns(*r) for r in rows])
    else:
        config = PatternConfig(m1, m2, 1.5, d_x, d_y)
        patterns = stack_patterns([draw_patterns(config, seed + e) for e in range(members)])
    d = d_x + d_y
    params = Params(normal(members, 3 * d, d) / d**0.5, normal(members, m, d) / d**0.5, normal(members, m))
    tasks = task_table([all_tasks(m1)] * members)
    rule = [PromptConfig(0.7, length, kappa_max, reading)] * members
    prompts = sample_prompts(rule, tasks, [seed + e for e in range(members)], (m1, m2), batch, "model")
    return to_float64(params, patterns, prompts)


def named(params: Params) -> dict[str, Tensor]:
    return {name: getattr(params, name) for name in WEIGHTS}


def replaced(params: Params, weights: dict[str, Tensor]) -> Params:
    return Params(torch.cat([weights[w] for w in WEIGHTS[:3]], dim=1), weights["w_o"], params.a)


SHAPES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "members": st.integers(1, 3),
        "batch": st.integers(1, 4),
        "length": st.integers(1, 6),
        "m": st.integers(1, 7),
        "m1": st.integers(3, 5),
        "m2": st.integers(1, 3),
        "d_x": st.integers(8, 10),
        "d_y": st.integers(1, 4),
        "kappa_max": st.sampled_from([0.0, 0.5, 3.0]),
        "reading": st.sampled_from(["independent", "exact"]),
        "correlated": st.booleans(),
    }
)


@given(SHAPES)
@settings(max_examples=40)
def test_forward_and_gradient_against_autograd(shape: dict) -> None:
    """Outputs, attention and the gradient of sum(c F) in every block, against autograd through the token loop."""
    params, patterns, prompts = case(**shape)
    weights = {name: w.clone().requires_grad_() for name, w in named(params).items()}
    output, attention = naive(weights, params.a, prompts.dense(patterns))
    d_output = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (d_output * output).sum().backward()

    act, grad = backward(params, patterns, prompts, d_output)
    assert torch.allclose(act.output, output, atol=1e-10, rtol=1e-10)
    assert torch.allclose(act.attention, attention, atol=1e-10, rtol=1e-10)
    assert all(torch.equal(x, y) for x, y in zip(act, forward(params, patterns, prompts), strict=True))
    for name, w in weights.items():
        assert torch.allclose(named(grad)[name], w.grad, atol=1e-10, rtol=1e-9), name  # type: ignore[arg-type]
    assert not grad.a.any()


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("block", WEIGHTS)
def test_gradient_of_the_hinge_loss_against_finite_differences(block: str, correlated: bool) -> None:
    """Central differences of the mean hinge loss in every entry of one block; some prompts are beyond the margin."""
    params, patterns, prompts = case(seed=3, members=2, batch=6, m=5, d_x=7, d_y=2, correlated=correlated)
    output = forward(params, patterns, prompts).output
    params = params._replace(a=params.a * 2 / output.abs().median())
    guess = torch.where(output >= 0, 1.0, -1.0).double()
    prompts = prompts._replace(target=guess * torch.tensor([1, 1, -1] * 2))
    act, grad = backward(params, patterns, prompts)
    beyond = prompts.target * act.output > 1
    assert beyond.any() and not beyond.all()
    weights, h = named(params), 1e-6

    def loss(w: Tensor) -> Tensor:
        moved = replaced(params, {**weights, block: w})
        return hinge(forward(moved, patterns, prompts), prompts).mean(1)  # (E,)

    w = weights[block]
    numeric = torch.zeros_like(w)
    for i in range(w.shape[1]):
        for j in range(w.shape[2]):
            step = torch.zeros_like(w)
            step[:, i, j] = h  # in every member at once: members do not touch each other
            numeric[:, i, j] = (loss(w + step) - loss(w - step)) / (2 * h)
    assert w.abs().max() > 0 and numeric.abs().max() > 1e-3
    assert torch.allclose(named(grad)[block], numeric, atol=1e-8, rtol=1e-6)


def test_float32_is_close_to_float64() -> None:
    """At the published sizes and the start of training, where all arithmetic is float32."""
    config, model = PatternConfig(), ModelConfig()
    patterns = stack_patterns([draw_patterns(config, 0)])
    params = init_params(model, config, 0)
    prompts = sample_prompts([PromptConfig()], task_table([all_tasks(6)]), [0], (6, 24), 32, "x")
    single, grad = backward(params, patterns, prompts)
    double, exact = backward(*to_float64(params, patterns, prompts))
    assert torch.allclose(single.output.double(), double.output, rtol=1e-4, atol=1e-7)
    for name in WEIGHTS:
        one, two = named(grad)[name].double(), named(exact)[name]
        assert (one - two).norm() < 1e-4 * two.norm(), name
    output, _ = naive(
        named(to_float64(params, patterns, prompts)[0]), params.a.double(), prompts.dense(patterns).double()
    )
    assert torch.allclose(double.output, output, rtol=1e-4, atol=1e-7)


CASES: list[dict] = [{}, {"correlated": True}, {"length": 1, "d_y": 1}, {"kappa_max": 3.0, "reading": "exact"}]
CASE = pytest.mark.parametrize("shape", CASES)


@CASE
def test_rotation(shape: dict) -> None:
    """Turning all patterns and the weights with them changes nothing; neither does turning what W_Q and W_K put out."""
    params, patterns, prompts = case(**shape)
    gen = torch.Generator().manual_seed(9)
    d_x, d = patterns.d_x, patterns.basis.shape[-1]
    turn = torch.block_diag(*(orthonormal(n, n, gen, torch.float64) for n in (d_x, d - d_x)))
    scores, values = (orthonormal(d, d, gen, torch.float64) for _ in range(2))
    w = named(params)
    turned = {
        "w_q": scores @ w["w_q"] @ turn.T,
        "w_k": scores @ w["w_k"] @ turn.T,
        "w_v": values @ w["w_v"] @ turn.T,
        "w_o": w["w_o"] @ values.T,
    }
    before = backward(params, patterns, prompts)
    after = backward(replaced(params, turned), patterns._replace(basis=patterns.basis @ turn.T), prompts)
    assert torch.allclose(before[0].output, after[0].output, atol=1e-10)
    g, h = named(before[1]), named(after[1])  # and the gradient turns along
    assert torch.allclose(scores @ g["w_q"] @ turn.T, h["w_q"], atol=1e-10)
    assert torch.allclose(values @ g["w_v"] @ turn.T, h["w_v"], atol=1e-10)
    assert torch.allclose(g["w_o"] @ values.T, h["w_o"], atol=1e-10)


@CASE
def test_order_of_contexts(shape: dict) -> None:
    params, patterns, prompts = case(**shape)
    order = torch.randperm(prompts.label.shape[-1], generator=torch.Generator().manual_seed(0))
    shuffled = prompts._replace(
        parts=prompts.parts[..., order], kappa=prompts.kappa[..., order], label=prompts.label[..., order]
    )
    (one, g), (two, h) = backward(params, patterns, prompts), backward(params, patterns, shuffled)
    assert torch.allclose(one.output, two.output, atol=1e-12)
    assert torch.allclose(one.attention[..., order], two.attention, atol=1e-12)
    assert all(torch.allclose(x, y, atol=1e-12) for x, y in zip(g, h, strict=True))


@CASE
def test_repeated_contexts(shape: dict) -> None:
    """Writing every context twice halves each weight and changes nothing else."""
    params, patterns, prompts = case(**shape)
    twice = prompts._replace(
        parts=prompts.parts.repeat(1, 1, 1, 2), kappa=prompts.kappa.repeat(1, 1, 2), label=prompts.label.repeat(1, 1, 2)
    )
    one, two = forward(params, patterns, prompts), forward(params, patterns, twice)
    assert torch.allclose(one.output, two.output, atol=1e-12)
    assert torch.allclose(one.attention.repeat(1, 1, 2) / 2, two.attention, atol=1e-12)


@given(st.floats(0.01, 100), st.sampled_from(CASES))
@settings(max_examples=20)
def test_scale_moved_from_neurons_to_outputs(factor: float, shape: dict) -> None:
    """ReLU is positively homogeneous: W_O c and a / c give the same F, also neuron by neuron."""
    params, patterns, prompts = case(**shape)
    output = forward(params, patterns, prompts).output
    c = torch.linspace(factor, 2 * factor, params.a.shape[1], dtype=torch.float64)
    for scale in (torch.full_like(c, factor), c):
        moved = params._replace(w_o=params.w_o * scale[:, None], a=params.a / scale)
        assert torch.allclose(forward(moved, patterns, prompts).output, output, rtol=1e-10, atol=1e-12)


def test_members_do_not_touch_each_other() -> None:
    params, patterns, prompts = case(members=3)
    together, grad = backward(params, patterns, prompts)
    for e in range(3):
        solo = Params(*(t[e : e + 1] for t in params)), patterns._replace(basis=patterns.basis[e : e + 1])
        act, one = backward(*solo, Prompts(*(t[e : e + 1] for t in prompts)))
        assert torch.allclose(act.output[0], together.output[e], atol=1e-12)
        assert all(torch.allclose(x[0], y[e], atol=1e-12) for x, y in zip(one, grad, strict=True))


def test_activations_are_what_they_say() -> None:
    params, patterns, prompts = case()
    act = forward(params, patterns, prompts)
    assert torch.allclose(act.attention.sum(-1), torch.ones(()).double())
    tokens = prompts.dense(patterns)[..., :-1]
    token = (tokens * act.attention[:, :, None]).sum(-1)
    assert torch.allclose(act.pooled @ patterns.basis, token, atol=1e-12)  # pooled holds pattern coordinates
    neurons = torch.einsum("emd,edc,ebc->ebm", params.w_o, params.w_v, token)
    assert torch.allclose(act.hidden, neurons.relu(), atol=1e-12)


def outputs(values: list[float], targets: list[float]) -> tuple[Activations, Prompts]:
    _, _, prompts = case(members=1, batch=len(values))
    nothing = torch.zeros(1, len(values), 1).double()
    act = Activations(nothing, nothing, nothing, torch.tensor([values]).double())
    return act, prompts._replace(target=torch.tensor([targets]).double())


def test_hinge_and_error() -> None:
    pair = outputs([0.3, -0.3, 1.0, 2.0, -2.0, 0.0, math.nan], [1, 1, 1, 1, 1, -1, 1])
    assert hinge(*pair)[0, :-1].tolist() == pytest.approx([0.7, 1.3, 0, 0, 3, 1])
    assert wrong(*pair)[0].tolist() == [0, 1, 0, 0, 1, 0.5, 1]  # a tie counts one half, NaN is wrong


def test_gradient_stops_at_the_margin() -> None:
    """-z/B below the margin, 0 beyond it: the default d_output is the gradient of the mean hinge loss."""
    params, patterns, prompts = case(batch=8)
    act, default = backward(params, patterns, prompts)
    inside = (prompts.target * act.output < 1).double()
    _, given_ = backward(params, patterns, prompts, -prompts.target * inside / 8)
    assert all(torch.allclose(x, y, atol=1e-14) for x, y in zip(default, given_, strict=True))
    sure = params._replace(a=1e6 * params.a)
    right = prompts._replace(target=forward(sure, patterns, prompts).output.sign())
    fires = right.target != 0  # with all neurons off F is 0, and no side of it is right
    assert fires.any() and hinge(forward(sure, patterns, right), right)[fires].max() == 0
    assert not any(g.any() for g in backward(sure, patterns, right)[1])


@pytest.mark.parametrize(("m", "d_x", "d_y"), [(100, 30, 30), (2, 30, 1), (40, 35, 7)])
def test_start(m: int, d_x: int, d_y: int) -> None:
    """W_V = delta I; W_Q and W_K are delta on the first d_x diagonal entries; half of a is positive."""
    params = init_params(ModelConfig(m, 0.2, 0.05, 0.03), PatternConfig(d_x=d_x, d_y=d_y), 4)
    on_inputs = torch.diag(torch.tensor([0.2] * d_x + [0.0] * d_y))
    assert torch.equal(params.w_q[0], on_inputs) and torch.equal(params.w_k[0], on_inputs)
    assert torch.equal(params.w_v[0], 0.2 * torch.eye(d_x + d_y))
    assert params.a.unique().tolist() == pytest.approx([-0.03, 0.03]) and abs(float(params.a.sum())) < 1e-6
    assert params.w_o.shape == (1, m, d_x + d_y)


def test_start_is_gaussian_and_by_seed() -> None:
    config, model = PatternConfig(), ModelConfig(m=10, xi=0.5)
    starts = [init_params(model, config, seed) for seed in range(40)]
    w = torch.stack([p.w_o for p in starts]).flatten().double() / 0.5
    n = w.numel()
    assert abs(w.mean()) < 4.5 / n**0.5 and abs(w.var() - 1) < 4.5 * (2 / n) ** 0.5
    assert abs((w**4).mean() - 3) < 4.5 * (96 / n) ** 0.5
    assert len({tuple(p.w_o[0, 0].tolist()) for p in starts}) == 40
    positive = torch.stack([p.a[0] > 0 for p in starts]).double().mean(0)  # every neuron can have either sign
    assert ((positive - 0.5).abs() < 4.5 * 0.5 / 40**0.5).all() and positive.std() > 0
    assert all(torch.equal(x, y) for x, y in zip(starts[3], init_params(model, config, 3), strict=True))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"m": 0}, "m=0: must be an integer >= 2"),
        ({"m": 7}, "m=7: must be even"),
        ({"m": 8.0}, "m=8.0: must be an integer"),
        ({"delta": 0}, "delta=0: must be a finite number in"),
        ({"xi": -1.0}, "xi=-1.0: must be a finite number in"),
        ({"xi": math.nan}, "xi=nan: must be"),
        ({"a_scale": math.inf}, "a_scale=inf: must be"),
        ({"a_scale": "0.1"}, "a_scale='0.1': must be"),
    ],
)
def test_refuses(bad: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**bad)


def test_shapes_are_checked_while_tests_run() -> None:
    """The hook in conftest.py is at work: a wrong shape is refused where the signature names it."""
    params, patterns, prompts = case()
    wrong_shape: Callable = backward
    with pytest.raises(Exception, match="d_output"):
        wrong_shape(params, patterns, prompts, torch.zeros(2, 4, 1).double())
