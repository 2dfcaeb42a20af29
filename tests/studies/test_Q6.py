"""Certificates of minima, and descent on batches."""

import pytest
import torch

from icl_lib.mean_field.critical_points import SaddleConfig, polish, saddle
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.hessian import extreme_eigenvalues
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, loss
from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, teachers
from icl_lib.validate import ConfigError
from studies.Q6 import Batches, descend_on_batches, hessian_signs, kept_on

TEACHER = teachers([TeacherConfig("random", 4, 3, 1, 2.0, (1.0,), 0)], Erf())


def test_the_end_of_the_narrowest_model_is_a_minimum_up_to_the_size_of_a():
    ends, table = polish(Erf(), TEACHER, initial_particles([InitConfig("aligned", 1, 3, 1, 2.0, s) for s in (0, 1)]))
    assert (table["kind"] == "trap").all()
    signs = hessian_signs(Erf(), TEACHER, ends)
    assert signs.certified(1).all() and (signs.positive == 3).all()


def test_a_saddle_is_not_certified_and_its_signs_are_those_of_the_extremes():
    teacher, mu = saddle(SaddleConfig(spectrum=(1.0, 0.6), missing=(1,), d=4), Erf())
    signs = hessian_signs(Erf(), teacher, mu)
    assert signs.negative > 0 and not signs.certified(2)
    assert extreme_eigenvalues(Erf(), teacher, mu)[0, 0] < 0


def test_a_split_neuron_has_more_zeros_than_the_symmetry():
    ends, _ = polish(Erf(), TEACHER, initial_particles([InitConfig("aligned", 1, 3, 1, 2.0, 0)]))
    both = type(ends)(ends.a.repeat(1, 2, 1), ends.w.repeat(1, 2, 1), torch.full((1, 2), 0.5).double())
    assert hessian_signs(Erf(), TEACHER, both).zero > 1


def test_kept_inputs_are_kept():
    mu = initial_particles([InitConfig("aligned", 10, 3, 1, 2.0, 0, axes=(0, 2))])
    state, _ = flow(Erf(), TEACHER, start(mu), FlowConfig("euler", 0.1, 1.0, 0.5), kept_on((0, 2)))
    assert (state.mu.w[..., 1] == 0).all() and not torch.equal(state.mu.w, mu.w)


def test_large_batches_follow_the_exact_flow():
    mu = initial_particles([InitConfig("aligned", 10, 3, 1, 2.0, 0)])
    end = descend_on_batches(TEACHER, mu, Batches(20_000, 0.1, 1e9, 10), 0)
    state, _ = flow(Erf(), TEACHER, start(mu), FlowConfig("euler", 0.1, 1.0, 0.5))
    exact, sampled = (float(loss(covariances(Erf(), TEACHER, x))) for x in (state.mu, end))
    assert sampled == pytest.approx(exact, rel=0.1)
    assert exact < 0.5 * float(loss(covariances(Erf(), TEACHER, mu)))


def test_a_cap_bounds_the_movement_and_small_batches_are_refused():
    mu = initial_particles([InitConfig("aligned", 10, 3, 1, 2.0, 0)])
    end = descend_on_batches(TEACHER, mu, Batches(8, 10.0, 0.1, 1), 0)
    moved = (end.a - mu.a).square().sum(-1) + (end.w - mu.w).square().sum(-1)
    torch.testing.assert_close((mu.p * moved).sum().sqrt(), torch.tensor(0.1).double())
    with pytest.raises(ConfigError, match="size"):
        descend_on_batches(TEACHER, mu, Batches(0), 0)
