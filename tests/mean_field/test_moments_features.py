"""Moments of features with a constant: closed forms against samples, what the constant does, attention on raw inputs."""

import pytest
import torch

from icl_lib.mean_field.kernels import ACTIVATIONS, ErfSum, activation, gaussian_inputs
from icl_lib.mean_field.landscape import Covariances, covariances, loss, loss_at
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, member, teachers
from icl_lib.mean_field.moments import Moments, loss_n, model_covariances, model_moments, optimum_n, raw_inputs
from icl_lib.mean_field.prompts import PromptConfig, Source
from icl_lib.mean_field.transformer import Transformer, step
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

D, K, N, SEEDS = 4, 2, 8, (1000, 1001)
X = gaussian_inputs(100_000, D, generator(0, "inputs"))
IDENTITY = activation("identity")


def pair(name: str, kind: str = "random") -> tuple[Particles, Particles]:
    teacher = [TeacherConfig(kind, 9, D, K, 2.0, (1.0, 0.5), s) for s in SEEDS]
    return teachers(teacher, activation(name).kernel()), initial_particles(
        [InitConfig("aligned", N, D, 3, 2.0, s) for s in SEEDS]
    )


def sampled(name: str, teacher: Particles, mu: Particles, of: str) -> Moments:
    """All moments over ``X``, by hand."""
    m = []
    for e in range(2):
        f, h = (
            activation(s).function(X @ nu.w[e].T) @ (nu.a * nu.p[..., None])[e] for s, nu in ((name, teacher), (of, mu))
        )
        h = torch.cat([h, torch.ones(len(X), 1, dtype=torch.float64)], 1)
        square = f.square().sum(1, keepdim=True)
        m.append([part / len(X) for part in (f.T @ h, h.T @ h, f.T @ f, h.T @ (square * h))])
    a, b, c, q = (torch.stack(parts) for parts in zip(*m, strict=True))
    return Moments(Covariances(a, b, c), q)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_moments(name: str) -> None:
    """Closed forms against 100 000 inputs; Q is over the same inputs and agrees to rounding."""
    (teacher, mu), act = pair(name), activation(name)
    exact, found = model_moments(act, teacher, mu, X), sampled(name, teacher, mu, name)
    for one, other in zip(exact.cov, found.cov, strict=True):
        assert (one - other).abs().max() < 0.05 * other.abs().max()
    torch.testing.assert_close(exact.q, found.q)
    torch.testing.assert_close(model_covariances(act, teacher, mu, False)[1], exact.cov.b[:, :-1, :-1])


def test_the_constant_takes_the_mean_out() -> None:
    """Infinite prompts: L of (h, 1) is L of h under the sigmoid without its 1/2, if E f° = 0."""
    teacher, mu = pair("sigmoid", "nonlinear")
    whole = activation("sigmoid").kernel()
    assert isinstance(whole, ErfSum)
    odd = ErfSum(whole.weights, whole.scales)
    torch.testing.assert_close(
        loss(model_covariances(activation("sigmoid"), teacher, mu)), loss(covariances(odd, teacher, mu))
    )


def test_raw_inputs() -> None:
    """A Transformer without an MLP: h~ = (x, 1), its moments, and the mean loss of whole prompts at its best W."""
    teacher, x = pair("sigmoid")[0], raw_inputs(D, 2)
    m = model_moments(activation("sigmoid"), teacher, x, X, of=IDENTITY)
    torch.testing.assert_close(m.cov.b, torch.eye(D + 1, dtype=torch.float64).expand(2, -1, -1))
    found = sampled("sigmoid", teacher, x, "identity")
    assert (m.cov.a - found.cov.a).abs().max() < 0.02
    w = optimum_n(m, 6, 0.5)
    config = PromptConfig(n_context=6, noise=0.5)
    sources = [Source(config, member(teacher, e), "sigmoid", s, torch.float64) for e, s in enumerate(SEEDS)]
    drawn = [source.draw(4000, "eval") for source in sources]
    measured = step("identity", Transformer(x, w), drawn).losses
    assert ((measured.mean(1) - loss_n(m, w, 6, 0.5)).abs() < 4 * measured.std(1) / 4000**0.5).all()


@pytest.mark.parametrize("name", ["sigmoid", "relu"])
def test_mean_loss_of_prompts(name: str) -> None:
    """The model's loss on whole prompts is L^n of the exact moments, and not L_TF."""
    (teacher, mu), act = pair(name), activation(name)
    m = model_moments(act, teacher, mu, X)
    w = optimum_n(m, 8, 0.3)
    config = PromptConfig(n_context=8, noise=0.3)
    drawn = [Source(config, member(teacher, e), name, s).draw(10_000, "eval") for e, s in enumerate(SEEDS)]
    measured = step(name, Transformer(mu, w), drawn).losses
    error = measured.std(1) / 100
    assert ((measured.mean(1) - loss_n(m, w, 8, 0.3)).abs() < 4 * error).all()
    assert ((measured.mean(1) - loss_at(m.cov, w)).abs() > 6 * error).all()


def test_two_activations() -> None:
    teacher, mu = pair("sigmoid")
    with pytest.raises(ConfigError, match=r"activation=\('sigmoid', 'relu'\)"):
        model_covariances(activation("sigmoid"), teacher, mu, of=activation("relu"))
    with pytest.raises(ConfigError, match="d=0"):
        raw_inputs(0)
