"""Derivatives of L in the particles: gradient and Hessian, products, eigenvalues, and the kernel H_mu.

H_mu(theta, theta') = grad_theta grad_theta' d2L/dmu2 (Kim & Suzuki 2024, claim K6); with the closed form, derived by
us, V(theta, theta') = a^T M^T M a' K(w, w') - tr(B^{-1} R(theta)^T R(theta')), R(theta) = g(w) a^T - M a q(w)^T. The
second derivative of L in particles i, j is p_i p_j H_mu(theta_i, theta_j) + [i = j] p_i grad^2 dL/dmu(theta_i).

The dense Hessian is written out, for many small members at once: with M = A B^{-1} held fixed, 2 L is a quadratic form
in the kernels of all pairs; what M gives way is the Schur complement of its own Hessian I x B (derived by us; tests
compare with autograd, which takes four times as long).
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.autograd import grad
from torch.func import jacrev, vmap

from icl_lib.mean_field.kernels import Erf, ErfSum, Kernel, Terms
from icl_lib.mean_field.landscape import Covariances, covariances, trace
from icl_lib.mean_field.measure import Particles, check_teacher, member
from icl_lib.validate import require, require_memory

DENSE = 600  # coordinates N (k + d) up to which the Hessian is written out
BLOCK = 2**25  # entries of dense Hessians that exist at a time, 256 MiB: members pass in blocks


def _checked(kernel: Kernel, teacher: Particles, mu: Particles) -> Covariances:
    """A, B and C; refuses a kernel without second derivatives, and raises where M does."""
    name = type(kernel).__name__
    require(kernel.smooth, "kernel", name, "twice differentiable: Hessians of this one are not available")
    cov = covariances(kernel, teacher, mu)
    cov.m  # noqa: B018
    return cov


def _gram_products(kernel: Kernel, w: Tensor, nu: Particles) -> Tensor:
    return kernel.gram(w, nu.w) @ nu.weighted


def exact_loss(kernel: Kernel, teacher: Particles, mu: Particles) -> Float[Tensor, " E"]:
    """L(mu) through the kernel written out: O(N^2) memory, for autograd. Not finite where Sigma_mumu is singular."""
    weighted = mu.weighted
    a = _gram_products(kernel, mu.w, teacher).mT @ weighted
    b = _gram_products(kernel, mu.w, mu).mT @ weighted
    c = _gram_products(kernel, teacher.w, teacher).mT @ teacher.weighted
    return (trace(c) - (a * torch.linalg.solve_ex(b, a.mT)[0].mT).sum((1, 2))) / 2


def _pairs(kernel: Kernel, w: Float[Tensor, "E N d"], v: Float[Tensor, "E M d"]) -> tuple[Tensor, ...]:
    """K(w_i, v_j), its gradient in w_i, and the second derivatives in w_i twice and in w_i and v_j: (E, N, M, ...)."""
    shape = (*w.shape[:2], *v.shape[1:])
    left, right = (
        part.expand(shape).reshape(-1, 1, shape[-1]).requires_grad_() for part in (w[:, :, None], v[:, None])
    )
    with torch.enable_grad():
        value = kernel.gram(left, right)
        (first,) = grad(value.sum(), left, create_graph=True)
        columns = [grad(first[..., x].sum(), (left, right), retain_graph=True) for x in range(shape[-1])]
    own, mixed = (torch.stack(parts, 2).view(*shape, shape[-1]) for parts in zip(*columns, strict=True))
    return value.detach().view(shape[:-1]), first.detach().view(shape), own, mixed


def gradient_and_hessian(
    kernel: Kernel, teacher: Particles, mu: Particles
) -> tuple[Float[Tensor, "E N q"], Float[Tensor, "E N q N q"]]:
    """First and second derivatives of L(mu) in theta_i = (a_i, w_i), q = k + d; O(N^2 q^2) memory a member.

    >>> from icl_lib.mean_field import Erf, InitConfig, TeacherConfig, initial_particles, teachers
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2)], Erf())
    >>> gradient, hessian = gradient_and_hessian(Erf(), teacher, initial_particles([InitConfig(n=5, d=4, k=2)]))
    >>> gradient.shape, hessian.shape
    (torch.Size([1, 5, 6]), torch.Size([1, 5, 6, 5, 6]))
    """
    check_teacher(teacher, mu)
    n, k, q = *mu.a.shape[1:], mu.theta.shape[2]
    require_memory("particles", tuple(mu.w.shape), 16.0 * len(mu.a) * (n * q) ** 2)
    u, known = mu.weighted, teacher.weighted
    value, gradient, own, mixed = _pairs(kernel, mu.w, torch.cat([mu.w, teacher.w], 1))
    inner, mixed = value[:, :, :n], mixed[:, :, :n]
    features = inner @ u  # q(w_i) = E[h sigma(w_i^T x)]
    b_inv = torch.linalg.inv(u.mT @ features)
    m = known.mT @ value[:, :, n:].mT @ u @ b_inv
    left = u @ m.mT
    right = torch.cat([left, -known], 1)  # of all that a neuron pairs with: L = const + sum_ij left_i right_j K_ij
    c = left @ right.mT
    miss = value @ right  # -g(w_i)
    d_miss = torch.einsum("ejc,eijx->eicx", right, gradient)
    d_features = torch.einsum("eju,eijx->eiux", u, gradient[:, :, :n])

    first = torch.cat([miss @ m, torch.einsum("eij,eijx->eix", c, gradient)], 2)
    second = u.new_zeros(len(u), n, q, n, q)
    second[:, :, :k, :, :k] = torch.einsum("eij,euv->eiujv", inner, m.mT @ m)
    cross = torch.einsum("eju,ejix->eiujx", left @ m, gradient[:, :, :n])
    cross.diagonal(dim1=1, dim2=3).add_(torch.einsum("ecu,eicx->euxi", m, d_miss))
    second[:, :, :k, :, k:], second[:, :, k:, :, :k] = cross, cross.permute(0, 3, 4, 1, 2)
    of_w = second[:, :, k:, :, k:]
    of_w.copy_(torch.einsum("eij,eijxy->eixjy", c[:, :, :n], mixed))
    of_w.diagonal(dim1=1, dim2=3).add_(torch.einsum("eij,eijxy->exyi", c, own))

    moved = u.new_empty(*m.shape, n, q)  # how the gradient in M moves with theta
    moved[..., :k] = torch.einsum("eic,uv->ecuiv", miss, torch.eye(k, dtype=u.dtype))
    moved[..., :k] += torch.einsum("ecv,eiu->ecuiv", m, features)
    moved[..., k:] = torch.einsum("eicx,eiu->ecuix", d_miss, u) + torch.einsum("eic,eiux->ecuix", left, d_features)
    second -= torch.einsum("ecuix,euv,ecvjy->eixjy", moved, b_inv, moved)
    size = torch.cat([mu.p[..., None].expand_as(mu.a), torch.ones_like(mu.w)], 2)  # from a_i p_i, w_i to a_i, w_i
    return first * size, second * size[..., None, None] * size[:, None, None]


def dense_blocks(
    kernel: Kernel, teacher: Particles, mu: Particles
) -> Iterator[tuple[Float[Tensor, "B P"], Float[Tensor, "B P P"]]]:
    """Gradients and Hessians in flat coordinates, P = N q, of as many members at a time as make ``BLOCK`` entries."""
    check_teacher(teacher, mu)
    step = max(1, BLOCK // mu.theta[0].numel() ** 2)
    for i in range(0, len(mu.p), step):
        some = (Particles(*(part[i : i + step] for part in nu)) for nu in (teacher, mu))
        gradient, hessian = gradient_and_hessian(kernel, *some)
        yield gradient.flatten(1), hessian.flatten(3).flatten(1, 2)


def hessian_product(
    kernel: Kernel, teacher: Particles, mu: Particles
) -> Callable[[Float[Tensor, "E N q"]], Float[Tensor, "E N q"]]:
    """The map u -> (d2L/dtheta2) u on particle coordinates theta_i = (a_i, w_i), q = k + d.

    Erf and its sums: the derivative of the velocity along u, in closed form (derived by us); O(N^2) time, O(N) memory.
    Other kernels: one backward pass through the graph of the gradient, which is kept; O(N^2) memory.

    Raises:
        ConfigError: a kernel without second derivatives.
        SingularCovariance: B cannot be inverted.
        icl_lib.mean_field.measure.NonFinite: A is NaN or infinite.
    """
    if isinstance(kernel, Erf | ErfSum):
        return partial(_product, kernel, teacher, mu, *_given(kernel, teacher, mu))
    _checked(kernel, teacher, mu)
    k, theta = mu.a.shape[2], mu.theta.detach().requires_grad_()
    with torch.enable_grad():
        value = exact_loss(kernel, teacher, Particles(theta[..., :k], theta[..., k:], mu.p)).sum()
        (gradient,) = grad(value, theta, create_graph=True)
    return lambda u: grad(gradient, theta, u, retain_graph=True)[0]


def _given(kernel: Kernel, teacher: Particles, mu: Particles) -> tuple[Tensor, ...]:
    """f(w_i), q(w_i), M and B^{-1}, which all products share."""
    check_teacher(teacher, mu)
    f, q = kernel.products(mu.w, teacher.w, teacher.weighted), kernel.products(mu.w, mu.w, mu.weighted)
    b = q.mT @ mu.weighted
    cov = Covariances(f.mT @ mu.weighted, (b + b.mT) / 2, b)  # C is not needed
    return f, q, cov.m, cov.optimum


def _product(
    kernel: Erf | ErfSum,
    teacher: Particles,
    mu: Particles,
    f: Tensor,
    q: Tensor,
    m: Tensor,
    b_inv: Tensor,
    along: Tensor,
) -> Tensor:
    k, u, known, still = mu.a.shape[2], mu.weighted, teacher.weighted, torch.zeros_like(teacher.w)
    d_w, d_u, d_known = along[..., k:], along[..., :k] * mu.p[..., None], torch.zeros_like(known)
    d_f = kernel.d_products(mu.w, teacher.w, known, d_w, still, d_known)
    d_q = kernel.d_products(mu.w, mu.w, u, d_w, d_w, d_u)
    d_a, d_b = d_f.mT @ u + f.mT @ d_u, d_q.mT @ u + q.mT @ d_u
    d_m = (d_a - m @ d_b) @ b_inv
    d_g = d_f - d_q @ m.mT - q @ d_m.mT  # of g(w_i) = f - M q
    left, d_left = u @ m.mT, u @ d_m.mT + d_u @ m.mT
    of_a = -((f - q @ m.mT) @ d_m + d_g @ m) * mu.p[..., None]
    own = kernel.d_gradient(Terms(mu.w, mu.w, left, left), Terms(d_w, d_w, d_left, d_left))
    others = kernel.d_gradient(Terms(mu.w, teacher.w, left, known), Terms(d_w, still, d_left, d_known))
    return torch.cat([of_a, own - others], 2)


def extreme_eigenvalues(kernel: Kernel, teacher: Particles, mu: Particles) -> Float[Tensor, "E 2"]:
    """Smallest and largest eigenvalue of the particle Hessian; dense up to ``DENSE`` coordinates, Lanczos beyond.

    Raises what ``hessian_product`` does.

    >>> from icl_lib.mean_field import Erf, SaddleConfig, saddle
    >>> teacher, mu = saddle(SaddleConfig(spectrum=(1.0, 0.6), missing=(1,), d=4), Erf())
    >>> lowest, largest = extreme_eigenvalues(Erf(), teacher, mu)[0]
    >>> bool(lowest < -1e-3), bool(largest > 0)
    (True, True)
    """
    _checked(kernel, teacher, mu)
    n, size = mu.a.shape[1], mu.theta[0].numel()
    if size <= DENSE:
        hessians = (hessian for _, hessian in dense_blocks(kernel, teacher, mu))
        return torch.cat([torch.linalg.eigvalsh((one + one.mT) / 2)[:, [0, -1]] for one in hessians])
    found, start = [], np.ones(size)
    for e in range(len(mu.a)):
        product = hessian_product(kernel, member(teacher, e), member(mu, e))

        def apply(u: np.ndarray, product: Callable = product) -> np.ndarray:
            return product(torch.as_tensor(u).reshape(1, n, -1)).flatten().numpy()

        operator = LinearOperator((size, size), matvec=apply, dtype=start.dtype)
        found += [eigsh(operator, 1, which=side, v0=start, return_eigenvectors=False)[0] for side in ("SA", "LA")]
    return torch.tensor(found, dtype=mu.a.dtype).view(-1, 2)


def hessian_kernel(
    kernel: Kernel, teacher: Particles, mu: Particles, theta: Float[Tensor, "E n q"], other: Float[Tensor, "E m q"]
) -> Float[Tensor, "E n m q q"]:
    """H_mu(theta_i, theta'_j) between any neurons theta = (a, w), q = k + d; raises what ``hessian_product`` does."""
    cov, k = _checked(kernel, teacher, mu), mu.a.shape[2]
    members = []
    for e, (m, b_inv) in enumerate(zip(cov.m, cov.optimum, strict=True)):
        known, own = member(teacher, e), member(mu, e)

        def remainder(t: Tensor, m: Tensor = m, known: Particles = known, own: Particles = own) -> Tensor:
            a, w = t[:k], t[None, None, k:]
            f, q = _gram_products(kernel, w, known)[0, 0], _gram_products(kernel, w, own)[0, 0]
            return torch.outer(f - m @ q, a) - torch.outer(m @ a, q)

        def direct(t: Tensor, s: Tensor, m: Tensor = m) -> Tensor:
            return (m @ t[:k]) @ (m @ s[:k]) * kernel.gram(t[None, None, k:], s[None, None, k:])[0, 0, 0]

        mixed = vmap(vmap(jacrev(jacrev(direct, 0), 1), (None, 0)), (0, None))(theta[e], other[e])
        left, right = (vmap(jacrev(remainder))(t[e]) for t in (theta, other))  # (n, k0, k, q)
        members.append(mixed - torch.einsum("iucq,cf,jufr->ijqr", left, b_inv, right))
    return torch.stack(members)
