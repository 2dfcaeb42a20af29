"""What velocities and Hessian products are compared on: a teacher, a start, and the exact loss as torch and as JAX see it.

d = 20, k = 5, erf, float64: the axes teacher and the documented random start.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers

D, K = 20, 5


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
