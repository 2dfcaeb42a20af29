"""The process without its matrix against the one with it; the field at the particles against the velocity."""

import torch

from icl_lib.mean_field.changes import draw_process
from icl_lib.mean_field.critical_points import gaussian_process
from icl_lib.mean_field.kernels import activation
from icl_lib.mean_field.landscape import velocity, velocity_at
from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, teachers

SEEDS = [1000, 1001]
KERNEL = activation("tanh").kernel()
TEACHER = teachers([TeacherConfig("random", 4, 4, 2, 2.0, (1.0, 0.5), s) for s in SEEDS], KERNEL)
MU = initial_particles([InitConfig("aligned", 7, 4, 3, 2.0, s) for s in SEEDS])
P = torch.rand(2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
MU = MU._replace(p=P / P.sum(1, keepdim=True))


def test_field_at_the_particles_is_the_velocity() -> None:
    v = velocity(KERNEL, TEACHER, MU)
    torch.testing.assert_close(velocity_at(KERNEL, TEACHER, MU, MU.a, MU.w), torch.cat([v.a, v.w], 2))
    some = velocity_at(KERNEL, TEACHER, MU, MU.a[:, 2:4], MU.w[:, 2:4])
    torch.testing.assert_close(some, torch.cat([v.a, v.w], 2)[:, 2:4])


def test_process_is_that_of_the_matrix() -> None:
    exact = gaussian_process(KERNEL, TEACHER, MU, SEEDS, 3)
    found = draw_process(KERNEL, TEACHER, MU, SEEDS, 3)
    assert (found - exact).abs().max() < 1e-5 * exact.abs().max()
    assert not torch.equal(found, draw_process(KERNEL, TEACHER, MU, SEEDS, 4))
