"""Training without noise: its mean is that of training steps, its limits are the flow's, and what shrinks at a saddle."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from icl_lib.errors import Diverged
from icl_lib.mean_field.flows import FlowConfig, flow, joint_velocity, start
from icl_lib.mean_field.kernels import Erf, Sampled
from icl_lib.mean_field.landscape import covariances
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.mean_field.moments import empirical_moments, loss_n
from icl_lib.mean_field.prompts import PromptConfig, Source
from icl_lib.mean_field.training import TrainConfig, Trainer
from icl_lib.mean_field.transformer import Transformer, step
from icl_lib.validate import ConfigError
from studies.bridge import curves, excess_velocity, falls, farthest, mean_motion, mirrored_inputs

D, K, N, SEED = 3, 2, 12, 1000
PARTS = ("a", "w", "attention")
TEACHER_CONFIG = TeacherConfig("nonlinear", 7, D, K, 2.0, (1.0, 0.5), SEED)
START = InitConfig("aligned", N, D, K, 1.5, SEED)
TEACHER, MU = teachers([TEACHER_CONFIG], Erf()), initial_particles([START])
W = torch.tensor([[[3.0, 0.5], [-1.0, 4.0]]], dtype=torch.float64)


def test_slope_is_that_of_the_exact_finite_loss() -> None:
    """Over an empirical law, flow at W + excess / n is minus the gradient of L^n, here by differences."""
    x, n, eps = mirrored_inputs(D, 40), 7, 1e-5
    found = dict(zip(PARTS, joint_velocity(Sampled(torch.erf, x), TEACHER, MU, W), strict=True))
    more = dict(zip(PARTS, excess_velocity(torch.erf, TEACHER, MU, W, x), strict=True))

    def at(mu: Particles, w: torch.Tensor = W) -> float:
        return float(loss_n(empirical_moments(torch.erf, TEACHER, mu, x), w, n))

    for part, (i, j) in (("a", (2, 1)), ("w", (5, 2))):
        shift = torch.zeros_like(getattr(MU, part))
        shift[0, i, j] = eps
        ends = [at(MU._replace(**{part: getattr(MU, part) + sign * shift})) for sign in (1, -1)]
        both = found[part][0, i, j] + more[part][0, i, j] / n
        assert -(ends[0] - ends[1]) / (2 * eps) * N == pytest.approx(float(both), rel=1e-5)
    shift = torch.zeros_like(W)
    shift[0, 0, 1] = eps
    both = found["attention"][0, 0, 1] + more["attention"][0, 0, 1] / n
    assert -(at(MU, W + shift) - at(MU, W - shift)) / (2 * eps) == pytest.approx(float(both), rel=1e-5)


def test_mean_of_training_steps() -> None:
    """40 000 prompts of 5 contexts: their mean step is the mean motion, and far from the flow's own velocity."""
    n = 5
    source = Source(PromptConfig(n_context=n, n_query=4), TEACHER, "erf", SEED, torch.float64)
    batches = [step("erf", Transformer(MU, W), [source.draw(4000, "prompts", i)]) for i in range(10)]
    flow_part = joint_velocity(Erf(), TEACHER, MU, W)
    more = excess_velocity(torch.erf, TEACHER, MU, W, mirrored_inputs(D, 20_000))
    for name, of_flow, of_n in zip(PARTS, flow_part, more, strict=True):
        sampled = torch.stack([getattr(b, name) for b in batches]).mean(0)
        whole = of_flow + of_n / n
        assert (sampled - whole).norm() < 0.1 * whole.norm()
        assert (sampled - of_flow).norm() > 0.5 * whole.norm()


def test_infinite_prompts_are_the_flow() -> None:
    _, history = flow(Erf(), TEACHER, start(MU), FlowConfig("euler", 0.05, 1.0, every=0.25))
    for mode in ("static", "static_finite"):
        found = mean_motion("erf", TEACHER, MU, mode, math.inf, 0.05, 1.0, 0.25)
        np.testing.assert_allclose(found["loss"], history["loss"], rtol=1e-9)
    joint = mean_motion("erf", TEACHER, MU, "joint", math.inf, 0.05, 1.0, 0.25)
    assert (joint["loss"] - history["loss"]).abs().max() > 1e-3


@pytest.mark.parametrize("mode", ["static", "joint"])
def test_one_step_is_the_trainer_s_mean_step(mode: str) -> None:
    """Large batches, so that the noise of one step is small beside the step; constant among the trainer's features."""
    config = TrainConfig(
        mode, TEACHER_CONFIG, START, "erf", PromptConfig(n_context=10, n_query=4), seed=SEED, n_prompts=40_000, batch=40_000,
        fresh=True, dt=0.2, cap=1e9, max_epochs=1, n_shorten=0,
    )  # fmt: skip
    trainer = Trainer(config)
    after, _ = trainer.stepped(trainer.initial(), 0)
    found = mean_motion("erf", TEACHER, MU, mode, 10, 0.2, 0.2, 0.2, n_inputs=20_000)
    volume = torch.logdet(covariances(Erf(), TEACHER, after.model.mu).b)
    moved = found["volume"].iloc[1] - found["volume"].iloc[0]
    assert abs(moved) > 0.01
    assert float(volume) - found["volume"].iloc[0] == pytest.approx(moved, rel=0.1)


def test_size_falls_as_derived() -> None:
    """d E|a|^2 / dt = -8 E_n / n with W = W_mu, as E_n has degree 4 in a at fixed W; 0 with W = W_n, as min_W L^n has no scale."""
    n, dt, x = 20, 1e-4, mirrored_inputs(D, 20_000)
    m = empirical_moments(torch.erf, TEACHER, MU, x)
    cov = covariances(Erf(), TEACHER, MU)
    excess = float(n * (loss_n(m, cov.optimum, n) - loss_n(m, cov.optimum, math.inf)))
    size = {
        m: mean_motion("erf", TEACHER, MU, m, n, dt, dt, dt, n_inputs=20_000)["size"]
        for m in ("static", "static_finite")
    }
    rates = {m: (found[1] - found[0]) / dt for m, found in size.items()}
    assert rates["static"] == pytest.approx(-8 * excess / n, rel=0.03)
    assert abs(rates["static_finite"]) < 0.02 * abs(rates["static"])


def test_curves_falls_and_distances() -> None:
    history = pd.DataFrame(
        {"member": [0, 0, 0, 1, 1, 1], "time": [0, 1, 2] * 2, "loss": [2.0, 1.0, 0.2, 1.0, 1.0, 0.9]}
    )
    table = curves(history)
    assert table[0].tolist() == [1.0, 0.5, 0.1]
    assert falls(table, 0.3).tolist() == [pytest.approx(1.5), math.inf] and falls(table, 1.5).tolist() == [0, 0]
    assert farthest(table, table[[1, 0]].set_axis([0, 1], axis=1)).tolist() == [pytest.approx(0.8)] * 2
    with pytest.raises(ConfigError, match="times"):
        farthest(table, table.iloc[:1])


@pytest.mark.parametrize(
    ("name", "change"),
    [("name", {"name": "sigmoid"}), ("mode", {"mode": "softmax"}), ("every", {"every": 0.03}), ("n", {"n": 0}), ("dt", {"dt": 0})],
)  # fmt: skip
def test_refuses(name: str, change: dict) -> None:
    good = {"name": "erf", "mode": "static", "n": 10, "dt": 0.02, "t_end": 0.1, "every": 0.04}
    with pytest.raises(ConfigError, match=name):
        mean_motion(teacher=TEACHER, mu=MU, **(good | change))


def test_says_when_it_diverged() -> None:
    with pytest.raises(Diverged, match=r"dt=1000000\.0"):
        mean_motion("erf", TEACHER, MU, "joint", 10, 1e6, 1e8, 1e6)
