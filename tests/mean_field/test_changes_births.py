"""Birth-death: how often, from where, until when; and that it rescues a support that the flow alone cannot leave."""

import math

import pytest
import torch

from icl_lib.mean_field.changes import BirthDeath, births
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.integrate import State
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, stack, teachers
from icl_lib.validate import ConfigError

D, K = 5, 2
PI = InitConfig("aligned", 8, D, K, 2.0)


def particles(n: int, seeds: list[int]) -> Particles:
    return initial_particles([InitConfig("aligned", n, D, K, 2.0, seed) for seed in seeds])


def test_rate_and_reference() -> None:
    """With gamma dt = .5, a fraction 1 - e^-.5 is replaced, by neurons of the reference's size."""
    mu = particles(4000, [0, 1])
    state = start(mu._replace(w=100 * mu.w))
    after = births(BirthDeath(1.0, PI), [5, 6])(state, 0.5)
    born = (after.w != state.mu.w).any(-1)
    assert born.double().mean().item() == pytest.approx(1 - math.exp(-0.5), abs=4 * 0.49 / 8000**0.5)
    assert after.w[born].square().sum(-1).mean().item() == pytest.approx(4.0, rel=0.05)
    assert torch.equal(after.a[~born], mu.a[~born]) and torch.equal(after.p, mu.p)
    assert not torch.equal(born[0], born[1])


def test_masses_stay_where_they_are() -> None:
    """Whoever is born takes the mass of whom it replaces, equal or not, so that masses still sum to 1."""
    mu, p = particles(50, [0]), torch.arange(1.0, 51).double()[None]
    mu = mu._replace(p=p / p.sum())
    after = births(BirthDeath(1.0, PI), [5])(start(mu), 0.5)
    assert 0 < int((after.w != mu.w).any(-1).sum()) < 50
    assert torch.equal(after.p, mu.p)


def test_streams_follow_seed_and_step() -> None:
    mu = particles(50, [0])
    change = births(BirthDeath(1.0, PI), [5])
    state = start(mu)
    assert torch.equal(change(state, 0.5).w, change(state, 0.5).w)
    assert not torch.equal(change(state._replace(step=1), 0.5).w, change(state, 0.5).w)
    everyone = births(BirthDeath(1e3, PI), [5])  # all are replaced: what is drawn is another, not only who
    assert (everyone(state._replace(step=1), 0.5).w != everyone(state, 0.5).w).all()
    both = births(BirthDeath(1.0, PI), [4, 5])(start(stack([mu, mu])), 0.5)
    assert torch.equal(both.w[1:], change(state, 0.5).w), "a member draws what a solo run draws"


def test_annealing_ends_the_births() -> None:
    config, mu = BirthDeath(2.0, PI, anneal_until=4.0), particles(50, [0])
    assert config.at(torch.tensor([0.0, 1.0, 4.0, 9.0])).tolist() == [2.0, 1.5, 0.0, 0.0]
    late = State(mu, torch.tensor([5.0]).double(), torch.zeros(1).double(), 50)
    assert torch.equal(births(config, [0])(late, 1.0).w, mu.w)


def test_resumed_is_uninterrupted() -> None:
    teacher = teachers([TeacherConfig("axes", K, D, K, 2.0, (1.0, 0.5))], Erf())
    change, mu = births(BirthDeath(0.5, PI), [3]), particles(20, [0])
    whole, _ = flow(Erf(), teacher, start(mu), FlowConfig("euler", 0.1, 1.0), change)
    half, _ = flow(Erf(), teacher, start(mu), FlowConfig("euler", 0.1, 0.5), change)
    resumed, _ = flow(Erf(), teacher, half, FlowConfig("euler", 0.1, 1.0), change)
    assert whole.step == resumed.step == 10 and (whole.mu.w - resumed.mu.w).abs().max() < 1e-12


def test_births_rescue_a_support_that_misses_an_axis() -> None:
    """All w in a plane that misses an output's axis: the flow alone never leaves it, births do."""
    teacher = teachers([TeacherConfig("axes", K, D, K, 2.0, (1.0, 0.5))], Erf())
    mu = particles(60, [1])
    flat = mu._replace(w=mu.w * torch.tensor([0.0, 1, 1, 1, 1], dtype=torch.float64))
    run = FlowConfig("euler", 0.1, 25.0, every=25.0, cap=0.2)
    stuck, alone = flow(Erf(), teacher, start(flat), run)
    _, helped = flow(Erf(), teacher, start(flat), run, births(BirthDeath(0.2, PI, anneal_until=15.0), [0]))
    assert stuck.mu.w[..., 0].abs().max() == 0 and alone["loss"].iloc[-1] >= 0.5 - 1e-9
    assert helped["loss"].iloc[-1] < 0.25


def test_a_reference_on_some_axes_stays_there() -> None:
    flat = InitConfig("aligned", 8, D, K, 2.0, axes=(1, 3))
    after = births(BirthDeath(1.0, flat), [5])(start(particles(4000, [0])), 50.0)
    assert after.w[..., [0, 2, 4]].abs().max() == 0
    assert after.w.square().sum(-1).mean().item() == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": -0.1}, "rate=-0.1"),
        ({"anneal_until": 0.0}, "anneal_until=0.0"),
        ({"reference": "pi"}, "reference='pi'"),
    ],
)
def test_bad_values_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BirthDeath(**changes)
