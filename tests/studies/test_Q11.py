"""PWGF as a stepper: its draws against the operator written out, its price, its trigger and its test of decrease."""

from dataclasses import replace

import pytest
import torch

from icl_lib.mean_field import Erf, FlowConfig, flow, isotropic, start
from icl_lib.mean_field.changes import displace
from icl_lib.mean_field.critical_points import saddle_of_seed, saddles
from icl_lib.validate import ConfigError
from studies.K6 import modes, overlaps
from studies.Q11 import Pwgf, applied, jump, lanczos, predicted_lead, price_to, pwgf

CONFIG = saddle_of_seed(7000, k=2, d=5, copies=3)
SHORT = Pwgf(n_gradients=30, lanczos=20)


@pytest.fixture(scope="module")
def saddle():
    return saddles([CONFIG], Erf())


def test_the_operator_is_that_of_the_dense_hessian_kernel(saddle):
    found = modes(Erf(), *saddle)
    v = torch.randn(1, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    s = found.eigenvectors[0] @ torch.diag(found.eigenvalues[0]) @ found.eigenvectors[0].T
    torch.testing.assert_close(applied(Erf(), *saddle, v).flatten(), s @ v.flatten(), rtol=1e-6, atol=1e-6)


def test_the_negative_part_is_the_unstable_direction_and_the_positive_part_has_none_of_it(saddle):
    found = modes(Erf(), *saddle)
    moves = {
        kind: jump(replace(SHORT, kind=kind), Erf(), *saddle, 0).theta - saddle[1].theta
        for kind in ("guided", "isotropic", "negative part", "positive part")
    }
    share = {kind: float(overlaps(found, saddle[1], move)[0, 0]) for kind, move in moves.items()}
    assert share["negative part"] == pytest.approx(1, abs=1e-6) and share["positive part"] < 1e-5
    z = isotropic(saddle[1], [0]) * saddle[1].p.sqrt()[..., None]
    inside = (z.flatten(1) @ found.eigenvectors[0])[0]
    expected = (found.eigenvalues[0, 0] * inside[0]).abs() / (found.eigenvalues[0] * inside).norm()
    size = {kind: float((saddle[1].p * m.square().sum(-1)).sum().sqrt()) for kind, m in moves.items()}
    assert size == pytest.approx(dict.fromkeys(size, size["guided"]))
    guided = displace(saddle[1], moves["guided"], 1.0).theta - saddle[1].theta
    assert float(overlaps(found, saddle[1], guided)[0, 0]) > 0 and expected > 0


def test_lanczos_is_exact_once_its_space_is_whole():
    s = torch.tensor([-2.0, 0.0, 1.0, 1.0, 3.0], dtype=torch.float64)[None, :, None]
    z = torch.ones(1, 5, 1, dtype=torch.float64)
    found = lanczos(lambda v: s * v, z, lambda x: x.clamp(min=0), 5)
    torch.testing.assert_close(found, s.clamp(min=0))


def test_without_jumps_it_is_the_flow_and_each_step_costs_one_gradient(saddle):
    near = displace(saddle[1], isotropic(saddle[1], [1]), 0.1)
    run = pwgf(replace(SHORT, kind="none"), Erf(), saddle[0], near, 0)
    history = flow(Erf(), saddle[0], start(near), FlowConfig("euler", 0.5, 14.5, 0.5))[1]
    assert run.losses.tolist() == pytest.approx(history["loss"].tolist())
    assert run.spent.tolist() == list(range(1, 31)) and run.jumps == [] and not run.ended


def test_a_jump_is_paid_and_waits_for_a_small_gradient(saddle):
    still = pwgf(SHORT, Erf(), *saddle, 0)
    assert still.jumps == [3] and still.spent[:3].tolist() == [1, 4, 5]
    far = displace(saddle[1], isotropic(saddle[1], [1]), 0.3)
    assert pwgf(replace(SHORT, epsilon=1e-9), Erf(), saddle[0], far, 0).jumps == []


def test_the_measure_before_a_jump_is_returned_if_the_loss_does_not_fall(saddle):
    run = pwgf(replace(SHORT, wait=5, least_fall=10.0), Erf(), *saddle, 0)
    assert run.ended and torch.equal(run.mu.w, saddle[1].w) and run.jumps == [3]


def test_prices_and_predictions():
    run = pwgf(SHORT, Erf(), *saddles([CONFIG], Erf()), 0)._replace(
        spent=torch.tensor([1.0, 4.0, 5.0]), losses=torch.tensor([3.0, 2.0, 0.0])
    )
    assert price_to(run, 1.0) == 4.5 and price_to(run, -1.0) == float("inf") and price_to(run, 4.0) == 1
    assert predicted_lead(100, 4, torch.tensor([-1.0, 0.0, 20.0])) == pytest.approx(0, abs=0.002)
    with pytest.raises(ConfigError, match="kind"):
        Pwgf("newton")
