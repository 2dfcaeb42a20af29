"""Paper K's hot paths on particles: kernel products, velocities, Hessian products, each against the same by other means.

d = 20, k = 5, erf, float64: the axes teacher and the documented random start. Exact alternatives are the kernels written out in torch
and in JAX and differentiated by either; another samples inputs. Its time is extrapolated to a relative error of ``WANTED``: error as
S^-1/2, time as S.

Kernel products and velocities are centred at the published width, 500. Of Hessian products no size is published: the centre, 128 particles, is
a choice made for this benchmark; the chapter on perturbations (K6) has 16, the smallest size here. What a Lanczos step calls is timed. All
prepare what they can beforehand, once a measure.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, linearize

from benchmarks.case import Case, Size, beside, relative, sizes
from icl_lib.mean_field.hessian import exact_loss, hessian_product
from icl_lib.mean_field.kernels import Erf, Sampled, gaussian_inputs
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.rng import generator

D, K = 20, 5
WANTED = 0.01  # relative L2 error, root mean square over ``DRAWS`` of the inputs
DRAWS = 3
SAMPLES, KERNEL_SAMPLES = 2000, 4096  # inputs that are timed
TOLERANCE = 1e-8  # relative
WIDTHS, VELOCITIES, HESSIANS = (
    sizes("N", 500),
    [*sizes("N", 500), *sizes("d", D, least=K), *sizes("k", K)],
    sizes("N", 128),
)
Loss = Callable[[Particles], Tensor]


def setting(n: int, d: int = D, k: int = K) -> tuple[Particles, Particles]:
    """Teacher and N particles."""
    teacher = teachers([TeacherConfig("axes", k, max(d, k), k, spectrum=(1.0,) * k)], Erf())
    return teacher, initial_particles([InitConfig("aligned", n, max(d, k), k)])


def inputs(n_samples: int, d: int, seed: int) -> Tensor:
    return gaussian_inputs(n_samples, d, generator(seed, "benchmark inputs"))


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
    others: Mapping[str, Callable[[], Tensor]],
    sampled: Callable[[int], Tensor],
    tolerance: float = TOLERANCE,
    name: str = "sampled inputs, at 1 %",
) -> list[Case]:
    """Ours, the exact alternatives, and one on the inputs of a seed."""
    exact = ours.call()
    errors = [relative(exact, sampled(seed)) for seed in range(DRAWS)]
    work = min(1.0, (WANTED / float(np.sqrt(np.mean(np.square(errors))))) ** 2)

    def extrapolated(ours: Tensor, theirs: object) -> float:
        return relative(ours, theirs) * work**0.5

    (_, last) = beside(ours, {name: partial(sampled, 0)}, 3 * WANTED, extrapolated)
    return [*beside(ours, others, tolerance, relative), last._replace(work=work)]


# Products with the exact kernel, K(w, w) R.


def written_out(mu: Particles) -> Tensor:
    """The formula in torch, with the N x N kernel in memory."""
    length = 1 + 2 * mu.w.square().sum(-1)
    inner = 2 * mu.w @ mu.w.mT / (length[..., None] * length[:, None]).sqrt()
    return 2 / torch.pi * inner.asin() @ (mu.a * mu.p[..., None])


def kernels(size: Size) -> list[Case]:
    """All variants at one size."""
    _, mu = setting(n := int(size.value))

    def products(kernel: Any) -> Tensor:
        return kernel.products(mu.w, mu.w, mu.a * mu.p[..., None])

    def monte_carlo(seed: int) -> Tensor:
        """On sampled inputs, features first."""
        return products(Sampled(torch.erf, inputs(KERNEL_SAMPLES, D, seed)))

    flop, ours = 2 * n * n * (D + K), partial(products, Erf())
    case = Case("exact kernel", "ours", size, "s per product", ours, flop=flop, precision="float64")
    return against(case, {"torch, written out": partial(written_out, mu)}, monte_carlo, 1e-10, "Monte Carlo, at 1 %")


# The velocity, which a step of the flow needs.


def flops(n: int, n_teacher: int, d: int, k: int) -> int:
    """Arithmetic of the products of one velocity, each once and no symmetry used.

    W V^T, K R, L R^T and the product with V, over student and teacher columns. That we form W V^T in both passes is not
    counted as work, and halves that symmetry saves are.
    """
    return 2 * n * (n + n_teacher) * (2 * d + 2 * k)


def gradient(teacher: Particles, mu: Particles) -> Tensor:
    """Gradient of the loss in w: ours."""
    return -velocity(Erf(), teacher, mu).w * mu.p[..., None]


def autograd(loss: Loss, mu: Particles) -> Tensor:
    """The same through a loss; that in a is computed too."""
    a, w = mu.a.clone().requires_grad_(), mu.w.clone().requires_grad_()
    loss(Particles(a, w, mu.p)).sum().backward()
    assert w.grad is not None
    return w.grad


def autograd_exact(teacher: Particles, mu: Particles) -> Tensor:
    """Kernels written out."""
    return autograd(partial(exact_loss, Erf(), teacher), mu)


def autograd_sampled(teacher: Particles, mu: Particles, n_samples: int, seed: int) -> Tensor:
    x = inputs(n_samples, mu.w.shape[2], seed)
    return autograd(lambda now: sampled_loss(teacher, now, x), mu)


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


def numpy_gradient(teacher: Particles, mu: Particles) -> Tensor:
    """The same in plain NumPy, as one would write it: whole arrays, arcsin and its derivative by hand, Z formed once."""
    (a, w, p), (a_0, w_0, p_0) = ([part[0].numpy() for part in nu] for nu in (mu, teacher))
    u, known = a * p[:, None], a_0 * p_0[:, None]
    scale, scale_0 = (1 / np.sqrt(0.5 + (x * x).sum(1)) for x in (w, w_0))
    phi, phi_0 = w * scale[:, None], w_0 * scale_0[:, None]
    z, z_0 = phi @ phi.T, phi @ phi_0.T
    q, f = 2 / np.pi * np.arcsin(z) @ u, 2 / np.pi * np.arcsin(z_0) @ known
    m = np.linalg.solve(q.T @ u, (f.T @ u).T).T
    left = a @ m.T
    inner = ((left @ known.T) / np.sqrt(1 - z_0 * z_0)) @ phi_0 - ((left @ (u @ m.T).T) / np.sqrt(1 - z * z)) @ phi
    inner -= phi * (phi * inner).sum(1)[:, None]
    return torch.from_numpy(-2 / np.pi * scale[:, None] * inner * p[:, None])[None]


def velocities(size: Size) -> list[Case]:
    """All variants at one size; d and k are varied for ours alone, at N = 2 000."""
    n, d, k = (int(size.value) if size.axis == axis else known for axis, known in (("N", 2000), ("d", D), ("k", K)))
    teacher, mu = setting(n, d, k)
    ours, flop = partial(gradient, teacher, mu), flops(n, k, max(d, k), k)
    case = Case("velocity", "ours", size, "s per velocity", ours, flop=flop, precision="float64")
    if size.axis != "N":
        return [case]
    others: dict[str, Callable[[], Tensor]] = {
        "NumPy, by hand": partial(numpy_gradient, teacher, mu),
        "autograd, exact loss": partial(autograd_exact, teacher, mu),
        "JAX jit(grad), exact loss": jax_gradient(teacher, mu),
        "JAX jit(vmap(grad))": jax_vmap_gradient(teacher, mu),
    }
    return against(case, others, partial(autograd_sampled, teacher, mu, SAMPLES))


# Hessian-vector products of the exact loss.


def direction(mu: Particles) -> Tensor:
    shape = (1, mu.a.shape[1], K + D)
    return torch.randn(shape, generator=generator(0, "direction"), dtype=torch.float64)


def on_particles(loss: Loss, mu: Particles) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A loss as a function of the coordinates theta = (a, w), and those of mu."""
    return lambda t: loss(Particles(t[..., :K], t[..., K:], mu.p)).sum(), torch.cat([mu.a, mu.w], 2)


def double_backward(loss: Loss, mu: Particles) -> Callable[[Tensor], Tensor]:
    """torch.autograd twice; the graph of the gradient is made once and kept."""
    of_theta, theta = on_particles(loss, mu)
    theta.requires_grad_()
    (gradient,) = torch.autograd.grad(of_theta(theta), theta, create_graph=True)
    return lambda u: torch.autograd.grad(gradient, theta, u, retain_graph=True)[0]


def jax_product(teacher: Particles, mu: Particles, u: Tensor) -> Callable[[], Tensor]:
    """JAX: the gradient linearised once, compiled."""
    from benchmarks.jax_cpu import jax, jnp

    loss, theta = jax_loss(teacher, mu)
    tangent = tuple(jnp.asarray(part.numpy()) for part in (u[0, :, :K], u[0, :, K:]))
    product = jax.linearize(jax.grad(loss), theta)[1]
    compiled = jax.jit(lambda v: jnp.concatenate(product(v), 1))
    return lambda: torch.tensor(np.array(compiled(tangent)))[None]


def products_of(teacher: Particles, mu: Particles, u: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Ours and the exact alternatives, prepared."""
    loss = partial(exact_loss, Erf(), teacher)
    of_theta, theta = on_particles(loss, mu)
    return {
        "ours": partial(hessian_product(Erf(), teacher, mu), u),
        "autograd twice": partial(double_backward(loss, mu), u),
        "torch.func linearize of grad": partial(linearize(grad(of_theta), theta)[1], u),
        "JAX jit, linearize of grad": jax_product(teacher, mu, u),
    }


def hessians(size: Size) -> list[Case]:
    """All variants at one size."""
    teacher, mu = setting(int(size.value))
    u = direction(mu)
    others = products_of(teacher, mu, u)
    ours = others.pop("ours")

    def sampled(seed: int) -> Tensor:
        """Double backward through the loss on inputs that are drawn anew for each product."""
        x = inputs(SAMPLES, D, seed)
        return double_backward(lambda now: sampled_loss(teacher, now, x), mu)(u)

    case = Case("Hessian product", "ours", size, "s per product", ours, precision="float64")
    return against(case, others, sampled)
