"""The exact velocity of Paper K's flow, which a step needs, against the same gradient by autograd, by JAX and by sampled inputs.

The published width is 500. Sampled inputs are extrapolated to 1 % relative error of the gradient in w.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Case, Size, sizes
from benchmarks.exact_loss import D, K, against, jax_loss, sampled_loss, setting
from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.hessian import exact_loss
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import Particles
from icl_lib.mean_field.sampled import gaussian_inputs
from icl_lib.rng import generator

AXES = [*sizes("N", 500), *sizes("d", D, least=K), *sizes("k", K)]
SAMPLES = 2000  # inputs that are timed
UNIT = "s per velocity"
TOLERANCE = 1e-8  # relative


def flops(n: int, n_teacher: int, d: int, k: int) -> int:
    """Arithmetic of the products of one velocity, each once and no symmetry used.

    W V^T, K R, L R^T and the product with V, over student and teacher columns. That we form W V^T in both passes is not
    counted as work, and halves that symmetry saves are.
    """
    return 2 * n * (n + n_teacher) * (2 * d + 2 * k)


def ours(teacher: Particles, mu: Particles) -> Tensor:
    """Gradient of the loss in w."""
    return -velocity(Erf(), teacher, mu).w * mu.p[..., None]


def autograd_exact(teacher: Particles, mu: Particles) -> Tensor:
    """The same through the exact loss, kernels written out; that in a is computed too."""
    a, w = mu.a.clone().requires_grad_(), mu.w.clone().requires_grad_()
    exact_loss(Erf(), teacher, Particles(a, w, mu.p)).sum().backward()
    assert w.grad is not None
    return w.grad


def autograd_sampled(teacher: Particles, mu: Particles, n_samples: int, seed: int) -> Tensor:
    """The same of the loss on sampled inputs."""
    x = gaussian_inputs(n_samples, mu.w.shape[2], generator(seed, "benchmark inputs"))
    a, w = mu.a.clone().requires_grad_(), mu.w.clone().requires_grad_()
    sampled_loss(teacher, Particles(a, w, mu.p), x).backward()
    assert w.grad is not None
    return w.grad


def jax_gradient(teacher: Particles, mu: Particles) -> Callable[[], Tensor]:
    """The same as JAX compiles it."""
    from benchmarks.jax_cpu import jax

    loss, theta = jax_loss(teacher, mu)
    compiled = jax.jit(jax.grad(loss))
    return lambda: torch.tensor(np.array(compiled(theta)[1]))[None]


def jax_vmap_gradient(teacher: Particles, mu: Particles) -> Callable[[], Tensor]:
    """The same with the ensemble dimension of ours, jit(vmap(grad)): here one member."""
    from benchmarks.jax_cpu import jax

    loss, theta = jax_loss(teacher, mu)
    compiled, stacked = jax.jit(jax.vmap(jax.grad(loss))), tuple(part[None] for part in theta)
    return lambda: torch.tensor(np.array(compiled(stacked)[1]))


def at(size: Size) -> list[Case]:
    """All variants at one size; d and k are varied for ours alone, at N = 2 000."""
    sizes_of = {"N": 500 if size.axis == "N" else 2000, "d": D, "k": K} | {size.axis: int(size.value)}
    n, d, k = sizes_of["N"], sizes_of["d"], sizes_of["k"]
    teacher, mu = setting(n, d, k)
    call = lambda: ours(teacher, mu)  # noqa: E731
    case = Case("velocity", "ours", size, UNIT, call, flop=flops(n, k, max(d, k), k), precision="float64")
    if size.axis != "N":
        return [case]
    others = {
        "autograd, exact loss": lambda: autograd_exact(teacher, mu),
        "JAX jit(grad), exact loss": jax_gradient(teacher, mu),
        "JAX jit(vmap(grad))": jax_vmap_gradient(teacher, mu),
    }
    sampled = partial(autograd_sampled, teacher, mu, SAMPLES)
    return [case, *against(case, call(), others, TOLERANCE, sampled)]


def cases() -> list[Case]:
    return [case for size in AXES for case in at(size)]
