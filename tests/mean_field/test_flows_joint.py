"""The joint flow: against autograd, its conserved quantity, Lemma 3.1's rate, and the limit of two timescales."""

import math

import numpy as np
import pytest
import torch

from icl_lib.errors import Diverged
from icl_lib.mean_field.changes import noisy_copies
from icl_lib.mean_field.flows import FlowConfig, Joint, attention_velocity, flow, joint_flow, joint_velocity, start
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, loss, loss_at, velocity
from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, member, teachers
from icl_lib.rng import generator
from icl_lib.validate import ConfigError
from studies.K2 import invariant, linear_rate

D, K, N = 4, 2, 8
KERNEL = Erf()
TEACHER = teachers([TeacherConfig("axes", K, D, K, 2.0, (1.0, 0.5))] * 2, KERNEL)
MU = initial_particles([InitConfig("aligned", N, D, K, 2.0, seed) for seed in (0, 1)])
W = torch.randn(2, K, K, generator=generator(0, "check"), dtype=torch.float64)


def exact_l_tf(a: torch.Tensor, w: torch.Tensor, big_w: torch.Tensor) -> torch.Tensor:
    """L_TF through the kernel written out."""
    mine, known = a * MU.p[..., None], TEACHER.a * TEACHER.p[..., None]
    cross = known.mT @ KERNEL.gram(TEACHER.w, w) @ mine
    own = mine.mT @ KERNEL.gram(w, w) @ mine
    c = known.mT @ KERNEL.gram(TEACHER.w, TEACHER.w) @ known
    aw = cross @ big_w
    return (c - 2 * aw @ cross.mT + aw @ own @ aw.mT).diagonal(dim1=1, dim2=2).sum() / 2


def test_velocity_is_the_gradient_of_the_loss() -> None:
    a, w, big_w = (x.clone().requires_grad_() for x in (MU.a, MU.w, W))
    g_a, g_w, g_big = torch.autograd.grad(exact_l_tf(a, w, big_w), (a, w, big_w))
    d_a, d_w, d_big = joint_velocity(KERNEL, TEACHER, MU, W)
    p = MU.p[..., None]
    for mine, theirs in ((p * d_a, g_a), (p * d_w, g_w), (d_big, g_big)):
        assert (mine + theirs).abs().max() < 1e-12 * theirs.abs().max()


def test_at_the_optimum_it_is_the_velocity_of_two_timescales() -> None:
    cov = covariances(KERNEL, TEACHER, MU)
    d_a, d_w, d_big = joint_velocity(KERNEL, TEACHER, MU, cov.optimum)
    v = velocity(KERNEL, TEACHER, MU)
    assert (d_a - v.a).abs().max() < 1e-12 and (d_w - v.w).abs().max() < 1e-12 and d_big.abs().max() < 1e-12
    torch.testing.assert_close(loss_at(cov, cov.optimum), loss(cov))


def test_conserved_matrix() -> None:
    first = Joint(MU, W, 0.0)
    last, history = joint_flow(KERNEL, TEACHER, first, 3.0, 0.005, 0.5, every=20)
    assert (invariant(last, 3.0) - invariant(first, 3.0)).abs().max() < 1e-7 < (last.w - W).abs().max()
    assert (history.groupby("member")["loss"].diff().dropna() < 0).all()
    assert (history["optimum"] <= history["loss"] + 1e-12).all()


def test_linear_rate_of_w_at_fixed_particles() -> None:
    """W off its optimum along the slowest mode comes back at half the rate of the lemma, which is that of the loss."""
    cov = covariances(KERNEL, TEACHER, MU)
    u, v = (torch.linalg.eigh(x)[1][:, :, :1] for x in (cov.a.mT @ cov.a, cov.b))
    slow = 1e-6 * u @ v.mT
    expected = -(linear_rate(cov) / 2)[:, None, None] * slow
    torch.testing.assert_close(attention_velocity(cov, cov.optimum + slow), expected, rtol=1e-6, atol=1e-14)


def test_a_large_ratio_tracks_the_two_timescales() -> None:
    mu = noisy_copies(TEACHER, 4, 1.0, [0, 1])
    _, limit = flow(KERNEL, TEACHER, start(mu), FlowConfig("rk4", 0.05, 1.0, every=1.0))
    best = limit[limit["time"] > 0].set_index("member")["loss"]
    first = Joint(mu, covariances(KERNEL, TEACHER, mu).optimum, 0.0)
    gaps = []
    for ratio, dt in ((10.0, 0.02), (100.0, 0.005)):
        _, history = joint_flow(KERNEL, TEACHER, first, ratio, dt, 1.0, every=10**6)
        last = history[history["time"] > 0].set_index("member")["loss"]
        gaps.append((last - best).abs().max())
    assert gaps[0] > 3 * gaps[1], gaps


def test_resumed_is_uninterrupted() -> None:
    first = Joint(MU, W, 0.0)
    whole, _ = joint_flow(KERNEL, TEACHER, first, 2.0, 0.05, 0.4)
    half, _ = joint_flow(KERNEL, TEACHER, first, 2.0, 0.05, 0.2)
    resumed, _ = joint_flow(KERNEL, TEACHER, half, 2.0, 0.05, 0.4)
    assert (whole.mu.w - resumed.mu.w).abs().max() < 1e-13 and math.isclose(resumed.time, 0.4)


def test_bad_values_and_divergence() -> None:
    first = Joint(MU, W, 0.0)
    for arguments, message in (((-1.0, 0.1, 1.0), "ratio=-1.0"), ((1.0, 0.0, 1.0), "dt=0.0")):
        with pytest.raises(ConfigError, match=message):
            joint_flow(KERNEL, TEACHER, first, *arguments)
    with pytest.raises(ConfigError, match=r"w=\(2, 3, 3\)"):
        joint_flow(KERNEL, TEACHER, Joint(MU, torch.zeros(2, 3, 3).double(), 0.0), 1.0, 0.1, 1.0)
    with pytest.raises(Diverged, match="dt=100.0"):
        joint_flow(KERNEL, TEACHER, first, 1e6, 100.0, 1000.0)
    assert np.isfinite(joint_flow(KERNEL, TEACHER, first, 0.0, 0.1, 0.2)[1]["loss"]).all()


def test_members_are_solo_runs() -> None:
    both, _ = joint_flow(KERNEL, TEACHER, Joint(MU, W, 0.0), 2.0, 0.1, 0.3)
    alone, _ = joint_flow(KERNEL, member(TEACHER, 1), Joint(member(MU, 1), W[1:], 0.0), 2.0, 0.1, 0.3)
    assert (both.mu.a[1] - alone.mu.a[0]).abs().max() < 1e-12 and (both.w[1] - alone.w[0]).abs().max() < 1e-12
