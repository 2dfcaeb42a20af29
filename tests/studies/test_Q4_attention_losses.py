"""Linear and softmax attention on the same features: closed forms, held-out prompts, and what only softmax can do."""

import pytest
import torch

from icl_lib.mean_field.kernels import activation, network
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.mean_field.moments import model_covariances, raw_inputs
from icl_lib.mean_field.prompts import MixConfig, PromptConfig, Source, mixed_teachers
from icl_lib.validate import ConfigError
from studies.Q4 import attention_losses

SEEDS, SIGMOID = [1000, 1001], activation("sigmoid")


def target(d: int, k: int, share: float) -> Particles:
    of = [TeacherConfig("nonlinear", d + k + 5, d, k, 6.0, (1.0,) * k, s) for s in SEEDS]
    return mixed_teachers([MixConfig(share, c) for c in of], SIGMOID.kernel())


def losses(teacher: Particles, mu: Particles, scales: list[float], n_context: int, n: int = 100, **of: str):
    table = attention_losses("sigmoid", teacher, mu, SEEDS, scales, n_context, n, **of)
    return {name: part.set_index("seed") for name, part in table.groupby("attention")}


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.5])
def test_linear_attention_on_a_linear_target_in_closed_form(scale: float) -> None:
    """f = U x with orthonormal rows, h = (x, 1): over the loss of predicting 0 it is (1 - c)^2 + c^2 (d + 2) / n."""
    d, n = 5, 50
    found = losses(target(d, 2, 1.0), raw_inputs(d, 2), [scale], n, 1, of="identity")["linear"]
    assert (found["scale"] == scale).all()
    assert found["relative"].tolist() == pytest.approx([(1 - scale) ** 2 + scale**2 * (d + 2) / n] * 2, rel=0.03)


def test_the_best_scale_is_taken_and_the_loss_is_that_of_whole_prompts() -> None:
    d, k, n = 4, 2, 40
    f, mu = target(d, k, 0.5), initial_particles([InitConfig("aligned", 30, d, k, 2.0, s) for s in SEEDS])
    each = [losses(f, mu, [c], n, 1)["linear"]["loss"] for c in (0.3, 0.6, 1.5)]
    best = losses(f, mu, [0.3, 0.6, 1.5], n, 1)["linear"]
    assert best["loss"].tolist() == [min(values) for values in zip(*each, strict=True)]
    w = best["scale"].to_numpy()[:, None, None] * model_covariances(SIGMOID, f, mu, True).optimum.numpy()
    for e, seed in enumerate(SEEDS):
        one = Particles(*(part[e : e + 1] for part in f))
        p = Source(PromptConfig(n_context=n, n_query=16), one, "sigmoid", seed).draw(1500, "check")
        weighted = (mu.a * mu.p[..., None])[e]
        h, h_query = (network(SIGMOID, weighted, mu.w[e], x) for x in (p.x, p.x_query))
        h, h_query = (torch.cat([part, torch.ones_like(part[..., :1])], -1) for part in (h, h_query))
        g = (p.y[..., None] * h).mean(1)
        predicted = torch.einsum("pi,ij,pqj->pq", g, torch.tensor(w[e], dtype=g.dtype), h_query)
        by_hand = float((predicted - p.y_query).square().mean()) / 2
        assert best["loss"].iloc[e] == pytest.approx(by_hand, rel=0.06)
        zero = float(p.y_query.square().mean()) / 2
        assert best["relative"].iloc[e] == pytest.approx(by_hand / zero, rel=0.1)


def test_only_softmax_learns_a_nonlinear_target_on_raw_inputs() -> None:
    teacher = teachers([TeacherConfig("nonlinear", 8, 2, 1, 6.0, (1.0,), s) for s in SEEDS], SIGMOID.kernel())
    found = losses(teacher, raw_inputs(2, 2), [0.1, 3.0], 300, 50, of="identity")
    assert (found["linear"]["relative"] >= 1).all() and (found["linear"]["scale"] == 0.1).all()
    assert (found["softmax"]["relative"] < 0.95).all() and (found["softmax"]["scale"] == 3.0).all()


def test_refuses() -> None:
    with pytest.raises(ConfigError, match="scales="):
        losses(target(3, 1, 1.0), raw_inputs(3, 2), [], 20, of="identity")
