"""Learners on held-out prompts against closed forms and exact losses."""

from dataclasses import replace

import pytest
import torch

from icl_lib.mean_field.kernels import activation
from icl_lib.mean_field.learners import best_attention, held_out, least_squares
from icl_lib.mean_field.measure import InitConfig, TeacherConfig, teachers
from icl_lib.mean_field.moments import best_loss_n, model_moments, raw_inputs
from icl_lib.mean_field.prompts import PromptConfig
from icl_lib.mean_field.training import TrainConfig, Trainer
from icl_lib.mean_field.transformer import Transformer
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

D, K, SEED = 3, 2, 1000
CONFIG = TrainConfig(
    teacher=TeacherConfig("axes", K, D, K, 2.0, (1.0, 0.5), SEED),
    start=InitConfig("aligned", 24, D, K, 2.0, SEED),
    prompts=PromptConfig(n_context=20, n_query=4, noise=0.5),
    seed=SEED,
)
PROMPTS = 3000
ACT, X = activation(CONFIG.activation), torch.randn(2**16, D, generator=generator(0, "inputs"))
TEACHER = teachers([CONFIG.teacher], ACT.kernel())
MOMENTS = {
    "attention on f°": model_moments(ACT, TEACHER, TEACHER, X),
    "attention on x": model_moments(ACT, TEACHER, raw_inputs(D), X, of=activation("identity")),
}


def test_least_squares() -> None:
    gen = generator(0, "noise")
    h, v = (
        torch.randn(4, 9, 3, generator=gen, dtype=torch.float64),
        torch.randn(4, 3, 1, generator=gen, dtype=torch.float64),
    )
    y, query = (h @ v)[..., 0], torch.randn(4, 2, 3, generator=gen, dtype=torch.float64)
    torch.testing.assert_close(least_squares()(h, y, query), (query @ v)[..., 0])
    ridge = torch.linalg.solve(h.mT @ h + 0.7 * torch.eye(3, dtype=torch.float64), h.mT @ y[..., None])
    torch.testing.assert_close(least_squares(0.7)(h, y, query), (query @ ridge)[..., 0])
    few = least_squares()(h[:, :2], y[:, :2], h[:, :2])  # fewer contexts than features: still through all of them
    torch.testing.assert_close(few, y[:, :2])
    with pytest.raises(ConfigError, match="penalty=-1"):
        least_squares(-1)


def test_held_out_losses_are_the_exact_ones() -> None:
    """Attention on f° and on x; and Bayes is 1/2 tr(C Sigma) with the posterior covariance Sigma of v."""
    at_start = Trainer(CONFIG).initial().model
    table = held_out([CONFIG], at_start, n_prompts=PROMPTS).set_index("learner")
    exact = {name: float(best_loss_n(m, 20, 0.5)) for name, m in MOMENTS.items()} | {"zero": 0.75}
    for name in ("attention on f°", "attention on x", "zero"):
        assert abs(table["loss"][name] - exact[name]) < 4 * table["error"][name]
    assert abs(table["loss"]["model"] - Trainer(CONFIG).exact(at_start)[0]) < 4 * table["error"]["model"]
    source = Trainer(CONFIG).source
    f = source.features(source.draw(PROMPTS, "check").x).double()
    posterior = torch.linalg.inv(torch.eye(K, dtype=torch.float64) + f.mT @ f / 0.25)
    c = torch.tensor([1.0, 0.5], dtype=torch.float64)
    bayes = float((posterior.diagonal(dim1=1, dim2=2) * c).sum(1).mean()) / 2
    assert abs(table["loss"]["Bayes"] - bayes) < 4 * table["error"]["Bayes"]
    others = table.drop("Bayes")
    assert (others["loss"] > table["loss"]["Bayes"]).all()
    assert exact["attention on f°"] < exact["attention on x"] < exact["zero"]
    assert table["excess"]["attention on f°"] == 0 == table["excess_error"]["attention on f°"]
    assert abs(table["excess"]["zero"] - (exact["zero"] - exact["attention on f°"])) < 4 * table["excess_error"]["zero"]


def test_without_noise_f_is_enough() -> None:
    config = replace(CONFIG, prompts=PromptConfig(n_context=20, n_query=4))
    table = held_out([config], Trainer(config).initial().model, n_prompts=100).set_index("learner")
    assert table["loss"]["Bayes"] < 1e-9 and table["loss"]["least squares on f°"] < 1e-9
    other = held_out([config], Trainer(config).initial().model, PromptConfig("max", 20, 4), 100).set_index("learner")
    assert other["loss"]["Bayes"] > 0.01 and other["loss"]["zero"] > other["loss"]["least squares on f°"]


def test_prompts_are_those_held_out() -> None:
    """Of the stream "eval", on which nothing trains: the loss of predicting 0 is that of its labels."""
    table = held_out([CONFIG], Trainer(CONFIG).initial().model, n_prompts=60).set_index("learner")
    batches = [Trainer(CONFIG).source.draw(count, "eval", number) for number, count in enumerate((50, 10))]
    by_hand = torch.cat([batch.y_query for batch in batches]).double().square().mean() / 2
    assert table["loss"]["zero"] == pytest.approx(float(by_hand), rel=1e-9)


def test_members_and_attention_alone() -> None:
    """An ensemble of two is two ensembles of one; without an MLP the model at the best W is "attention on x"."""
    config = replace(CONFIG, mode="attention")
    best = best_attention(config, TEACHER, "x")[None]
    one = held_out([config], Transformer(raw_inputs(D), best), n_prompts=100)
    rows = one.set_index("learner")["loss"]
    assert rows["model"] == pytest.approx(rows["attention on x"], rel=1e-5)
    assert rows["least squares on h"] == pytest.approx(rows["least squares on x"], rel=1e-6)
    two = held_out([config, config], Transformer(raw_inputs(D, 2), torch.cat([best, best])), n_prompts=100)
    assert two["loss"][: len(one)].tolist() == two["loss"][len(one) :].tolist() == one["loss"].tolist()
    for call, message in (
        (lambda: held_out([config], Transformer(raw_inputs(D, 2), torch.cat([best, best]))), "configs=1"),
        (lambda: held_out([config], Transformer(raw_inputs(D), best), n_prompts=1), "n_prompts=1"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
