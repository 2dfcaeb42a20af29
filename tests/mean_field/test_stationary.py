"""The search for points that stand still: its functional's gradient, what it finds, and what it calls them."""

import pandas as pd
import pytest
import torch

from icl_lib.mean_field.critical_points import SaddleConfig, saddle
from icl_lib.mean_field.hessian import hessian_product
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers, uniform
from icl_lib.mean_field.stationary import (
    CRITICAL,
    MINIMUM,
    UNRESOLVED,
    WASSERSTEIN,
    derivatives,
    examined,
    search,
    some,
    spectrum,
    stationary,
)
from icl_lib.rng import generator
from icl_lib.validate import ConfigError

AXES = TeacherConfig("axes", 2, 3, 2)


def starts(count: int, n: int = 5) -> tuple[Particles, Particles]:
    mu = initial_particles([InitConfig("aligned", n, 3, 2, seed=seed) for seed in range(count)])
    return teachers([AXES] * count, Erf()), mu


def test_the_gradient_of_the_functional_is_a_hessian_product() -> None:
    teacher, mu = starts(1)
    move = torch.randn(mu.theta.shape, generator=generator(0, "check"), dtype=mu.a.dtype)

    def half_square(step: float) -> float:
        v = velocity(Erf(), teacher, mu.moved_to(mu.theta + step * move))
        return float(torch.cat([v.a, v.w], 2).square().sum(2).mean()) / 2

    slope = (half_square(1e-5) - half_square(-1e-5)) / 2e-5
    v, d = derivatives(Erf(), teacher, mu)
    assert float((d @ v[..., None])[..., 0].flatten() @ move.flatten()) / 5 == pytest.approx(slope, rel=1e-6)
    product = 5 * hessian_product(Erf(), teacher, mu)(v.view_as(mu.theta))
    assert torch.allclose(product.flatten(1), (d @ v[..., None])[..., 0], rtol=1e-8, atol=1e-12)


def test_members_are_the_solo_run_and_only_descend() -> None:
    teacher, mu = starts(3)
    together, size = stationary(Erf(), teacher, mu, n_steps=15)
    alone, alone_size = stationary(Erf(), some(teacher, torch.tensor([1])), some(mu, torch.tensor([1])), n_steps=15)
    assert alone_size.item() == pytest.approx(size[1].item(), rel=1e-6)
    assert torch.allclose(together.w[1], alone.w[0], rtol=1e-6, atol=1e-9)
    assert bool((size <= stationary(Erf(), teacher, mu, n_steps=3)[1]).all())
    assert torch.allclose(covariances(Erf(), teacher, together).b, torch.eye(2, dtype=torch.float64), atol=1e-8)


def test_from_near_a_saddle_it_finds_a_critical_point_of_the_same_height() -> None:
    teacher, mu = saddle(SaddleConfig((1.0, 0.6), (1,), 4, mix=False), Erf())
    even = mu._replace(p=uniform(2))
    near = even._replace(
        w=even.w + 0.01 * torch.randn(even.w.shape, generator=generator(0, "check"), dtype=even.w.dtype)
    )
    table = examined(Erf(), teacher, *stationary(Erf(), teacher, near))
    assert table["kind"].item() == CRITICAL and table["loss"].item() == pytest.approx(0.3, abs=1e-9)
    assert table["negative"].item() >= 1 and table["r"].item() == pytest.approx(0.6)


def test_the_four_kinds() -> None:
    """A saddle, a minimum, one neuron for a teacher of two, and a start that has not moved."""
    kinds = []
    for config in (SaddleConfig((1.0, 0.6), (1,), 4), SaddleConfig((1.0, 0.6), (), 4)):
        teacher, mu = saddle(config, Erf())
        kinds.append(examined(Erf(), teacher, mu, torch.zeros(1))["kind"].item())
    teacher = teachers([TeacherConfig("random", 2, 2, 1, seed=5)] * 5, Erf())
    trapped = stationary(Erf(), teacher, initial_particles([InitConfig("aligned", 1, 2, 1, seed=s) for s in range(5)]))
    narrow = examined(Erf(), teacher, *trapped)
    still = narrow[narrow["kind"] == WASSERSTEIN]
    assert kinds == [CRITICAL, MINIMUM] and len(still) > 0 and (still["loss"] < still["r"] / 2).any()
    teacher, mu = starts(1)
    assert examined(Erf(), teacher, mu, torch.ones(1))["kind"].item() == UNRESOLVED


def test_a_search_names_its_seeds_and_repeats() -> None:
    teacher, mu, table = search(Erf(), [3, 4], AXES, 4, 2)
    assert table["seed"].tolist() == [3, 3, 4, 4] and len(mu.p) == len(teacher.p) == 4
    pd.testing.assert_frame_equal(table, search(Erf(), [3, 4], AXES, 4, 2)[2])
    found = torch.linalg.eigvalsh(covariances(Erf(), teacher, mu).c)[[0, 2]]
    wanted = torch.tensor([sorted(spectrum(seed, 2)) for seed in (3, 4)], dtype=torch.float64)
    assert torch.allclose(found, wanted) and bool((wanted >= 0.2).all() and (wanted <= 1).all())


def test_refused() -> None:
    teacher, mu = starts(1, 4)
    with pytest.raises(ConfigError, match="n_steps=0"):
        stationary(Erf(), teacher, mu, 0)
    with pytest.raises(ConfigError, match="p='masses that differ'"):
        stationary(Erf(), teacher, mu._replace(p=torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)))
