"""What kernel products, velocities and Hessian products have in common: a teacher and a start, the exact loss in JAX, sampled inputs.

d = 20, k = 5, erf, float64: the axes teacher and the documented random start. What samples inputs is extrapolated to a relative
error of ``WANTED``: error as S^-1/2, time as S.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Case, relative
from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers

D, K = 20, 5
WANTED = 0.01  # relative L2 error, root mean square over ``DRAWS`` of the inputs
DRAWS = 3


def setting(n: int, d: int = D, k: int = K) -> tuple[Particles, Particles]:
    """Teacher and N particles."""
    teacher = teachers([TeacherConfig("axes", k, max(d, k), k, spectrum=(1.0,) * k)], Erf())
    return teacher, initial_particles([InitConfig("aligned", n, max(d, k), k)])


def jax_loss(teacher: Particles, mu: Particles) -> tuple[Callable[..., Any], tuple[Any, Any]]:
    """The exact loss as a function of (a, w) for JAX, kernels written out, and a and w. Its constant tr C / 2 is left out."""
    from benchmarks.jax_cpu import jax, jnp

    def of(part: Tensor) -> jax.Array:
        return jnp.asarray(part[0].numpy())

    def gram(w: jax.Array, v: jax.Array) -> jax.Array:
        lengths = jnp.sqrt((1 + 2 * (w**2).sum(1))[:, None] * (1 + 2 * (v**2).sum(1)))
        return 2 / jnp.pi * jnp.arcsin(2 * w @ v.T / lengths)

    known_w, known, masses = of(teacher.w), of(teacher.a * teacher.p[..., None]), of(mu.p)

    def loss(theta: tuple[jax.Array, jax.Array]) -> jax.Array:
        a, w = theta
        weighted = a * masses[:, None]
        cross, own = (gram(w, known_w) @ known).T @ weighted, (gram(w, w) @ weighted).T @ weighted
        return -(cross * jnp.linalg.solve(own, cross.T).T).sum() / 2

    return loss, (of(mu.a), of(mu.w))


def sampled_loss(teacher: Particles, mu: Particles, x: Tensor) -> Tensor:
    """The loss on inputs x (S, d), for autograd: features first, so no N x N array is needed."""
    f = (teacher.w @ x.T).erf().mT @ (teacher.a * teacher.p[..., None])
    h = (mu.w @ x.T).erf().mT @ (mu.a * mu.p[..., None])  # (E, S, k)
    cross, own = f.mT @ h / len(x), h.mT @ h / len(x)
    return ((f**2).sum() / len(x) - (cross * torch.linalg.solve(own, cross.mT).mT).sum()) / 2


def against(
    ours: Case,
    exact: Tensor,
    others: Mapping[str, Callable[[], Tensor]],
    tolerance: float,
    sampled: Callable[[int], Tensor],
    name: str = "sampled inputs, at 1 %",
) -> list[Case]:
    """The alternatives to ours, whose result is `exact`: the others to `tolerance` (relative), and one on the inputs of a seed."""
    errors = [relative(exact, sampled(seed)) for seed in range(DRAWS)]
    error = float(np.sqrt(np.mean(np.square(errors))))
    work = min(1.0, (WANTED / error) ** 2)

    def case(name: str, call: Callable[[], Tensor], work: float, tolerance: float) -> Case:
        differs = lambda: relative(exact, call()) * work**0.5  # noqa: E731  extrapolated where the time is
        return Case(ours.benchmark, name, ours.size, ours.unit, call, work, differs, tolerance)

    found = [case(other, call, 1, tolerance) for other, call in others.items()]
    return [*found, case(name, partial(sampled, 0), work, 3 * WANTED)]
