"""Features read by attention: against the yardsticks of a run, closed cases, and refusals."""

import math
from dataclasses import replace

import pytest
import torch

from icl_lib.mean_field.flows import FlowConfig
from icl_lib.mean_field.kernels import activation
from icl_lib.mean_field.landscape import covariances, loss
from icl_lib.mean_field.learners import INPUTS, best_losses, centred_kernel, flow_features, softmax_losses
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, covariance, initial_particles, member
from icl_lib.mean_field.moments import best_loss_n, model_covariances, model_moments, raw_inputs
from icl_lib.mean_field.prompts import MixConfig, PromptConfig, Source, mixed_teachers
from icl_lib.mean_field.transformer import Transformer, predictions
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

D, K, N, SEEDS = 4, 2, 12, (1000, 1001)
G = TeacherConfig("nonlinear", 8, D, K, 3.0, (1.0,) * K)
X = torch.randn(INPUTS, D, generator=generator(1000, "oracle"))


def target(name: str, share: float) -> Particles:
    return mixed_teachers([MixConfig(share, replace(G, seed=s)) for s in SEEDS], activation(name).kernel())


def begin(n: int = N) -> Particles:
    return initial_particles([InitConfig("aligned", n, D, K, 2.0, s) for s in SEEDS])


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf"])
def test_centred_kernel(name: str) -> None:
    """L of h under it is L of (h, 1), for a target of mean 0; to the errors of a sum of three erfs."""
    f, act = target(name, 0.5), activation(name)
    centred = loss(covariances(centred_kernel(name), f, begin()))
    torch.testing.assert_close(centred, loss(model_covariances(act, f, begin())), atol=1e-3, rtol=0)
    with_mean = loss(model_covariances(act, f, begin(), constant=False))
    assert name != "sigmoid" or (centred - with_mean).abs().max() > 1e-3


def test_flow_features() -> None:
    f = target("sigmoid", 0.5)
    mu, history = flow_features("sigmoid", f, begin(), FlowConfig(dt=0.5, t_end=5.0, cap=0.3))
    ends = history[history["time"] == history.groupby("member")["time"].transform("max")]["loss"].to_numpy()
    before, after = (loss(model_covariances(activation("sigmoid"), f, m)) for m in (begin(), mu))
    assert (after < before).all()
    torch.testing.assert_close(torch.tensor(ends), after, atol=1e-3, rtol=0)


def test_best_losses_are_between_the_oracle_and_zero() -> None:
    act, f = activation("sigmoid"), target("sigmoid", 0.5)
    table = best_losses(act, f, {"model": begin()}, [20, math.inf], X).pivot_table("loss", "learner", "length")
    assert table[math.inf]["oracle"] == pytest.approx(0, abs=1e-9)
    assert table[20]["oracle"] < table[20]["model"] < K / 2
    assert (table[math.inf] < table[20]).all()
    moments = model_moments(act, f, begin(), X, True, act, covariance(act.kernel(), f, f))
    for length, expected in ((20, best_loss_n(moments, 20)), (math.inf, loss(moments.cov))):
        assert table[length]["model"] == pytest.approx(float(expected.mean()), rel=1e-9)  # the mean over members


def test_raw_inputs_at_the_two_ends() -> None:
    """On a linear target attention on x is the oracle, on a purely nonlinear one it predicts 0, at every n."""
    act = activation("sigmoid")
    for share in (0.0, 1.0):
        table = best_losses(act, target("sigmoid", share), {}, [5, 50], X)
        wide = table.pivot(index=["length", "member"], columns="learner", values="loss")
        zero = table.groupby(["length", "member"])["zero"].first()
        other = wide["oracle"] if share else zero
        assert (wide["raw inputs"] / other - 1).abs().max() < (0.03 if share else 1e-9)
        assert (wide["oracle"] < 0.9 * zero).all()


def test_softmax() -> None:
    """Scale 0 is the mean label; a chosen scale is the best on training prompts and is tested on others."""
    f, raw = target("sigmoid", 1.0), raw_inputs(D, 2)
    sources = [Source(PromptConfig(n_context=30), member(f, e), "sigmoid", s) for e, s in enumerate(SEEDS)]
    flat = softmax_losses("identity", "sigmoid", f, raw, sources, [0.0], 60)
    p = [sources[0].draw(count, "eval", number) for number, count in enumerate((50, 10))]
    by_hand = sum(float((b.y.mean(1, keepdim=True) - b.y_query).square().mean(1).sum()) for b in p) / 2 / 60
    assert float(flat.loss[0]) == pytest.approx(by_hand, rel=1e-5)
    found = softmax_losses("identity", "sigmoid", f, raw, sources, [0.0, 1.0, 100.0], 60)
    assert found.scale.tolist() == [1.0, 1.0] and (found.loss < flat.loss).all()
    w = model_covariances(activation("sigmoid"), f, raw, True, activation("identity")).optimum
    model = Transformer(member(raw, 0), w[:1])
    again = sum(
        float((predictions("identity", model, [b], softmax=True)[0] - b.y_query).square().mean(1).sum()) / 2 / 60
        for b in p
    )
    assert float(found.loss[0]) == pytest.approx(again, rel=1e-5)


def test_refuses() -> None:
    f = target("sigmoid", 0.0)
    for call, message in (
        (lambda: centred_kernel("relu"), "activation='relu'"),
        (lambda: best_losses(activation("sigmoid"), f, {"oracle": f}, [5], X), "models="),
        (lambda: softmax_losses("identity", "sigmoid", f, raw_inputs(D, 2), [], [1.0], 5), "sources=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
