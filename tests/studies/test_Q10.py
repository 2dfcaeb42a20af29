"""What finite prompts cost: the two inequalities for any measure, the expansion, and minima that are known."""

import pytest
import torch

from icl_lib.mean_field import Erf, InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.mean_field.landscape import loss
from icl_lib.mean_field.moments import best_loss_n, empirical_moments
from icl_lib.validate import ConfigError
from studies.Q10 import (
    beside_saddle,
    bound,
    derivatives,
    distance,
    first_order,
    minimise,
    predicted_radius,
    problem,
    radius,
    symmetric_inputs,
    to_teacher,
    unstable,
    values,
)

SEEDS = [7000, 7001]
X = symmetric_inputs(60, 3, SEEDS)
AXIS = torch.tensor([True, True, True, False, False])


def moments(kind: str, size: float, k: int = 2):
    teacher = teachers([TeacherConfig("random", 4, 3, k, 2.0, seed=s) for s in SEEDS], Erf())
    mu = initial_particles([InitConfig(kind, 6, 3, k, size, s) for s in SEEDS])
    return empirical_moments(torch.erf, teacher, mu, X[0])


def contexts(n: float):
    return torch.full((len(SEEDS),), n, dtype=torch.float64)


def saddle(n: float):
    teacher = teachers([TeacherConfig("axes", 2, 3, 2, 2.0, (1.0, 0.6), s) for s in SEEDS], Erf())
    p = problem(torch.erf, teacher, X, contexts(n))
    others = torch.linspace(2.5, 12, 39, dtype=torch.float64)
    return p, minimise(p, beside_saddle(p, 2.0, others), 40, AXIS)


@pytest.mark.parametrize("kind", ["aligned", "independent"])
@pytest.mark.parametrize("size", [0.3, 2.0, 6.0])
@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_the_cost_lies_between_zero_and_its_bound(kind, size, noise):
    m = moments(kind, size)
    for n in (1, 2, 10, 1e3, 1e6):
        cost = best_loss_n(m, n, noise) - loss(m.cov)
        assert (cost > -1e-12).all() and (cost <= bound(m, noise) / n + 1e-12).all()


def test_the_first_order_is_what_is_left_for_long_prompts():
    m = moments("aligned", 2.0)
    off = [float((n * (best_loss_n(m, n) - loss(m.cov)) / bound(m) - first_order(m)).abs().max()) for n in (1e5, 1e6)]
    assert off[1] < 5e-3 and off[0] / off[1] == pytest.approx(10, rel=0.1)


def test_inputs_are_symmetric():
    x = symmetric_inputs(5, 3, [1])[0]
    assert x.shape == (40, 3)
    for sign in torch.eye(3, dtype=torch.float64):
        assert torch.equal((x * (1 - 2 * sign)).sort(0).values, x.sort(0).values)


def test_values_are_those_of_the_library_and_infinite_prompts_give_the_loss():
    teacher = teachers([TeacherConfig("random", 4, 3, 2, 2.0, seed=s) for s in SEEDS], Erf())
    mu = initial_particles([InitConfig("aligned", 6, 3, 2, 2.0, s) for s in SEEDS])
    shared = X[:1].expand_as(X)
    p, m = problem(torch.erf, teacher, shared, contexts(30)), empirical_moments(torch.erf, teacher, mu, X[0])
    torch.testing.assert_close(values(p, mu.theta), best_loss_n(m, 30))
    torch.testing.assert_close(values(p._replace(long=True), mu.theta), loss(m.cov))
    turned = torch.cat([mu.a @ torch.tensor([[1.0, 2.0], [0.5, -1.0]]).double(), mu.w], 2)
    torch.testing.assert_close(values(p, turned), values(p, mu.theta))


def test_a_descent_from_the_target_ends_at_a_minimum_near_it_by_one_over_n():
    teacher = teachers([TeacherConfig("random", 2, 3, 2, 2.0, (1.0, 0.6), s) for s in SEEDS], Erf())
    found = []
    for n in (1e3, 1e4):
        p = problem(torch.erf, teacher, X, contexts(n))
        theta = minimise(p, teacher.theta, 20)
        gradient, second = derivatives(p, theta)
        curvature = torch.linalg.eigvalsh(second)
        assert gradient.norm(dim=1).max() < 1e-8 and (curvature[:, 0] > -1e-7 * curvature[:, -1]).all()
        found.append(distance(p, theta))
        assert (to_teacher(p, theta, teacher.w) < 100 / n).all()
    assert (found[0] / found[1]).tolist() == pytest.approx([10, 10], rel=0.05)


def test_beside_a_saddle_there_is_a_minimum_whose_radius_is_predicted():
    p, theta = saddle(1e4)
    gradient, second = derivatives(p, theta)
    curvature = torch.linalg.eigvalsh(second)
    assert gradient.norm(dim=1).max() < 1e-7 and (curvature[:, 0] > -1e-7 * curvature[:, -1]).all()
    assert (unstable(p, theta)[0] < -0.1).all()  # of L, where it is a saddle
    alone = torch.zeros_like(theta)
    alone[:, 1, 3] = 2**0.5
    ratio = radius(p, theta, alone) / predicted_radius(p, theta, alone)
    assert ratio.tolist() == pytest.approx([1, 1], rel=0.02)
    assert radius(p, theta, alone, longest=1e-4).isnan().all()


def test_what_does_not_fit_is_refused():
    teacher = Particles(*(part[:1] for part in teachers([TeacherConfig("random", 4, 3, 2, 2.0)], Erf())))
    with pytest.raises(ConfigError, match="n="):
        problem(torch.erf, teacher, X, contexts(30))
