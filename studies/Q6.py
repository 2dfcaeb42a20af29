"""Finite width and batches: minima of narrow models with a certificate, and descent on sampled inputs (question Q6; ours)."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from icl_lib.mean_field.hessian import dense_blocks
from icl_lib.mean_field.integrate import Change, State, capped, euler, speed2
from icl_lib.mean_field.kernels import Kernel, Sampled
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import NonFinite, Particles, SingularCovariance
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer, require_number


class Signs(NamedTuple):
    """Eigenvalues of the particle Hessian by sign: how many below, within and above a tolerance around 0."""

    negative: Int[Tensor, " E"]
    zero: Int[Tensor, " E"]
    positive: Int[Tensor, " E"]

    def certified(self, k: int) -> Tensor:
        """Whether a critical point is a minimum that is isolated up to a -> G a, which accounts for k^2 zeros."""
        return (self.negative == 0) & (self.zero == k * k)


def hessian_signs(kernel: Kernel, teacher: Particles, mu: Particles, tolerance: float = 1e-6) -> Signs:
    """Signs of the eigenvalues of d2L/dtheta2 on the particles; one teacher for all members.

    Args:
        tolerance: eigenvalues below this share of the largest count as 0.
    """
    require(len(teacher.p) == 1, "teacher", len(teacher.p), "one, shared by all members")
    require_number("tolerance", tolerance, 1e-14, 0.1)
    shared = Particles(*(part.expand(len(mu.p), *part.shape[1:]) for part in teacher))
    values = torch.cat([torch.linalg.eigvalsh(hessian) for _, hessian in dense_blocks(kernel, shared, mu)])
    level = tolerance * values.abs().amax(1, keepdim=True)
    return Signs((values < -level).sum(1), (values.abs() <= level).sum(1), (values > level).sum(1))


def kept_on(axes: tuple[int, ...]) -> Change:
    """A change for ``flow`` that keeps w on some inputs: the others are set to 0 after every step."""

    def change(state: State, dt: float) -> Particles:
        mask = torch.zeros(state.mu.w.shape[2], dtype=state.mu.w.dtype)
        mask[list(axes)] = 1
        return state.mu._replace(w=state.mu.w * mask)

    return change


class Batches(NamedTuple):
    """How to descend on batches: inputs per step, step size, longest movement of a step, steps."""

    size: int
    dt: float = 0.1
    cap: float = 0.3
    n_steps: int = 200


def descend_on_batches(teacher: Particles, mu: Particles, run: Batches, seed: int) -> Particles:
    """Euler steps of one member whose moments A and B are those of a fresh batch of inputs; sigma = erf.

    The tasks are averaged over exactly, the inputs are not: batch `step` is from the stream (seed, "train", step). A batch on
    which the model's features are dependent is passed over.

    >>> from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, teachers
    >>> from icl_lib.mean_field.kernels import Erf
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2)], Erf())
    >>> mu = descend_on_batches(teacher, initial_particles([InitConfig(n=8, d=4, k=2)]), Batches(16, n_steps=3), 0)
    >>> mu.w.shape
    torch.Size([1, 8, 4])
    """
    require(len(mu.p) == 1, "mu", len(mu.p), "an ensemble of one")
    require_integer("size", run.size, mu.a.shape[2], allowed="at least k: the features of fewer inputs are dependent")
    for step in range(run.n_steps):
        x = torch.randn(run.size, mu.w.shape[2], generator=generator(seed, "train", step), dtype=mu.w.dtype)
        try:
            v = velocity(Sampled(torch.erf, x), teacher, mu)
        except (SingularCovariance, NonFinite):
            continue
        mu = euler(mu, v.a, v.w, capped(speed2(mu, v.a, v.w), run.dt, run.cap))
    return mu
