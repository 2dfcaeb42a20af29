"""The written-out gradients against autograd, members against solo runs, the mean loss against its exact value."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from icl_lib.mean_field import transformer
from icl_lib.mean_field.kernels import ACTIVATIONS, activation
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, member, teachers
from icl_lib.mean_field.prompts import PromptConfig, Prompts, Source
from icl_lib.mean_field.transformer import Transformer, predictions, step
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

D, K, N = 4, 2, 7
SEEDS = [1000, 1001]


def model(constant: bool, k: int = K) -> Transformer:
    """Masses that are not equal, any W."""
    mu = initial_particles([InitConfig("aligned", N, D, k, 2.0, s) for s in SEEDS])
    p = torch.rand(2, N, generator=generator(0, "noise"), dtype=torch.float64) + 0.5
    size = k + constant
    w = torch.randn(2, size, size, generator=generator(1, "noise"), dtype=torch.float64)
    return Transformer(mu._replace(p=p / p.sum(1, keepdim=True)), w)


def sources(act: str, dtype: torch.dtype = torch.float64, **law: object) -> list[Source]:
    kernel = activation(act).kernel()
    config = PromptConfig(**({"n_context": 9, "n_query": 3} | law))
    return [
        Source(config, teachers([TeacherConfig("random", 3, D, K, 2.0, None, s)], kernel), act, s, dtype) for s in SEEDS
    ]


def by_the_book(act: str, mu: Particles, w: Tensor, prompts: Prompts, e: int) -> Tensor:
    """The loss of each prompt as one writes it for autograd."""

    def features(x: Tensor) -> Tensor:
        h = activation(act).function(x @ mu.w[e].T) @ (mu.a[e] * mu.p[e][:, None])
        ones = torch.ones(*x.shape[:-1], w.shape[-1] - h.shape[-1], dtype=h.dtype)
        return torch.cat([h, ones], -1)

    g = (prompts.y[..., None] * features(prompts.x)).mean(1)
    predicted = torch.einsum("pi,ij,pqj->pq", g, w[e], features(prompts.x_query))
    return (predicted - prompts.y_query).square().mean(1) / 2


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("constant", [False, True])
def test_gradients(act: str, constant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with blocks and chunks that do not divide what they cut."""
    one = model(constant, k=3)
    batches = [s.draw(5, "prompts") for s in sources(act, noise=0.3)]
    a, w, attention = (part.clone().requires_grad_() for part in (one.mu.a, one.mu.w, one.attention))
    expected = torch.stack(
        [by_the_book(act, Particles(a, w, one.mu.p), attention, b, e) for e, b in enumerate(batches)]
    )
    slopes = torch.autograd.grad(expected.mean(1).sum(), (a, w, attention))
    for cache, chunk in ((transformer.CACHE, transformer.CHUNK), (4 * N, 2)):
        monkeypatch.setattr(transformer, "CACHE", cache)
        monkeypatch.setattr(transformer, "CHUNK", chunk)
        found = step(act, one, batches)
        torch.testing.assert_close(found.losses, expected.detach(), rtol=0, atol=1e-10)
        for velocity, slope in zip(found[1:3], slopes[:2], strict=True):
            torch.testing.assert_close(-velocity * one.mu.p[..., None], slope, rtol=0, atol=1e-10)
        torch.testing.assert_close(-found.attention, slopes[2], rtol=0, atol=1e-10)
        asked = [
            (y - b.y_query).square().mean(1) / 2 for y, b in zip(predictions(act, one, batches), batches, strict=True)
        ]
        torch.testing.assert_close(torch.stack(asked), expected.detach(), rtol=0, atol=1e-10)


def test_members_are_solo_runs() -> None:
    one, batches = model(True), [s.draw(5, "prompts") for s in sources("sigmoid")]
    both = step("sigmoid", one, batches)
    for e in range(2):
        alone = Transformer(member(one.mu, e), one.attention[e : e + 1])
        for found, expected in zip(step("sigmoid", alone, batches[e : e + 1]), both, strict=True):
            assert torch.equal(found[0], expected[e])


def test_single_precision() -> None:
    """Prompts decide the precision of the pass; results come in that of the model."""
    one = model(True)
    double = [s.draw(5, "prompts") for s in sources("sigmoid")]
    single = [Prompts(*(part.float() for part in b)) for b in double]
    for found, expected in zip(step("sigmoid", one, single), step("sigmoid", one, double), strict=True):
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert predictions("sigmoid", one, single)[0].dtype == torch.float32


def test_the_constant_feature() -> None:
    """It alone makes the prediction the mean label; a teacher that is one constant is then learned exactly."""
    one = model(True)
    attention = torch.zeros_like(one.attention)
    attention[:, -1, -1] = 1
    batch = sources("sigmoid")[0].draw(6, "prompts")
    found = predictions("sigmoid", one._replace(attention=attention), [batch, batch])[0]
    torch.testing.assert_close(found, batch.y.mean(1, keepdim=True).expand(-1, 3))


def test_bad_models_and_prompts() -> None:
    one, batches = model(True), [s.draw(2, "prompts") for s in sources("sigmoid")]
    cases = (
        (lambda: step("sigmoid", one, batches[:1]), "prompts=1"),
        (lambda: step("swish", one, batches), "activation='swish'"),
        (lambda: step("sigmoid", one, [b._replace(x=b.x[..., :2]) for b in batches]), "prompts="),
    )
    for call, message in cases:
        with pytest.raises(ConfigError, match=message):
            call()
    with pytest.raises(ConfigError, match="task='cube'"):
        replace(PromptConfig(), task="cube")


def test_second_moment_of_query_features() -> None:
    one, batches = model(True), [s.draw(5, "prompts") for s in sources("sigmoid")]
    found = step("sigmoid", one, batches).b
    for e, batch in enumerate(batches):
        h = torch.sigmoid(batch.x_query @ one.mu.w[e].T) @ (one.mu.a[e] * one.mu.p[e][:, None])
        h = torch.cat([h, torch.ones_like(h[..., :1])], -1).flatten(0, 1)
        torch.testing.assert_close(found[e], h.T @ h / len(h))
