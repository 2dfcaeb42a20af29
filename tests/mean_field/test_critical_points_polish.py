"""Polished ends: global minima where the model is wide, traps where it is too narrow, saddles where it starts on one."""

import pandas as pd
import pytest
import torch

from icl_lib.mean_field.critical_points import KINDS, SaddleConfig, polish, saddle, trap_share
from icl_lib.mean_field.kernels import Erf, tanh
from icl_lib.mean_field.landscape import covariances, loss, velocity
from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, stack, teachers
from icl_lib.validate import ConfigError

WIDE = TeacherConfig("random", 2, 2, 2, spectrum=(1.0, 0.5), seed=3)


def starts(n: int, k: int, count: int):
    return initial_particles([InitConfig("aligned", n, 2, k, seed=s) for s in range(count)])


def test_a_wide_model_ends_at_the_global_minimum() -> None:
    teacher = teachers([WIDE], Erf())
    ends, table = polish(Erf(), teacher, starts(8, 2, 10))
    assert (table["kind"] == KINDS[0]).all() and (table["steps"] > 0).all()
    many = stack([teacher] * 10)
    assert loss(covariances(Erf(), many, ends)).tolist() == pytest.approx(table["loss"].tolist(), abs=1e-12)
    assert torch.allclose(covariances(Erf(), many, ends).b, torch.eye(2, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("kernel", [Erf(), tanh()])
def test_one_neuron_for_a_teacher_of_two_is_trapped(kernel) -> None:
    """A local minimum of positive loss below r / 2: no contradiction, as dL/dmu is not constant off the support."""
    teacher = teachers([TeacherConfig("random", 2, 2, 1, seed=5)], kernel)
    ends, table = polish(kernel, teacher, starts(1, 1, 5))
    assert (table["kind"] == "trap").all() and (table["height"] > 0.01).all() and (table["height"] < 1).all()
    v = velocity(kernel, stack([teacher] * 5), ends)
    assert max(v.a.abs().max(), v.w.abs().max()) < 1e-5


def test_a_start_on_a_saddle_is_called_one() -> None:
    teacher, mu = saddle(SaddleConfig((1.0, 0.5), (1,), 3, mix=False, rotate=False), Erf())
    even = mu._replace(p=torch.full_like(mu.p, 0.5))
    _, table = polish(Erf(), teacher, even)
    assert table["kind"].item() == "strict saddle" and table["loss"].item() == pytest.approx(0.25)


def test_a_teacher_for_each_start_is_that_start_alone() -> None:
    configs = [WIDE, TeacherConfig("random", 2, 2, 2, spectrum=(3.0, 0.7), seed=4)]
    ends, table = polish(Erf(), teachers(configs, Erf()), starts(4, 2, 2), n_steps=3)
    for e, config in enumerate(configs):
        start = initial_particles([InitConfig("aligned", 4, 2, 2, seed=e)])
        alone, row = polish(Erf(), teachers([config], Erf()), start, n_steps=3)
        assert table.loc[e, ["loss", "height"]].tolist() == pytest.approx(
            row.loc[0, ["loss", "height"]].tolist(), rel=1e-9
        )
        assert torch.allclose(ends.w[e], alone.w[0], rtol=1e-6)


def test_too_few_steps_leave_a_start_unresolved() -> None:
    _, table = polish(Erf(), teachers([WIDE], Erf()), starts(8, 2, 2), n_steps=1)
    assert (table["kind"] == "unresolved").all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"n_steps": 0}, "n_steps=0"), ({"floor": 0.0}, "floor"), ({"flat": float("nan")}, "flat")],
)
def test_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        polish(Erf(), teachers([WIDE], Erf()), starts(4, 2, 1), **changes)
    with pytest.raises(ConfigError, match="teacher=2"):
        polish(Erf(), teachers([WIDE] * 2, Erf()), starts(4, 2, 3))
    masses = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    with pytest.raises(ConfigError, match="p='masses that differ'"):
        polish(Erf(), teachers([WIDE], Erf()), starts(4, 2, 1)._replace(p=masses))


def test_unresolved_ends_count_as_traps() -> None:
    """With no trap in n starts the upper end solves (1 - p)^n = 0.025."""
    none = trap_share(pd.DataFrame({"kind": [KINDS[0]] * 99 + [KINDS[1]]}))
    assert none == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 100)), 100)
    some = trap_share(pd.DataFrame({"kind": [KINDS[0]] * 6 + [KINDS[2]] * 3 + [KINDS[3]]}))
    assert some.estimate == 0.4 and 0 < some.low < 0.4 < some.high < 1
