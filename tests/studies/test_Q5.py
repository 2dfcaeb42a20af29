"""What a start is worth: the overlap, times to a level, and choices among candidates."""

import pytest
import torch

from icl_lib.mean_field.flows import FlowConfig
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.validate import ConfigError
from studies.K3 import homotopy
from studies.Q5 import drawn_length, overlap, picked, repeated, some_axes, times_to

RUN = FlowConfig("euler", 0.05, 5.0, 0.05)


@pytest.fixture(scope="module")
def setting():
    teacher = teachers([TeacherConfig("random", 4, 5, 2, 2.0, (1.0, 1.0), s) for s in (0, 1)], Erf())
    return teacher, initial_particles([InitConfig("aligned", 20, 5, 2, 1.0, s) for s in (0, 1)])


def test_the_overlap_is_the_steepest_slope_and_scales_with_a(setting):
    teacher, mu = setting
    cov = covariances(Erf(), teacher, mu)
    left, _, right = torch.linalg.svd(cov.residual @ cov.m, full_matrices=False)
    torch.testing.assert_close(overlap(Erf(), teacher, mu), -homotopy(cov, (left @ right).mT)[0])
    torch.testing.assert_close(overlap(Erf(), teacher, mu._replace(a=2 * mu.a)), overlap(Erf(), teacher, mu) / 2)


def test_times_are_longer_to_lower_levels_and_with_held_inputs(setting):
    teacher, mu = setting
    times = {share: times_to(Erf(), teacher, mu, share, RUN) for share in (0.5, 0.25, 1e-9)}
    assert (times[0.5] < times[0.25]).all() and times[1e-9].isnan().all()
    assert (times_to(Erf(), teacher, mu, 0.5, RUN, held=True) > times[0.5]).all()


def test_steps_are_times_over_the_step_where_no_cap_acts(setting):
    teacher, mu = setting
    time, steps = (times_to(Erf(), teacher, mu, 0.5, RUN, steps=count) for count in (False, True))
    torch.testing.assert_close(steps * RUN.dt, time)


def test_half_the_size_of_a_learns_a_faster_at_the_same_speed_of_w(setting):
    """dw/dt does not see the scale of a, da/dt / a goes with its inverse square: held, times scale exactly."""
    teacher, mu = setting
    slow = times_to(Erf(), teacher, mu, 0.5, FlowConfig("euler", 0.04, 20.0, 0.04), held=True)
    half = mu._replace(a=mu.a / 2)
    fast = times_to(Erf(), teacher, half, 0.5, FlowConfig("euler", 0.01, 5.0, 0.01), held=True)
    torch.testing.assert_close(fast * 4, slow)


def test_picked_takes_the_best_of_each_row(setting):
    mu = Particles(*(part[:1].repeat_interleave(4, 0) for part in setting[1]))
    mu = mu._replace(a=mu.a * torch.arange(1.0, 5.0).double()[:, None, None])
    scores = torch.tensor([1.0, 3.0, 5.0, 2.0]).double()
    assert torch.equal(picked(mu, scores, 2).a, mu.a[[1, 2]])
    assert torch.equal(picked(mu, scores, 2, most=False).a, mu.a[[0, 3]])
    with pytest.raises(ConfigError, match="of"):
        picked(mu, scores, 3)


def test_repeated_keeps_members_together(setting):
    many = repeated(setting[0], 3)
    assert len(many.p) == 6 and torch.equal(many.a[2], many.a[0]) and torch.equal(many.a[3], setting[0].a[1])


def test_draws_are_in_range_and_of_their_seed():
    axes = some_axes(3, 8, 4)
    assert len(set(axes)) == 4 and set(axes) <= set(range(8)) and axes == some_axes(3, 8, 4)
    assert all(1.0 <= x <= 4.0 for x in drawn_length(range(50))) and drawn_length([7])[0] == drawn_length([3, 7])[1]
    with pytest.raises(ConfigError, match="low"):
        drawn_length([0], 4.0, 1.0)
