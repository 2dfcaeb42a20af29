"""Descent at equal compute: each method against its definition, and what comes after a step."""

import pytest
import torch

from icl_lib.mean_field.changes import BirthDeath
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.validate import ConfigError
from studies.Q8 import Descent, chosen_rate, descend, drawn_again, gradients_to

SEEDS, LAW = [0, 1], InitConfig("aligned", 12, 5, 2, 1.0)


@pytest.fixture(scope="module")
def setting():
    teacher = teachers([TeacherConfig("random", 4, 5, 2, 2.0, (1.0, 1.0), s) for s in SEEDS], Erf())
    return teacher, initial_particles([InitConfig("aligned", 12, 5, 2, 1.0, s) for s in SEEDS])


def test_plain_steps_are_euler_steps_of_the_flow(setting):
    end, losses = descend(Erf(), *setting, Descent("plain", 0.05), 4, SEEDS)
    state, history = flow(Erf(), setting[0], start(setting[1]), FlowConfig("euler", 0.05, 0.2, 0.05))
    torch.testing.assert_close(end.w, state.mu.w)
    expected = torch.tensor(history.pivot(index="time", columns="member", values="loss").to_numpy())
    torch.testing.assert_close(losses, expected)


def test_momentum_without_memory_is_plain_and_with_it_adds_up(setting):
    plain = descend(Erf(), *setting, Descent("plain", 0.05), 3, SEEDS)[1]
    torch.testing.assert_close(descend(Erf(), *setting, Descent("momentum", 0.05, beta=0.0), 3, SEEDS)[1], plain)
    teacher, mu = setting
    one, _ = descend(Erf(), teacher, mu, Descent("momentum", 0.05), 1, SEEDS)
    two, _ = descend(Erf(), teacher, mu, Descent("momentum", 0.05), 2, SEEDS)
    expected = 0.05 * (velocity(Erf(), teacher, one).w + 0.9 * velocity(Erf(), teacher, mu).w)
    torch.testing.assert_close(two.w - one.w, expected)


def test_adam_is_that_of_torch(setting):
    teacher, mu = setting
    own = [mu.a.clone().requires_grad_(), mu.w.clone().requires_grad_()]
    adam = torch.optim.Adam(own, lr=0.05, betas=(0.9, 0.999))
    for _ in range(5):
        v = velocity(Erf(), teacher, mu._replace(a=own[0].detach(), w=own[1].detach()))
        own[0].grad, own[1].grad = -v.a, -v.w
        adam.step()
    torch.testing.assert_close(descend(Erf(), teacher, mu, Descent("adam", 0.05), 5, SEEDS)[0].w, own[1].detach())


def test_dead_neurons_are_drawn_again_and_only_they(setting):
    mu = setting[1]
    mu = mu._replace(w=torch.cat([0.01 * mu.w[:, :3], mu.w[:, 3:]], 1))
    found = drawn_again(LAW, mu, 0.1, SEEDS, 1)
    assert (found.w[:, :3].norm(dim=2) > 0.1).all()
    assert torch.equal(found.w[:, 3:], mu.w[:, 3:]) and torch.equal(found.a[:, 3:], mu.a[:, 3:])


def test_births_and_noise_change_the_run_and_noise_ends(setting):
    plain, _ = descend(Erf(), *setting, Descent(), 1, SEEDS)
    noisy, _ = descend(Erf(), *setting, Descent(noise=0.1), 1, SEEDS)
    assert torch.equal(plain.w, noisy.w)  # annealed to nothing at the last step
    born, _ = descend(Erf(), *setting, Descent(births=BirthDeath(1.0, LAW)), 1, SEEDS)
    assert not torch.equal(plain.w, born.w)


def test_shuffled_signs_keep_lengths(setting):
    teacher, mu = setting
    straight, shuffled = (
        descend(Erf(), teacher, mu, Descent("adam", 0.05, shuffled=x), 1, SEEDS)[0] for x in (False, True)
    )
    torch.testing.assert_close((straight.w - mu.w).abs(), (shuffled.w - mu.w).abs())
    assert not torch.allclose(straight.w, shuffled.w)


def test_members_do_not_depend_on_each_other_even_if_one_diverges(setting):
    teacher, mu = setting
    mu = mu._replace(a=torch.stack([mu.a[0], 0 * mu.a[1]]))  # a singular covariance
    losses = descend(Erf(), teacher, mu, Descent("adam", 0.05), 5, SEEDS)[1]
    first = [Particles(*(part[:1] for part in nu)) for nu in (teacher, mu)]
    assert losses[:, 1].isinf().all()
    torch.testing.assert_close(losses[:, :1], descend(Erf(), *first, Descent("adam", 0.05), 5, SEEDS[:1])[1])


def test_counts_and_choices():
    losses = torch.tensor([[4.0, 4.0], [1.0, 3.0], [2.0, 3.0]])
    assert gradients_to(losses, torch.tensor([2.0, 2.0])).tolist() == [1.0, torch.inf]
    assert chosen_rate({0.3: 1.0, 0.1: 1.0}) == 0.1
    with pytest.raises(ConfigError, match="method"):
        Descent("newton")
