"""Hessian-vector products of the exact loss on particles: ours against three other ways to differentiate twice, and sampled inputs.

What a Lanczos step calls is timed. All prepare what they can beforehand, once a measure; ours is one backward pass through the graph of
the gradient, which is kept, as in "autograd twice": these two differ by noise. No size is published: the centre, 128 particles, is a choice made for this benchmark. The
chapter on perturbations (K6) has 16, the smallest size here.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, linearize

from benchmarks.case import Case, Size, counted, sizes
from benchmarks.exact_loss import D, K, against, jax_loss, sampled_loss, setting
from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.hessian import exact_loss, hessian_product
from icl_lib.mean_field.measure import Particles
from icl_lib.mean_field.sampled import gaussian_inputs
from icl_lib.rng import generator

AXES = sizes("N", 128)
SAMPLES = 2000
UNIT = "s per product"
TOLERANCE = 1e-8  # relative
Product = Callable[[Tensor], Tensor]


def direction(mu: Particles) -> Tensor:
    shape = (1, mu.a.shape[1], K + D)
    return torch.randn(shape, generator=generator(0, "direction"), dtype=torch.float64)


def on_particles(loss: Callable[[Particles], Tensor], mu: Particles) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A loss as a function of the coordinates theta = (a, w), and those of mu."""
    return lambda t: loss(Particles(t[..., :K], t[..., K:], mu.p)).sum(), torch.cat([mu.a, mu.w], 2)


def double_backward(loss: Callable[[Particles], Tensor], mu: Particles) -> Product:
    """torch.autograd twice; the graph of the gradient is made once and kept."""
    of_theta, theta = on_particles(loss, mu)
    theta.requires_grad_()
    (gradient,) = torch.autograd.grad(of_theta(theta), theta, create_graph=True)
    return lambda u: torch.autograd.grad(gradient, theta, u, retain_graph=True)[0]


def linearised(teacher: Particles, mu: Particles) -> Product:
    """torch.func: the gradient linearised once."""
    of_theta, theta = on_particles(partial(exact_loss, Erf(), teacher), mu)
    return linearize(grad(of_theta), theta)[1]


def jax_product(teacher: Particles, mu: Particles, u: Tensor) -> Callable[[], Tensor]:
    """JAX: the gradient linearised once, compiled."""
    from benchmarks.jax_cpu import jax, jnp

    loss, theta = jax_loss(teacher, mu)
    tangent = tuple(jnp.asarray(part.numpy()) for part in (u[0, :, :K], u[0, :, K:]))
    product = jax.linearize(jax.grad(loss), theta)[1]
    compiled = jax.jit(lambda v: jnp.concatenate(product(v), 1))
    return lambda: torch.tensor(np.array(compiled(tangent)))[None]


def sampled(teacher: Particles, mu: Particles, u: Tensor, seed: int) -> Tensor:
    """Double backward through the loss on inputs that are drawn anew for each product."""
    x = gaussian_inputs(SAMPLES, D, generator(seed, "benchmark inputs"))
    return double_backward(lambda now: sampled_loss(teacher, now, x), mu)(u)


def at(size: Size) -> list[Case]:
    """All variants at one size; what a Lanczos step calls is timed, not what is prepared once."""
    teacher, mu = setting(int(size.value))
    u = direction(mu)
    product = hessian_product(Erf(), teacher, mu)
    ours = lambda: product(u)  # noqa: E731
    others: dict[str, Callable[[], Tensor]] = {
        "autograd twice": partial(double_backward(partial(exact_loss, Erf(), teacher), mu), u),
        "torch.func linearize of grad": partial(linearised(teacher, mu), u),
        "JAX jit, linearize of grad": jax_product(teacher, mu, u),
    }
    case = Case("Hessian product", "ours", size, UNIT, ours, flop=counted(ours), precision="float64")
    return [case, *against(case, ours(), others, TOLERANCE, partial(sampled, teacher, mu, u))]


def cases() -> list[Case]:
    return [case for size in AXES for case in at(size)]
