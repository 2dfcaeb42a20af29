"""Training: all modes learn, static gradients are the flow's, runs resume, stop and diverge as they say."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from icl_lib.errors import Diverged
from icl_lib.mean_field.changes import BirthDeath, Modification, modify
from icl_lib.mean_field.kernels import Sampled, activation, gaussian_inputs
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.moments import empirical_moments
from icl_lib.mean_field.prompts import PromptConfig, Prompts
from icl_lib.mean_field.training import MODES, State, TrainConfig, Trainer, judged, train, train_one
from icl_lib.mean_field.transformer import Transformer, step
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

D, K, SEED = 3, 2, 1000
BASE = TrainConfig(
    teacher=TeacherConfig("axes", K, D, K, 2.0, (1.0, 0.5), SEED),
    start=InitConfig("aligned", 24, D, K, 2.0, SEED),
    prompts=PromptConfig(n_context=100, n_query=16),
    seed=SEED,
    n_prompts=400,
    batch=40,
    max_epochs=6,
)
NONLINEAR = TeacherConfig("nonlinear", 8, D, K, 3.0, (1.0, 0.5), SEED)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "joint_plain"])
def test_learns(mode: str) -> None:
    """A target without a linear part, from 0.75, that of predicting 0 and the best without an MLP, to below half of it."""
    config = replace(BASE, mode=mode, teacher=NONLINEAR, max_epochs=30, plateau=30, patience=30)
    state, history = train_one(config)
    last = history.iloc[-1]
    if mode == "softmax":
        assert history["expected"].isna().all() and last["loss"] < 0.5 and last["best_w"] < 0.5
        return
    assert history["expected"].iloc[0] > 0.74 and (history["best_w"] <= history["expected"] + 1e-9).all()
    assert (history["limit"] <= history["best_w"] + 1e-9).all() and not state.shortened
    if mode == "attention":
        assert 0.74 < last["expected"] < 1.02 * last["best_w"] and state.time == 0
    else:
        assert last["expected"] < 0.35 and state.time > 0
    if mode == "static_finite":
        torch.testing.assert_close(torch.tensor(last["expected"]), torch.tensor(last["best_w"]))


def test_plain_steps_on_w() -> None:
    """One step is the share w_rate of 1 / (s lambda_max(B~)^2) along the batch's gradient; W(0) a multiple of 1 below B~^{-1}."""
    config = replace(BASE, mode="joint_plain", w_rate=0.5, batch=400)
    trainer = Trainer(config)
    begun = trainer.initial()
    w, b = begun.model.attention, trainer.covariances(begun.model.mu).b
    torch.testing.assert_close(w, 0.3 * torch.eye(K + 1).double()[None] / torch.linalg.eigvalsh(b).max())
    assert torch.linalg.eigvalsh(torch.linalg.inv(b) - w / 0.3).min() > -1e-9
    found = step("sigmoid", begun.model, [trainer.source.draw(400, "prompts", 0)])
    top = float(torch.linalg.eigvalsh((found.b + found.b.mT) / 2).max())
    after = trainer.stepped(begun, 0)[0].model.attention
    torch.testing.assert_close(after - w, 0.5 / (trainer.power * top**2) * found.attention)


def test_plain_steps_hardly_move_where_preconditioned_ones_learn() -> None:
    """From 0.75, the loss of predicting 0: the constant feature is hundreds of times stiffer than the others."""
    config = replace(BASE, teacher=NONLINEAR, max_epochs=30, plateau=30, patience=30)
    plain, joint = (train_one(replace(config, mode=mode))[1].iloc[-1] for mode in ("joint_plain", "joint"))
    assert plain["expected"] > 0.74 and joint["expected"] < 0.35


def test_static_velocity_is_that_of_the_flow() -> None:
    """Prompts whose contexts and queries are all inputs of one empirical law, and v = sqrt(k0) e_j in turn: exact."""
    act, x = activation("sigmoid"), gaussian_inputs(300, D, generator(0, "inputs"))
    trainer = Trainer(BASE)
    mu, teacher, kernel = trainer.start_particles(), trainer.teacher, Sampled(torch.sigmoid, x)
    m = empirical_moments(torch.sigmoid, teacher, mu, x)
    f = act.function(x @ teacher.w[0].T) @ (teacher.a * teacher.p[..., None])[0]
    y = (K**0.5 * f).T.contiguous()
    both = x.expand(K, -1, -1).contiguous()
    found = step("sigmoid", Transformer(mu, m.cov.optimum), [Prompts(both, y, both, y)])
    expected = velocity(kernel, teacher, mu)
    torch.testing.assert_close(found.a, expected.a)
    torch.testing.assert_close(found.w, expected.w)
    torch.testing.assert_close(found.losses.mean(1), expected.loss)
    torch.testing.assert_close(found.b, m.cov.b)


def test_resumed_and_repeated_runs() -> None:
    """Epoch by epoch as in one go, with births; members of an ensemble are solo runs; `fresh` counts from epoch 2 on."""
    births = Modification(BirthDeath(0.05, BASE.start, 20.0), "isotropic", 0.05, 3.0, 20.0)
    config = replace(BASE, mode="joint", modification=births, max_epochs=2)
    state, whole = train_one(config)
    first, rows = train_one(config, n_epochs=1)
    second, more = train_one(config, start=first)
    for one, other in zip(
        (*state.model.mu, state.model.attention), (*second.model.mu, second.model.attention), strict=True
    ):
        assert torch.equal(one, other)
    assert state[1:] == second[1:]
    pd.testing.assert_frame_equal(whole, pd.concat([rows, more], ignore_index=True))
    both = train([replace(config, seed=7), config])
    assert torch.equal(both.model.attention[1], state.model.attention[0]) and both.converged == (False, False)
    assert list(both.history["member"].unique()) == [0, 1] and list(both.history["seed"].unique()) == [7, SEED]
    fresh = train_one(replace(config, fresh=True))[1]
    same = fresh["epoch"] == 0
    pd.testing.assert_frame_equal(fresh[same], whole[same])
    assert (fresh["loss"] != whole["loss"])[~same].all()


def test_when_training_ends() -> None:
    trainer = Trainer(replace(BASE, patience=2, plateau=5, n_shorten=1, improvement=0.1))
    state: State = trainer.initial()
    seen = []
    for mean in (0.6, 0.57, 0.56, 0.4, 0.4, 0.38, 0.37):
        state = judged(trainer.config, state, mean, 0.75)
        seen.append((state.shortened, state.stale, state.converged))
    assert seen == [
        (0, 0, False),
        (0, 1, False),
        (1, 0, False),
        (1, 0, False),
        (1, 1, False),
        (1, 2, True),
        (1, 3, True),
    ]
    waiting = trainer.initial()
    for _ in range(1 + 4):
        waiting = judged(trainer.config, waiting, 0.74, 0.75)
    assert (waiting.shortened, waiting.stale) == (0, 4), "on the first plateau it waits for `plateau` epochs"
    assert judged(trainer.config, waiting, 0.74, 0.75).shortened == 1
    done, history = train_one(
        replace(BASE, mode="attention", patience=1, plateau=1, n_shorten=0, improvement=0.5, max_epochs=50)
    )
    assert done.converged and done.epoch < 50 and history["epoch"].max() == done.epoch - 1
    cut, _ = train_one(replace(BASE, mode="attention", max_epochs=1))
    assert not cut.converged and cut.epoch == 1


def test_modifications() -> None:
    trainer = Trainer(BASE)
    mu, kernel = trainer.start_particles(), trainer.activation.kernel()

    def after(config: Modification, time: float = 0.0, h: float = 1.0) -> torch.Tensor:
        return modify(config, kernel, trainer.teacher, mu, SEED, 3, time, h).w

    for kind in ("isotropic", "gaussian_process"):
        moved = Modification(None, kind, 0.1, 2.0, 10.0)
        assert torch.equal(after(moved, 0.0), mu.w) and torch.equal(after(moved, 9.5), mu.w)
        assert 0.04 < (after(moved, 1.0) - mu.w).square().sum(-1).mean().sqrt() < 0.08
    born = Modification(BirthDeath(1e9, replace(BASE.start, seed=5)))
    assert (after(born) != mu.w).all() and torch.equal(after(Modification(BirthDeath(0.0))), mu.w)
    assert torch.equal(after(born, h=0.0), mu.w)


def test_divergence() -> None:
    with pytest.raises(Diverged, match=r"at step \d+ with dt=0.5, cap=0.3, w_rate=200.0 \(joint, seed 1000\)"):
        train_one(replace(BASE, mode="joint", w_rate=200.0))
    with pytest.raises(Diverged, match=r"at step \d+ with dt=1000.0, cap=1000.0"):
        train_one(replace(BASE, mode="joint", dt=1e3, cap=1e3))


def test_bad_values() -> None:
    for change, message in (
        ({"mode": "both"}, "mode='both'"),
        ({"batch": 30}, "batch=30: must be a divisor of n_prompts = 400"),
        ({"dt": 0.0}, "dt=0.0"),
        ({"w_rate": -1.0}, "w_rate=-1.0"),
        ({"shorten": 2.0}, "shorten=2.0"),
        ({"activation": "swish"}, "activation='swish'"),
        ({"start": InitConfig(d=5)}, "start.d=5"),
        ({"max_epochs": 0}, "max_epochs=0"),
        ({"mode": "attention", "modification": Modification()}, "modification="),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(BASE, **change)
    for call, message in (
        (lambda: Modification(budget=-1.0), "budget=-1.0"),
        (lambda: Modification(perturbation="some"), "perturbation='some'"),
        (lambda: Modification(every=0.0), "every=0.0"),
        (lambda: train([]), "configs=0"),
        (lambda: train_one(BASE, every=0), "every=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
