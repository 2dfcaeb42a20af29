"""Second derivatives of L: the kernel H_mu, Hessian-vector products on particles, extreme eigenvalues.

H_mu(theta, theta') = grad_theta grad_theta' d2L/dmu2 (Kim & Suzuki 2024, claim K6); with the closed form, derived by us,
V(theta, theta') = a^T M^T M a' K(w, w') - tr(B^{-1} R(theta)^T R(theta')), R(theta) = g(w) a^T - M a q(w)^T. The second
derivative of L in particles i, j is p_i p_j H_mu(theta_i, theta_j) + [i = j] p_i grad^2 dL/dmu(theta_i).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.autograd import grad
from torch.func import jacrev, vmap

from icl_lib.mean_field.batched_hessian import gradient_and_hessian
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import covariances
from icl_lib.mean_field.measure import Particles, member
from icl_lib.validate import require

DENSE = 600  # coordinates N (k + d) up to which the Hessian is written out


def _need_smooth(kernel: Kernel) -> None:
    require(
        kernel.smooth, "kernel", type(kernel).__name__, "twice differentiable: Hessians of this one are not available"
    )


def _gram_products(kernel: Kernel, w: Tensor, nu: Particles) -> Tensor:
    return kernel.gram(w, nu.w) @ (nu.a * nu.p[..., None])


def exact_loss(kernel: Kernel, teacher: Particles, mu: Particles) -> Float[Tensor, " E"]:
    """L(mu) through the kernel written out: O(N^2) memory, for autograd. Not finite where Sigma_mumu is singular."""
    weighted = mu.a * mu.p[..., None]
    a = _gram_products(kernel, mu.w, teacher).mT @ weighted
    b = _gram_products(kernel, mu.w, mu).mT @ weighted
    c = _gram_products(kernel, teacher.w, teacher).mT @ (teacher.a * teacher.p[..., None])
    return (c.diagonal(dim1=1, dim2=2).sum(-1) - (a * torch.linalg.solve_ex(b, a.mT)[0].mT).sum((1, 2))) / 2


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
    k = mu.a.shape[2]
    covariances(kernel, teacher, mu).m  # noqa: B018  raises where Sigma_mumu is singular or a teacher NaN
    theta = torch.cat([mu.a, mu.w], dim=2).detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = grad(
            exact_loss(kernel, teacher, Particles(theta[..., :k], theta[..., k:], mu.p)).sum(), theta, create_graph=True
        )
    return lambda u: grad(slope, theta, u, retain_graph=True)[0]


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
        hessian = gradient_and_hessian(kernel, teacher, mu)[1].reshape(-1, size, size)
        return torch.linalg.eigvalsh((hessian + hessian.mT) / 2)[:, [0, -1]]
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
