"""Prompts: labels are what they are said to be, streams are disjoint and pair up, new tasks, bad values."""

import pytest
import torch

from icl_lib.mean_field.kernels import activation, network
from icl_lib.mean_field.landscape import covariances
from icl_lib.mean_field.measure import Particles, TeacherConfig, teachers
from icl_lib.mean_field.moments import features
from icl_lib.mean_field.prompts import TASKS, PromptConfig, Source
from icl_lib.validate import ConfigError

D, K, SEED = 5, 3, 1000
KERNEL = activation("sigmoid").kernel()
TEACHER = teachers([TeacherConfig("random", 6, D, K, 2.0, (1.0, 0.5, 0.2), SEED)], KERNEL)


def source(seed: int = SEED, dtype: torch.dtype = torch.float64, **law: object) -> Source:
    return Source(PromptConfig(**({"n_context": 30, "n_query": 4} | law)), TEACHER, "sigmoid", seed, dtype)


def test_network_is_that_of_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(7, 11, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = features(torch.sigmoid, TEACHER, x)
    weighted = (TEACHER.a * TEACHER.p[..., None])[0]
    for block in (2**17, 20):
        monkeypatch.setattr("icl_lib.mean_field.kernels.activations.BLOCK", block)
        torch.testing.assert_close(network(activation("sigmoid"), weighted, TEACHER.w[0], x), expected)


def test_labels() -> None:
    """On the span of f° without noise; largest and squared norm of f° itself."""
    found = source().draw(8, "prompts")
    f = source().features(found.x)
    v = torch.linalg.lstsq(f, found.y[..., None]).solution
    torch.testing.assert_close((f @ v)[..., 0], found.y)
    torch.testing.assert_close((source().features(found.x_query) @ v)[..., 0], found.y_query)
    assert torch.equal(source(task="max").draw(8, "prompts").y, f.amax(-1))
    assert torch.equal(source(task="squared_norm").draw(8, "prompts").y, f.square().sum(-1))


@pytest.mark.parametrize("law", ["gaussian", "sphere", "sign"])
def test_moments_of_labels(law: str) -> None:
    """E[y^2] = tr C + noise^2 for contexts and tr C for queries, within five standard errors."""
    found = source(law=law, noise=0.7).draw(4000, "prompts")
    for y, expected in ((found.y, 1.7 + 0.49), (found.y_query, 1.7)):
        of_prompt = y.square().mean(1)
        assert abs(of_prompt.mean() - expected) < 5 * of_prompt.std() / 4000**0.5


def test_centred_tasks_have_mean_zero() -> None:
    """E|f°|^2 is tr C exactly."""
    c = covariances(KERNEL, TEACHER, TEACHER).c[0]
    assert abs(source(task="squared_norm", centred=True).mean - c.trace()) < 0.03
    assert source(centred=True).mean == 0
    y = source(task="max", centred=True).draw(4000, "eval").y
    assert abs(y.mean()) < 0.02


def test_streams() -> None:
    """By seed, purpose and step; the same v and queries at any length and noise; the precision asked for."""
    base = source().draw(8, "prompts")
    assert all(torch.equal(*pair) for pair in zip(base, source().draw(8, "prompts"), strict=True))
    for other in (source().draw(8, "eval"), source().draw(8, "prompts", 1), source(SEED + 1).draw(8, "prompts")):
        assert not torch.equal(other.x, base.x)
        assert len(torch.cat([other.x.flatten(), base.x.flatten()]).unique()) == 2 * base.x.numel()
    changed = source(n_context=7, noise=0.5).draw(8, "prompts")
    assert torch.equal(changed.x_query, base.x_query) and torch.equal(changed.y_query, base.y_query)
    assert {part.dtype for part in source(dtype=torch.float32).draw(2, "eval")} == {torch.float32}


def test_a_new_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "product", lambda f, v: f[..., 0] * f[..., 1])
    found = source(task="product").draw(3, "eval")
    assert torch.equal(found.y, source().features(found.x)[..., :2].prod(-1))


def test_bad_values() -> None:
    two = Particles(*(torch.cat([part, part]) for part in TEACHER))
    for call, message in (
        (lambda: PromptConfig(task="cube"), "task='cube'"),
        (lambda: PromptConfig(n_context=0), "n_context=0"),
        (lambda: PromptConfig(n_query=0), "n_query=0"),
        (lambda: PromptConfig(noise=-1.0), "noise=-1.0"),
        (lambda: PromptConfig(law="cauchy"), "law='cauchy'"),
        (lambda: PromptConfig(centred=1), "centred=1"),  # type: ignore[arg-type]
        (lambda: Source(PromptConfig(), two, "sigmoid", 0), "teacher=2"),
        (lambda: Source(PromptConfig(), TEACHER, "swish", 0), "activation='swish'"),
        (lambda: Source(PromptConfig(), TEACHER, "sigmoid", 0, torch.float16), "dtype='torch.float16'"),
        (lambda: source().draw(0, "prompts"), "n_prompts=0"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
