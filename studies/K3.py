"""What Theorem 3.3 of Kim & Suzuki 2024 says about a critical point, measured at one: height, strictness, homotopy bound."""

import torch
from torch import Tensor

from icl_lib.mean_field.hessian import extreme_eigenvalues
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import covariances, escape_rotation, homotopy, loss
from icl_lib.mean_field.measure import Particles
from icl_lib.mean_field.saddles import SaddleConfig
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
        loss; r, the smallest eigenvalue of Sigma_{mu° mu°}; gradient, of ``gradient_anywhere`` at standard normal neurons;
        lowest eigenvalue of the particle Hessian and the largest absolute one; and unless L is 0: first and second derivative along the
        homotopy with ``escape_rotation``; random, the second derivative with a random R; and for each of ``READINGS``
        the theorem's bound -4 L^2 / (k R1^2).
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
