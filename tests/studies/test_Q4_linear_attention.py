"""Linear attention: against dense tokens and autograd, and what its homogeneity says about lengths and scales."""

import pytest
import torch

from icl_lib.softmax.assumptions import Assumptions, train_under
from icl_lib.softmax.model import ModelConfig, Params, hinge, init_params
from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig
from studies.Q4 import backward, backward_mean, forward, forward_mean, score_means

PATTERNS = stack_patterns([draw_patterns(PatternConfig(), seed=s) for s in range(2)])


def weights(dtype: torch.dtype = torch.float32) -> Params:
    """Weights that are not symmetric, for two members."""
    members = [init_params(ModelConfig(m=10, xi=0.3), PatternConfig(), seed=s) for s in range(2)]
    gen = torch.Generator().manual_seed(0)
    parts = [torch.cat(p) for p in zip(*members, strict=True)]
    parts[0] = parts[0] + 0.1 * torch.randn(parts[0].shape, generator=gen)
    return Params(*(p.to(dtype) for p in parts))


def prompts(n: int = 30, l: int = 7) -> Prompts:
    return sample_prompts([PromptConfig(0.8, l)] * 2, task_table([all_tasks(6)] * 2), [0, 1], (6, 24), n, "check")


def dense(params: Params, basis: torch.Tensor, p: Prompts, of_mean: bool = False) -> torch.Tensor:
    """The formula on dense tokens."""
    tokens = p.dense(PATTERNS._replace(basis=basis))
    contexts, query = tokens[..., :-1], tokens[..., -1]
    l = contexts.shape[-1]
    scores = ((params.w_k[:, None] @ contexts) * (params.w_q[:, None] @ query[..., None])).sum(2)
    values = params.w_v[:, None] @ contexts
    pooled = values.mean(-1) if of_mean else (values * scores[:, :, None]).sum(-1) / l
    return ((params.w_o[:, None] @ pooled[..., None])[..., 0].relu() * params.a[:, None]).sum(-1)


@pytest.mark.parametrize("of_mean", [False, True])
def test_it_is_the_formula_and_its_gradient_is_autograds(of_mean: bool) -> None:
    params, p, basis = weights(torch.float64), prompts(), PATTERNS.basis.double()
    p = Prompts(*(part.double() if part.is_floating_point() else part for part in p))
    frame = PATTERNS._replace(basis=basis)
    act, grad = (backward_mean if of_mean else backward)(params, frame, p)
    free = Params(*(part.clone().requires_grad_() for part in params))
    out = dense(free, basis, p, of_mean)
    assert torch.allclose(act.output, out, atol=1e-10)
    (1 - p.target * out).relu().mean(1).sum().backward()
    assert torch.allclose(grad.w_qkv, free.w_qkv.grad, atol=1e-10)
    assert torch.allclose(grad.w_o, free.w_o.grad, atol=1e-10)
    assert float(hinge(act, p).mean()) > 0 and float(grad.w_o.abs().max()) > 1e-4
    assert not grad.a.any()
    assert of_mean == (not grad.w_q.any())


def test_adding_up_scales_the_output_by_the_length_and_keeps_its_sign() -> None:
    params, p = weights(), prompts(l=11)
    averaged, added = (forward(params, PATTERNS, p, added).output for added in (False, True))
    assert torch.allclose(11 * averaged, added, rtol=1e-4)
    assert torch.equal(averaged.sign(), added.sign())


def test_a_context_twice_changes_nothing_if_all_are() -> None:
    """Averaged scores do not see the length of a prompt whose contexts are repeated."""
    params, p = weights(), prompts()
    twice = p._replace(
        parts=torch.cat([p.parts, p.parts], -1), kappa=p.kappa.repeat(1, 1, 2), label=p.label.repeat(1, 1, 2)
    )
    for f in (forward, forward_mean):
        assert torch.allclose(f(params, PATTERNS, p).output, f(params, PATTERNS, twice).output, atol=1e-5)


def test_training_sets_other_patterns_against_the_own_one() -> None:
    """Over a uniform cover the growth of a query's scores adds up to about nothing (derived in Q4)."""
    config = TrainConfig(uniform_cover(6, 3, 0), n_steps=300)
    before = score_means(
        train_under([config], [Assumptions()], backward_mean).params,
        stack_patterns([draw_patterns(PatternConfig(), 0)]),
    )
    ensemble = train_under([config], [Assumptions()], backward)
    after = score_means(ensemble.params, ensemble.patterns)
    assert before["own"][0] == pytest.approx(0.16, abs=1e-4) and before["other"][0] == pytest.approx(0, abs=1e-5)
    assert after["own"][0] > 5 and 5 * after["other"][0] == pytest.approx(-(after["own"][0] - 0.16), rel=0.05)
