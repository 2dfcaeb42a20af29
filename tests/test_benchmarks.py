"""Every alternative does the work that ours does, to its stated tolerance; nothing here is timed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import classical, epoch, evaluation, gpt2, learners, particles, sampling, training
from benchmarks.case import Case, Different, Size, checked, counted, relative
from icl_lib.mean_field.measure import Particles
from icl_lib.softmax import fused
from icl_lib.softmax.deep import initial_params
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.model import ModelConfig, forward
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import sample_prompts, task_table
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, batches, initial_state, train_steps

CONFIG = TrainConfig(tasks=uniform_cover(6, 3, 4), seed=4, batch_size=32)
N_STEPS = 20


def gpt(size: Size) -> list[Case]:
    return gpt2.against("GPT-2", size, initial_params(gpt2.configs_of(1)))


@pytest.mark.parametrize(
    ("cases", "size", "alternatives"),
    [
        (training.steps_on_given_prompts, Size("models", 2, 0.25), 6),
        (training.steps_on_given_prompts, Size("l", 5, 0.25), 6),
        (training.whole, Size("models", 10, 1), 2),
        (sampling.at, Size("prompts", 64, 0.1), 2),
        (gpt, Size("batch", 16, 0.125), 1),
        (evaluation.attention, Size("prompts", 500, 0.125), 1),
        (evaluation.pruning, Size("rates", 4, 0.25), 1),
        (particles.velocities, Size("N", 62, 0.125), 5),
        (particles.kernels, Size("N", 62, 0.125), 2),
        (particles.hessians, Size("N", 16, 0.125), 4),
        (epoch.at, Size("n", 125, 0.125), 3),
        (classical.at, Size("l", 20, 1), 5),
    ],
)
def test_alternatives_do_the_same_work(cases: Callable[[Size], list[Case]], size: Size, alternatives: int) -> None:
    """Losses, gradients, answers or means, as each hot path states it; ``checked`` is what runs before the timing."""
    found = [case for case in cases(size) if case.differs]
    assert len(found) == alternatives
    for case in found:
        checked(case)  # raises ``Different``


def test_a_step_that_is_one_per_cent_longer_is_seen() -> None:
    """The tolerance of training steps is tight enough."""
    given = training.Given(training.configs_of(Size("models", 2, 0.25)), 4)
    batches = [learners.stack(members) for members in given.dense]
    for make in (learners.vmap_run, learners.jax_run):
        wrong = make(given.params, batches, 1.01 * given.step_size)
        assert training.difference(given.runs()["ours"](), wrong()) > 5 * training.TOLERANCE


def test_what_differs_is_not_timed() -> None:
    case = Case("path", "theirs", Size("n", 1, 1), "s per call", lambda: None, 1, lambda: 0.5, 0.1)
    with pytest.raises(Different, match=r"path, theirs.*0.5, allowed 0.1"):
        checked(case)
    assert [row[5:7] for row in checked(case._replace(tolerance=1))] == [(0.5, "difference"), (1, "tolerance")]
    with pytest.raises(Different):
        checked(case._replace(differs=lambda: float("nan")))


def test_sampling_errors_fall_as_extrapolated() -> None:
    """Sixteen times the inputs, a quarter of the error of grad_w: what times at 1 % rest on."""
    teacher, mu = particles.setting(100)
    exact = particles.gradient(teacher, mu)

    def error(n: int) -> float:
        draws = [relative(exact, particles.autograd_sampled(teacher, mu, n, seed)) ** 2 for seed in range(4)]
        return (sum(draws) / 4) ** 0.5

    assert error(32_000) / error(2_000) == pytest.approx(0.25, rel=0.3)


def test_hessian_alternatives_agree_off_the_random_start() -> None:
    """Unequal masses, which the random start has not."""
    teacher, mu = particles.setting(12)
    p = torch.linspace(1, 2, 12, dtype=torch.float64)[None]
    mu = Particles(mu.a, mu.w, p / p.sum())
    products = particles.products_of(teacher, mu, particles.direction(mu))
    ours = products.pop("ours")()
    for theirs in products.values():
        torch.testing.assert_close(theirs(), ours, rtol=1e-9, atol=1e-12)


def test_plain_sampler_has_the_law_and_a_wrong_one_has_not() -> None:
    config = training.configs_of()[0]
    assert sampling.differ(config) < sampling.TOLERANCE
    wrong = sampling.frequencies(sampling.plain(training.configs_of()[1], 20_000), config)
    assert float((wrong - sampling.frequencies(sampling.plain(config, 20_000), config)).abs().max()) > 0.1


def test_module_has_our_outputs() -> None:
    """With copied weights, before and after training: outputs of either sign, equal to 1e-5."""
    patterns = stacked_patterns([CONFIG])
    codes = sample_prompts([CONFIG.prompts], task_table([CONFIG.tasks]), [9], patterns.counts, 200, "check")
    tokens = learners.dense(codes, patterns._replace(basis=patterns.basis[0]))
    torch.testing.assert_close(tokens.context.mT, codes.dense(patterns)[0, :, :, :-1])
    torch.testing.assert_close(tokens.query, codes.dense(patterns)[0, :, :, -1])
    start = initial_state([CONFIG])
    for state in (start, train_steps([CONFIG], start, 100)):
        theirs = learners.ModuleLearner(state.params)(tokens)
        ours = forward(state.params, patterns, codes).output[0]
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    assert ours.min() < -0.5 < 0.5 < ours.max()


def test_module_trains_as_we_do() -> None:
    """Same prompts, same gradients, same step: the losses stay together."""
    start = initial_state([CONFIG])
    learner = learners.ModuleLearner(start.params)
    losses = learners.train_module(learner, learners.batches(CONFIG), CONFIG.step_size, N_STEPS)
    state = train_steps([CONFIG], start, N_STEPS)
    torch.testing.assert_close(losses, state.losses[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(learner.attention.in_proj_weight.detach(), state.params.w_qkv[0], rtol=0, atol=1e-4)


def test_counted_products_are_those_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled loops, run as Python, ask for the products that are counted; sizes that need no padding."""
    config = replace(CONFIG, patterns=PatternConfig(6, 9, 2.0, 20, 2), model=ModelConfig(m=32), batch_size=7)
    asked = []

    def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        asked.append((*a.shape, b.shape[1]))
        out[: len(a)] += a @ b

    given = [config], initial_state([config]).params, stacked_patterns([config])
    prompts, compiled, learner = batches([config])(0, 1), fused.Learner(*given), fused.Learner(*given)
    losses = compiled.advance(prompts, 0, 1)
    for name, loop in vars(fused).copy().items():
        if hasattr(loop, "py_func"):
            monkeypatch.setattr(fused, name, product if name == "times" else loop.py_func)
    torch.testing.assert_close(learner.advance(prompts, 0, 1), losses)
    assert sorted(asked) == sorted(training.products(config))


def test_epoch_flops_are_those_of_the_module() -> None:
    """Forward and backward of the module's products on inputs; the first layer needs no gradient in its inputs."""
    trainer = epoch.Trainer(epoch.config(n=100, width=50))
    net, prompts = epoch.Module(trainer.initial().model), trainer.source.draw(4, "prompts")
    found = counted(lambda: epoch.gradient(net, prompts))
    tokens = 4 * (100 + epoch.QUERIES)
    ours = tokens * (4 * epoch.D * 50 + 2 * 50)  # without the teacher, which draws the labels
    assert ours < found < ours + tokens * 6 * 50 * epoch.K + 1e5
    assert epoch.flops(100, 50) == epoch.EPOCH * (
        ours / 4 + (100 + epoch.QUERIES) * 2 * epoch.TEACHER * (epoch.D + epoch.K)
    )
