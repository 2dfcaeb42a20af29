"""What Theorem 3.3 of Kim & Suzuki 2024 says about a critical point, measured at one: height, strictness, homotopy bound.

Derivatives along the homotopy are derived by us, in the notation of ``landscape``.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.critical_points import SaddleConfig
from icl_lib.mean_field.hessian import extreme_eigenvalues
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import Covariances, covariances, loss, trace
from icl_lib.mean_field.measure import Particles, inverse_root
from icl_lib.rng import generator

READINGS = ("‖Σ_μμ‖", "sup |h|²", "max |a|²")  # of R1², the bound on a single feature; |sigma| <= 1 in the last two


def random_saddle(seed: int, index: int) -> SaddleConfig:
    """A random design: k in 2 .. 4, lambda uniform on [.1, 1], any non-empty J, d up to 8, 1 or 2 copies; stream "design"."""
    gen = generator(seed, "design", index)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=gen))

    k = draw(2, 4)
    spectrum = tuple((0.1 + 0.9 * torch.rand(k, generator=gen, dtype=torch.float64)).tolist())
    missing = tuple(sorted(torch.randperm(k, generator=gen)[: draw(1, k)].tolist()))
    return SaddleConfig(spectrum, missing, draw(k + len(missing), 8), copies=draw(1, 2), seed=draw(0, 2**30))


def homotopy(cov: Covariances, r: Float[Tensor, "E k k0"]) -> tuple[Float[Tensor, " E"], Float[Tensor, " E"]]:
    """First and second derivative at s = 0 of L along (1 - s) mu + s R#mu°, with R acting on a°.

    dL/ds = -tr(M R Sigma_zeta); d2L/ds2 = -|(A' - M B') B^{-1/2}|_F^2 + 1/2 tr(M B'' M^T) with A' = C R^T - A,
    B' = R A + A^T R^T - 2 B and B'' = 2 B - 2 (R A + A^T R^T) + 2 R C R^T. Holds at any mu, critical or not.
    """
    m, cross = cov.m, r @ cov.a
    cross = cross + cross.mT
    d_b, dd_b = cross - 2 * cov.b, 2 * cov.b - 2 * cross + 2 * r @ cov.c @ r.mT
    inner = (cov.c @ r.mT - cov.a - m @ d_b) @ inverse_root(cov.b, "Sigma_mumu")
    return -trace(m @ r @ cov.residual), -inner.square().sum((1, 2)) + trace(m @ dd_b @ m.mT) / 2


def escape_rotation(cov: Covariances, tolerance: float = 1e-6) -> Float[Tensor, "E k k0"]:
    """At a critical point that is no global minimum: the R of least d2L/ds2 that maps range Sigma_zeta into ker M.

    Then dL/ds = 0 and d2L/ds2 = -|Sigma_zeta R^T B^{-1/2}|_F^2, which pairs the large eigenvalues of Sigma_zeta with
    the directions of ker M in which B^{-1} is large (von Neumann's trace inequality). R is 0 off the range of
    Sigma_zeta.

    Args:
        tolerance: singular values of Sigma_zeta below this share of |C|, and of M below this share of |M| or of
            (|C| / |B|)^{1/2}, its size for a model that misses nothing, count as 0.

    Raises:
        ValueError: ker M is smaller than the range of Sigma_zeta, or L is 0: not such a point.
    """
    found = torch.zeros_like(cov.a).mT.clone()
    for e, (residual, m, w) in enumerate(zip(cov.residual, cov.m, cov.optimum, strict=True)):
        values, vectors = torch.linalg.eigh(residual)
        size_b, size_c = (torch.linalg.matrix_norm(part[e], 2) for part in cov[1:])
        missing = values > tolerance * size_c
        _, singular, vt = torch.linalg.svd(m, full_matrices=True)
        rank = int((singular > tolerance * singular.max().maximum((size_c / size_b).sqrt())).sum())
        kernel_m = vt[rank:].T
        rank_zeta = int(missing.sum())
        if not 0 < rank_zeta <= kernel_m.shape[1]:
            raise ValueError(f"member {e}: Sigma_zeta has rank {rank_zeta} and ker M dimension {kernel_m.shape[1]}")
        _, inside = torch.linalg.eigh(kernel_m.T @ w @ kernel_m)
        found[e] = kernel_m @ inside[:, -rank_zeta:] @ vectors[:, missing].T
    return found


def gradient_anywhere(kernel: Kernel, teacher: Particles, mu: Particles, a: Tensor, w: Tensor) -> float:
    """Largest |grad dL/dmu| at any neurons theta = (a, w) of shapes (n, k), (n, d), on the support of mu or off it."""
    m = covariances(kernel, teacher, mu).m[0]
    a, w = a.clone().requires_grad_(), w.clone().requires_grad_()
    f, q = (kernel.gram(w[None], nu.w)[0] @ nu.weighted[0] for nu in (teacher, mu))
    gradients = torch.autograd.grad(torch.linalg.vecdot(a @ m.T, f - q @ m.T).sum(), (a, w))
    return float(torch.cat(gradients, dim=1).norm(dim=1).max())


def examine(kernel: Kernel, teacher: Particles, mu: Particles, seed: int, n_anywhere: int = 100) -> dict[str, float]:
    """Everything the theorem says about one critical point (ensembles of one).

    Args:
        seed: of random neurons off the support and of a random orthogonal R (stream "anywhere").

    Returns:
        loss; r, the smallest eigenvalue of Sigma_{mu° mu°}; gradient, of ``gradient_anywhere`` at standard normal
        neurons; lowest eigenvalue of the particle Hessian and the largest absolute one; and unless L is 0: first and
        second derivative along the homotopy with ``escape_rotation``; random, the second derivative with a random R;
        and for each of ``READINGS`` the theorem's bound -4 L^2 / (k R1^2).
    """
    cov, gen = covariances(kernel, teacher, mu), generator(seed, "anywhere")
    k, d = mu.a.shape[2], mu.w.shape[2]
    a, w = (torch.randn(n_anywhere, n, generator=gen, dtype=mu.a.dtype) for n in (k, d))
    lowest, largest = extreme_eigenvalues(kernel, teacher, mu)[0].tolist()
    height = float(loss(cov))
    row = {
        "loss": height,
        "r": float(torch.linalg.eigvalsh(cov.c[0])[0]),
        "gradient": gradient_anywhere(kernel, teacher, mu, a, w),
        "lowest": lowest,
        "largest": max(abs(lowest), largest),
    }
    if height < 1e-12:
        return row
    turn = torch.linalg.qr(torch.randn(1, k, cov.c.shape[1], generator=gen, dtype=mu.a.dtype)).Q
    first, second = homotopy(cov, escape_rotation(cov))
    row |= {"first": float(first), "second": float(second), "random": float(homotopy(cov, turn)[1])}
    lengths = mu.a[0].norm(dim=1)
    sizes = (torch.linalg.matrix_norm(cov.b[0], 2), (mu.p[0] * lengths).sum().square(), lengths.max().square())
    return row | {name: -4 * height**2 / (k * float(r2)) for name, r2 in zip(READINGS, sizes, strict=True)}
