"""Training: one step by hand, ensembles against solo runs, resuming against running on."""

import dataclasses
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.softmax import fused
from icl_lib.softmax.descent import State
from icl_lib.softmax.model import ModelConfig, Params
from icl_lib.softmax.patterns import PatternConfig, draw_patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks, disjoint_pairs, uniform_cover
from icl_lib.softmax.training import CHUNK, TrainConfig, initial_state, train, train_steps
from icl_lib.validate import ConfigError

CYCLE = uniform_cover(4, 1, 0)
SMALL = TrainConfig(
    tasks=CYCLE,
    patterns=PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3),
    prompts=PromptConfig(alpha=0.8, n_context=6),
    model=ModelConfig(m=10),
    batch_size=16,
    step_size=5.0,
    n_steps=21,
)


def small(**changes: object) -> TrainConfig:
    """SMALL with some fields changed; alpha, beta and the like go to the config that holds them."""
    for part in ("patterns", "prompts", "model"):
        names = {f.name for f in dataclasses.fields(getattr(SMALL, part))}
        inner = {k: changes.pop(k) for k in list(changes) if k in names}
        if inner:
            changes[part] = dataclasses.replace(getattr(SMALL, part), **inner)
    return dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]


def equal(one: Params, two: Params) -> bool:
    return all(torch.equal(x, y) for x, y in zip(one, two, strict=True))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Prompts]:
    """Every batch on which a step is taken."""
    seen: list[Prompts] = []
    advance = fused.Learner.advance

    def spy(self: fused.Learner, prompts: Prompts, step: int, n_steps: int) -> Tensor:
        size = prompts.target.shape[1] // n_steps
        seen.extend(Prompts(*(part[:, i * size : (i + 1) * size] for part in prompts)) for i in range(n_steps))
        return advance(self, prompts, step, n_steps)

    monkeypatch.setattr(fused.Learner, "advance", spy)
    return seen


def test_one_step_by_hand() -> None:
    """l = 1, B = 1, m = 2: F = sum_r a_r ReLU(w_r . v) with v = W_V p_1, so with z F < 1 and 1_r = 1[w_r . v > 0]
    W_O moves by eta z a_r 1_r v, W_V by eta z (sum_r a_r 1_r w_r) p_1^T, and W_Q, W_K stay (one context)."""
    config = small(n_context=1, m=2, batch_size=1, n_steps=1, xi=0.3, a_scale=0.7, step_size=0.25)
    start = initial_state([config])
    prompts = sample_prompts([config.prompts], task_table([CYCLE]), [0], (4, 3), CHUNK, "train")
    basis = draw_patterns(config.patterns, 0).basis
    j, k = prompts.parts[0, 0, :, 0].tolist()
    p = basis[j] + float(prompts.kappa[0, 0, 0]) * basis[k] + float(prompts.label[0, 0, 0]) * basis[-1]
    z, (w, a, v) = float(prompts.target[0, 0]), (start.params.w_o[0], start.params.a[0], 0.2 * p)
    fires = (w @ v > 0).float()
    loss = 1 - z * float(a @ (w @ v).relu())
    assert fires.any() and loss > 0

    done = train([config])
    assert done.losses.tolist() == [[pytest.approx(loss, abs=1e-6)]]
    assert torch.allclose(done.params.w_o[0], w + 0.25 * z * (a * fires)[:, None] * v, atol=1e-6)
    step_v = 0.25 * z * torch.outer((a * fires) @ w, p)
    assert torch.allclose(done.params.w_v[0], start.params.w_v[0] + step_v, atol=1e-6)
    assert torch.allclose(done.params.w_qkv[:, :22], start.params.w_qkv[:, :22], atol=1e-7)
    assert torch.equal(done.params.a, start.params.a)


def autograd_step(config: TrainConfig, params: Params, prompts: Prompts) -> tuple[list[Tensor], float]:
    """theta - eta grad of the mean hinge loss for (W_Q, W_K, W_V, W_O), by autograd on dense prompts in float64."""
    patterns = draw_patterns(config.patterns, config.seed)
    tokens = prompts.dense(patterns._replace(basis=patterns.basis[None]))[0].double()  # (B, d, l + 1)
    blocks = [getattr(params, f"w_{x}")[0].double().clone().requires_grad_() for x in "qkvo"]
    w_q, w_k, w_v, w_o = blocks
    context, query = tokens[..., :-1], tokens[..., -1]
    attention = torch.einsum("adl,ad->al", w_k @ context, query @ w_q.T).softmax(-1)
    pooled = torch.einsum("al,adl->ad", attention, w_v @ context)
    output = (pooled @ w_o.T).relu() @ params.a[0].double()
    loss = (1 - prompts.target[0].double() * output).relu().mean()
    loss.backward()
    return [w.detach() - config.step_size * w.grad for w in blocks], loss.item()  # type: ignore[operator]


def test_steps_are_plain_sgd(batches: list[Prompts]) -> None:
    config, state = small(step_size=2.0, delta=0.5, xi=0.2, a_scale=0.3), None
    state = initial_state([config])
    for step in range(CHUNK + 2):
        before, state = state, train_steps([config], state, 1)
        expected, loss = autograd_step(config, before.params, batches[-1])
        assert state.step == step + 1 and state.losses.shape == (1, step + 1)
        assert state.losses[0, -1] == pytest.approx(loss, abs=1e-6)
        for name, w in zip("qkvo", expected, strict=True):
            assert torch.allclose(getattr(state.params, f"w_{name}")[0].double(), w, atol=5e-6), (name, step)
    assert len(batches) == CHUNK + 2


MIXED = [
    small(seed=0),
    small(seed=0, step_size=1.0),
    small(seed=1, alpha=0.3, kappa_max=0.0),
    small(seed=2, beta=3.0, tasks=all_tasks(4)),
    small(seed=3, tasks=disjoint_pairs(4, 0), require_cover=False),
    small(seed=4, train_attention=False),
    small(seed=5, delta=0.1, xi=0.3, a_scale=0.1),
]


@pytest.mark.parametrize("fixed_prompts", [None, 40])
@pytest.mark.parametrize("reading", ["independent", "exact"])
def test_member_equals_solo_run(fixed_prompts: int | None, reading: str) -> None:
    """Settings mixed in one ensemble (alpha, beta, step, tasks, frozen attention, start): each member as if alone.

    To the bit."""
    configs = [
        dataclasses.replace(c, prompts=dataclasses.replace(c.prompts, reading=reading), fixed_prompts=fixed_prompts)
        for c in MIXED
    ]
    together = train(configs)
    assert together.seeds == [c.seed for c in configs]
    for i, config in enumerate(configs):
        alone = train([config])
        for x, y in zip((*together.params, together.losses), (*alone.params, alone.losses), strict=True):
            assert torch.equal(x[i], y[0])
        assert torch.equal(together.patterns.basis[i], alone.patterns.basis[0])
    assert (together.params.w_o[0] - together.params.w_o[1]).abs().max() > 1e-3  # the step size did matter


@given(
    st.lists(st.integers(0, 13) | st.sampled_from([0, 8]), max_size=6),
    st.sampled_from([None, 7]),
    st.integers(1, 30) | st.just(8),
)
@settings(max_examples=15)
def test_resumed_run_ends_where_an_uninterrupted_one_does(cuts: list[int], fixed: int | None, every: int) -> None:
    """Bit for bit where all cuts lie between two chunks of prompts; elsewhere to rounding, of weights of size 0.1 to 1."""
    configs = [small(fixed_prompts=fixed, n_steps=13), small(fixed_prompts=fixed, n_steps=13, seed=1, alpha=0.2)]
    whole = train(configs, every=every)
    state = initial_state(configs)
    for cut in sorted(cuts):
        state = train_steps(configs, state, cut - state.step)
        assert state.step == cut and state.losses.shape == (2, cut)
    rest = train(configs, start=state)
    exact = every % CHUNK == 0 and all(cut % CHUNK == 0 for cut in cuts)
    for x, y in zip((*whole.params, whole.losses), (*rest.params, rest.losses), strict=True):
        assert torch.equal(x, y) if exact else torch.allclose(x, y, rtol=0, atol=1e-5)


def test_progress() -> None:
    states: list[State] = []
    done = train([SMALL], every=8, on_progress=states.append)
    assert [s.step for s in states] == [8, 16, 21]
    assert [s.losses.shape[1] for s in states] == [8, 16, 21]
    assert equal(states[-1].params, done.params)
    again = train([SMALL], start=states[0])
    assert equal(again.params, done.params)  # a saved state is not changed by going on from it
    assert states[0].losses.shape == (1, 8)


def test_weights_are_seen_after_each_step() -> None:
    seen: list[Params] = []
    start = initial_state([SMALL])
    end = train_steps([SMALL], start, 3, on_step=lambda params: seen.append(Params(*(w.clone() for w in params))))
    assert len(seen) == 3 and equal(seen[-1], end.params)
    for n in (1, 2):
        assert equal(seen[n - 1], train_steps([SMALL], start, n).params)
    assert equal(train_steps([SMALL], start, 21, on_step=lambda params: None).params, train([SMALL]).params)


def test_no_steps() -> None:
    config = small(n_steps=0)
    done, start = train([config]), initial_state([config])
    assert equal(done.params, start.params)
    assert done.losses.shape == start.losses.shape == (1, 0)


def test_frozen_attention() -> None:
    configs = [small(train_attention=False), small(), small(seed=1, train_attention=False)]
    start, done = initial_state(configs), train(configs)
    for i, frozen in enumerate((True, False, True)):
        for name in ("w_q", "w_k"):
            assert torch.equal(getattr(done.params, name)[i], getattr(start.params, name)[i]) == frozen
        for name in ("w_v", "w_o"):
            assert not torch.equal(getattr(done.params, name)[i], getattr(start.params, name)[i])
    assert torch.equal(done.params.a, start.params.a)


def fingerprints(batch: Prompts) -> list[tuple[float, ...]]:
    return [tuple(kappas) for kappas in batch.kappa[0].tolist()]


def test_fixed_dataset_uses_its_prompts_only(batches: list[Prompts]) -> None:
    """n prompts and no others, each as often as any (drawn with replacement: Poisson counts)."""
    n, config = 10, small(fixed_prompts=10, n_steps=60)
    train([config])
    counts = Counter(f for batch in batches for f in fingerprints(batch))
    assert len(counts) == n
    expected = 60 * 16 / n
    assert max(abs(c - expected) for c in counts.values()) < 4.5 * math.sqrt(expected)
    assert len(set(fingerprints(batches[0]))) > 1 and fingerprints(batches[0]) != fingerprints(batches[1])


def test_a_single_prompt(batches: list[Prompts]) -> None:
    train([small(fixed_prompts=1)])
    assert len({f for batch in batches for f in fingerprints(batch)}) == 1


def test_fresh_prompts_never_repeat(batches: list[Prompts]) -> None:
    train([SMALL])
    train([small(seed=1)])
    assert len(batches) == 42
    assert len({f for batch in batches for f in fingerprints(batch)}) == 42 * 16


def test_prompts_follow_the_training_rule(batches: list[Prompts]) -> None:
    train([small(alpha=1.0, tasks=((2, 0),), require_cover=False)])
    relevant = torch.cat([b.parts[0, :, 0].flatten() for b in batches])
    assert set(relevant.tolist()) == {0, 2}
    assert {tuple(x) for b in batches for x in zip(b.query_parts[0, :, 0].tolist(), b.target[0].tolist())} == {
        (2, 1),
        (0, -1),
    }


def test_it_learns() -> None:
    """The mean loss of the last steps is far below the start, for every seed."""
    losses = train([small(seed=s, alpha=1.0, n_steps=100, a_scale=0.05, m=20, batch_size=32) for s in range(4)]).losses
    assert losses[:, 0].tolist() == pytest.approx([1] * 4, abs=0.05)
    assert (losses[:, -20:].mean(1) < 0.2).all()


@pytest.mark.parametrize("step_size", [1e4, 1e30])
def test_divergence(step_size: float) -> None:
    """Named: the step, the step size, the member and its seed."""
    configs = [small(n_steps=200), small(step_size=step_size, seed=6, n_steps=200)]
    with pytest.raises(Diverged, match=r"^loss \S+ at step \d+ with step_size=") as error:
        train(configs)
    assert str(error.value).endswith(f"with step_size={step_size} (member 1, seed 6)")


def test_divergence_in_the_last_step() -> None:
    """No later loss would show it: the weights are looked at."""
    train([small(n_steps=1)])
    with pytest.raises(Diverged, match=r"loss nan at step 1 with step_size=1e\+38"):
        train([small(step_size=1e38, n_steps=1, a_scale=10.0, beta=50.0)])


def test_members_must_be_alike() -> None:
    for other in (small(m=12), small(batch_size=8), small(n_context=5), small(fixed_prompts=3), small(reading="exact")):
        with pytest.raises(ConfigError, match="configs='ensemble': must be alike in shape"):
            train_steps([SMALL, other], initial_state([SMALL]), 1)
    with pytest.raises(ConfigError, match="n_steps=.*: must be the same for all members"):
        train([SMALL, small(n_steps=5)])


def refused(field: str, value: object, **more: object) -> str:
    with pytest.raises(ConfigError) as error:
        small(**{field: value}, **more)
    message = str(error.value)
    assert message.startswith(f"{field}={value!r}: must be ")
    return message


@given(st.floats(max_value=0) | st.just(math.nan) | st.just(math.inf))
def test_step_size_above_zero(step_size: float) -> None:
    assert "a finite number above 0" in refused("step_size", step_size)


@given(st.integers(max_value=-1))
def test_negative_integers(value: int) -> None:
    for field in ("seed", "n_steps", "batch_size", "fixed_prompts"):
        assert "an integer >= " in refused(field, value)


@pytest.mark.parametrize("value", [2.0, "2", True, [2]])
@pytest.mark.parametrize("field", ["seed", "n_steps", "batch_size", "fixed_prompts"])
def test_integers_only(field: str, value: object) -> None:
    assert "an integer" in refused(field, value)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("batch_size", 0, "an integer >= 1"),
        ("fixed_prompts", 0, "an integer >= 1"),
        ("train_attention", "False", "True or False"),
        ("require_cover", 0, "True or False"),
        ("patterns", {"n_idr": 4}, "a PatternConfig"),
        ("prompts", None, "a PromptConfig"),
        ("model", 100, "a ModelConfig"),
        ("step_size", "5", "a finite number above 0"),
    ],
)
def test_refuses(field: str, value: object, allowed: str) -> None:
    assert allowed in refused(field, value)


def test_cover_unless_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"tasks=.*a cover of every \(pattern, label\) pair .*require_cover=False"):
        small(tasks=((0, 1),))
    with pytest.raises(ConfigError, match=r"tasks=\(1, 1\): must be pairs of two different patterns"):
        small(tasks=((1, 1),), require_cover=False)
    with pytest.raises(ConfigError, match="below n_idr = 4"):
        small(tasks=uniform_cover(5, 1, 0))
