"""Derivatives of L in the particles: gradient and Hessian, products, eigenvalues, and the kernel H_mu.

H_mu(theta, theta') = grad_theta grad_theta' d2L/dmu2 (Kim & Suzuki 2024, claim K6); with the closed form, derived by us,
V(theta, theta') = a^T M^T M a' K(w, w') - tr(B^{-1} R(theta)^T R(theta')), R(theta) = g(w) a^T - M a q(w)^T. The second
derivative of L in particles i, j is p_i p_j H_mu(theta_i, theta_j) + [i = j] p_i grad^2 dL/dmu(theta_i).

The dense Hessian is written out, for many small members at once: with M = A B^{-1} held fixed, 2 L is a quadratic form in
the kernels of all pairs; what M gives way is the Schur complement of its own Hessian I x B (derived by us; tests compare
with autograd, which takes four times as long).
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.autograd import grad
from torch.func import jacrev, vmap

from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import covariances, trace
from icl_lib.mean_field.measure import Particles, check_teacher, member
from icl_lib.validate import require, require_memory

DENSE = 600  # coordinates N (k + d) up to which the Hessian is written out
BLOCK = 2**25  # entries of dense Hessians that exist at a time, 256 MiB: members pass in blocks


def _need_smooth(kernel: Kernel) -> None:
    require(
        kernel.smooth, "kernel", type(kernel).__name__, "twice differentiable: Hessians of this one are not available"
    )


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

    >>> from icl_lib.mean_field.erf import Erf
    >>> from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, teachers
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2)], Erf())
    >>> gradient, hessian = gradient_and_hessian(Erf(), teacher, initial_particles([InitConfig(n=5, d=4, k=2)]))
    >>> gradient.shape, hessian.shape
    (torch.Size([1, 5, 6]), torch.Size([1, 5, 6, 5, 6]))
    """
    check_teacher(teacher, mu)
    n, k, q = *mu.a.shape[1:], mu.a.shape[2] + mu.w.shape[2]
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
    size = mu.a.shape[1] * (mu.a.shape[2] + mu.w.shape[2])
    step = max(1, BLOCK // size**2)
    for i in range(0, len(mu.p), step):
        some = (Particles(*(part[i : i + step] for part in nu)) for nu in (teacher, mu))
        gradient, hessian = gradient_and_hessian(kernel, *some)
        yield gradient.flatten(1), hessian.flatten(3).flatten(1, 2)


def hessian_product(
    kernel: Kernel, teacher: Particles, mu: Particles
) -> Callable[[Float[Tensor, "E N q"]], Float[Tensor, "E N q"]]:
    """The map u -> (d2L/dtheta2) u on particle coordinates theta_i = (a_i, w_i), q = k + d; by autograd, O(N^2) memory.

    The graph of the gradient is made once and kept; each product is one backward pass through it.

    Raises:
        ConfigError: a kernel without second derivatives.
        SingularCovariance: B cannot be inverted.
        icl_lib.mean_field.landscape.NonFinite: A is NaN or infinite.
    """
    _need_smooth(kernel)
    covariances(kernel, teacher, mu).m  # noqa: B018  raises where Sigma_mumu is singular or a teacher NaN
    k, theta = mu.a.shape[2], mu.theta.detach().requires_grad_()
    with torch.enable_grad():
        value = exact_loss(kernel, teacher, Particles(theta[..., :k], theta[..., k:], mu.p)).sum()
        (gradient,) = grad(value, theta, create_graph=True)
    return lambda u: grad(gradient, theta, u, retain_graph=True)[0]


def extreme_eigenvalues(kernel: Kernel, teacher: Particles, mu: Particles) -> Float[Tensor, "E 2"]:
    """Smallest and largest eigenvalue of the particle Hessian; dense up to ``DENSE`` coordinates, Lanczos beyond.

    Raises what ``hessian_product`` does.

    >>> from icl_lib.mean_field.erf import Erf
    >>> from icl_lib.mean_field.saddles import SaddleConfig, saddle
    >>> teacher, mu = saddle(SaddleConfig(spectrum=(1.0, 0.6), missing=(1,), d=4), Erf())
    >>> lowest, largest = extreme_eigenvalues(Erf(), teacher, mu)[0]
    >>> bool(lowest < -1e-3), bool(largest > 0)
    (True, True)
    """
    _need_smooth(kernel)
    n, size = mu.a.shape[1], mu.a.shape[1] * (mu.a.shape[2] + mu.w.shape[2])
    if size <= DENSE:
        covariances(kernel, teacher, mu).m  # noqa: B018  as above
        hessians = (hessian for _, hessian in dense_blocks(kernel, teacher, mu))
        return torch.cat([torch.linalg.eigvalsh((one + one.mT) / 2)[:, [0, -1]] for one in hessians])
    found = torch.zeros(len(mu.a), 2, dtype=mu.a.dtype)
    start = torch.ones(size, dtype=mu.a.dtype).numpy()
    for e in range(len(mu.a)):
        product = hessian_product(kernel, member(teacher, e), member(mu, e))

        def apply(u: object, product: Callable = product) -> object:
            return product(torch.as_tensor(u).reshape(1, n, -1)).flatten().numpy()

        operator = LinearOperator((size, size), matvec=apply, dtype=start.dtype)
        for side, which in enumerate(("SA", "LA")):
            found[e, side] = float(eigsh(operator, 1, which=which, v0=start, return_eigenvectors=False)[0])
    return found


def hessian_kernel(
    kernel: Kernel, teacher: Particles, mu: Particles, theta: Float[Tensor, "E n q"], other: Float[Tensor, "E m q"]
) -> Float[Tensor, "E n m q q"]:
    """H_mu(theta_i, theta'_j) between any neurons theta = (a, w), q = k + d; raises what ``hessian_product`` does."""
    _need_smooth(kernel)
    cov, k = covariances(kernel, teacher, mu), mu.a.shape[2]
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
