"""Perturbations: the stated covariance and budget, and an escape from a saddle that isotropic noise takes longer for."""

import pytest
import torch

from icl_lib.mean_field.changes import displace, isotropic
from icl_lib.mean_field.critical_points import SaddleConfig, gaussian_process, saddle
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.hessian import hessian_kernel
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.measure import stack
from icl_lib.validate import ConfigError

CONFIG = SaddleConfig((1.0, 0.5), (0,), 5, copies=2, seed=3)
TEACHER, MU = saddle(CONFIG, Erf())


def test_covariance_of_the_process() -> None:
    """Over 4 000 draws, sum_j H p_j H^T within four standard errors."""
    n = 4000
    theta = torch.cat([MU.a, MU.w], dim=2)
    h = hessian_kernel(Erf(), TEACHER, MU, theta, theta)[0].permute(0, 2, 1, 3).reshape(28, 28)
    expected = h @ torch.diag(MU.p[0].repeat_interleave(7)) @ h.T
    draws = torch.stack([isotropic(MU, [seed])[0] for seed in range(n)])
    fields = (draws * MU.p[0].sqrt()[:, None]).flatten(1) @ h.T
    one = gaussian_process(Erf(), TEACHER, MU, [7])[0].flatten()
    assert (one - fields[7]).abs().max() < 1e-12, "the same numbers as isotropic noise, through H"
    spread = (expected.diagonal()[:, None] * expected.diagonal() + expected**2).sqrt() / n**0.5
    assert ((fields.T @ fields / n - expected).abs() <= 5 * spread + 1e-12).all()


@pytest.mark.parametrize("kind", ["isotropic", "process"])
def test_budget(kind: str) -> None:
    xi = isotropic(MU, [1]) if kind == "isotropic" else gaussian_process(Erf(), TEACHER, MU, [1])
    moved = displace(MU, xi, 1e-3)
    squares = (moved.a - MU.a).square().sum(-1) + (moved.w - MU.w).square().sum(-1)
    assert (MU.p * squares).sum().sqrt().item() == pytest.approx(1e-3, rel=1e-9)
    assert torch.equal(displace(MU, xi, 0.0).w, MU.w)


def test_the_process_escapes_sooner_at_equal_budget() -> None:
    """Mean loss after the same time, over ten seeds, from a saddle of height 1/2."""
    teacher, mu = stack([TEACHER] * 10), stack([MU] * 10)
    seeds, left = list(range(10)), {}
    for name, xi in (("process", gaussian_process(Erf(), teacher, mu, seeds)), ("isotropic", isotropic(mu, seeds))):
        perturbed = displace(mu, xi, 1e-2)
        _, history = flow(Erf(), teacher, start(perturbed), FlowConfig("rk4", 0.1, 6.0, every=6.0))
        left[name] = history[history["time"] > 0]["loss"].mean()
    assert left["process"] < left["isotropic"] < 0.5


def test_members_draw_their_own_numbers() -> None:
    both = isotropic(stack([MU, MU]), [1, 2])
    assert torch.equal(both[1:], isotropic(MU, [2])) and not torch.equal(both[0], both[1])
    assert not torch.equal(isotropic(MU, [1], step=1), isotropic(MU, [1]))


def test_bad_values_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"seeds=\[1, 2\]: must be one per member, 1"):
        isotropic(MU, [1, 2])
    with pytest.raises(ConfigError, match="budget=-1"):
        displace(MU, isotropic(MU, [1]), -1)
    with pytest.raises(ConfigError, match="displacement="):
        displace(MU, torch.zeros(1, 4, 7).double(), 1.0)
