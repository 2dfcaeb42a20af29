"""Hessian-vector products of the exact loss on particles: ours against three other ways to differentiate twice, and sampled inputs.

Ours is torch.func's gradient of a gradient, so the first two alternatives are the same arithmetic in another order. No size is
published: the centre, 128 particles, is a choice made for this benchmark. The chapter on perturbations (K6) has 16, the smallest size here.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp

from benchmarks.case import Case, Size, counted, sizes
from benchmarks.exact_loss import D, K, against, jax_loss, setting
from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.hessian import exact_loss, hessian_product
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles
from icl_lib.mean_field.sampled import Sampled, gaussian_inputs
from icl_lib.rng import generator

AXES = sizes("N", 128)
SAMPLES = 2000
UNIT = "s per product"
TOLERANCE = 1e-8  # relative


def direction(mu: Particles) -> Tensor:
    shape = (1, mu.a.shape[1], K + D)
    return torch.randn(shape, generator=generator(0, "direction"), dtype=torch.float64)


def loss_of(kernel: Kernel, teacher: Particles, mu: Particles) -> Callable[[Tensor], Tensor]:
    return lambda t: exact_loss(kernel, teacher, Particles(t[..., :K], t[..., K:], mu.p)).sum()


def double_backward(kernel: Kernel, teacher: Particles, mu: Particles, u: Tensor) -> Tensor:
    """torch.autograd twice."""
    theta = torch.cat([mu.a, mu.w], 2).requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(kernel, teacher, mu)(theta), theta, create_graph=True)
    return torch.autograd.grad((slope * u).sum(), theta)[0]


def forward_over_reverse(teacher: Particles, mu: Particles, u: Tensor) -> Tensor:
    """torch.func: the jvp of the gradient."""
    theta = torch.cat([mu.a, mu.w], 2)
    return jvp(grad(loss_of(Erf(), teacher, mu)), (theta,), (u,))[1]


def jax_product(teacher: Particles, mu: Particles, u: Tensor) -> Callable[[], Tensor]:
    """JAX: the jvp of the gradient, compiled."""
    from benchmarks.jax_cpu import jax, jnp

    loss, theta = jax_loss(teacher, mu)
    tangent = tuple(jnp.asarray(part.numpy()) for part in (u[0, :, :K], u[0, :, K:]))
    compiled = jax.jit(lambda t, v: jnp.concatenate(jax.jvp(jax.grad(loss), (t,), (v,))[1], 1))
    return lambda: torch.tensor(np.array(compiled(theta, tangent)))[None]


def sampled(teacher: Particles, mu: Particles, u: Tensor, seed: int) -> Tensor:
    """Double backward through the loss on sampled inputs."""
    kernel = Sampled(torch.erf, gaussian_inputs(SAMPLES, D, generator(seed, "benchmark inputs")))
    return double_backward(kernel, teacher, mu, u)


def at(size: Size) -> list[Case]:
    """All variants at one size; what a Lanczos step calls is timed, not what is prepared once."""
    teacher, mu = setting(int(size.value))
    u = direction(mu)
    product = hessian_product(Erf(), teacher, mu)
    ours = lambda: product(u)  # noqa: E731
    others = {
        "autograd twice": lambda: double_backward(Erf(), teacher, mu, u),
        "torch.func jvp of grad": lambda: forward_over_reverse(teacher, mu, u),
        "JAX jit, jvp of grad": jax_product(teacher, mu, u),
    }
    case = Case("Hessian product", "ours", size, UNIT, ours, flop=counted(ours), precision="float64")
    return [case, *against(case, ours(), others, TOLERANCE, partial(sampled, teacher, mu, u))]


def cases() -> list[Case]:
    return [case for size in AXES for case in at(size)]
