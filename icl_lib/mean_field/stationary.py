"""Points where all particles stand still, found by minimising the squared Wasserstein gradient from any start.

``stationary`` minimises G(mu) = 1/2 int |grad dL/dmu|^2 dmu = 1/2 mean_i |v_i|^2 over N particles of equal masses, with
v the gradient of dL/dmu at the particles. With D = N d2L/dtheta2 = dv/dtheta the gradient of G is D v / N, and a
Levenberg-Marquardt step is -D v / (D^2 + damping) in the eigenvectors of D: near a critical point it is Newton's. It is drawn
to all critical points, high or low, and also to points where G has a minimum above 0 (Frye et al. 2019 compare such
searches). L does not see a -> R a, but G does: after every step a is mapped so that Sigma_mumu = 1.

What is found need not be critical in the sense of Kim & Suzuki 2024, Theorem 3.3, which asks for grad dL/dmu = 0 on all
of Theta and not at the particles alone: ``examined`` tells the two apart.
"""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.hessian import dense_blocks
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import covariances, loss, trace, velocity_at
from icl_lib.mean_field.measure import (
    InitConfig,
    Particles,
    TeacherConfig,
    check_particles,
    check_teacher,
    covariance,
    initial_particles,
    teachers,
)
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer

MINIMUM, CRITICAL, WASSERSTEIN, UNRESOLVED = "global minimum", "critical", "Wasserstein only", "unresolved"
FLAT = 1e-9  # root mean square of grad dL/dmu at particles that stand still
CONSTANT, MOVING = 1e-6, 1e-4  # largest off the support: below the first dL/dmu is constant, above the second it is not
LOW = 1e-6  # loss of a global minimum, relative to that without features
FAR = 20.0  # a neuron longer than this is on its way to infinity, where every gradient vanishes: its search ends
STEP = 0.5  # longest root mean square of a step


def some(mu: Particles, which: Tensor) -> Particles:
    """The members of an ensemble that a mask or a list of numbers names."""
    return Particles(*(part[which] for part in mu))


def _white(kernel: Kernel, mu: Particles) -> Particles:
    """Sigma_mumu = 1, as far as it can be inverted: what a step makes singular must not stop the other members."""
    values, vectors = torch.linalg.eigh(covariance(kernel, mu, mu))
    values = values.maximum(1e-14 * values[:, -1:])
    return mu._replace(a=mu.a @ (vectors * values[:, None] ** -0.5) @ vectors.mT)


def derivatives(kernel: Kernel, teacher: Particles, mu: Particles) -> tuple[Tensor, Tensor]:
    """v, the gradient of dL/dmu at the particles, and D = dv/dtheta, in flat coordinates; masses are equal."""
    gradient, hessian = (torch.cat(part) for part in zip(*dense_blocks(kernel, teacher, mu), strict=True))
    n = mu.p.shape[1]
    return n * gradient, n * (hessian + hessian.mT) / 2


def stationary(
    kernel: Kernel, teacher: Particles, mu: Particles, n_steps: int = 100, goal: float = 1e-10
) -> tuple[Particles, Float[Tensor, " E"]]:
    """Levenberg-Marquardt from every member of ``mu``; a step that does not lower G is undone, and the next is damped more.

    A member stops when the root mean square of grad dL/dmu is below ``goal``, when no step lowers it, or when a neuron is
    longer than ``FAR``. Time and memory of a step grow as (N q)^3 and (N q)^2.

    Args:
        teacher: one per member. mu: of equal masses.
        n_steps: at most so many.

    Returns:
        The points, with Sigma_mumu = 1, and the root mean square of grad dL/dmu at their particles.

    >>> from icl_lib.mean_field import Erf, InitConfig, TeacherConfig, initial_particles, teachers
    >>> teacher = teachers([TeacherConfig(n=2, d=3, k=2, spectrum=(1.0, 0.6))] * 4, Erf())
    >>> starts = initial_particles([InitConfig(n=5, d=3, k=2, seed=seed) for seed in range(4)])
    >>> before, after = (stationary(Erf(), teacher, starts, n)[1] for n in (1, 20))
    >>> bool((after < before).all())
    True
    """
    check_particles(mu)
    check_teacher(teacher, mu)
    require(bool((mu.p == mu.p[0, 0]).all()), "p", "masses that differ", "equal")
    require_integer("n_steps", n_steps, 1)
    now = _white(kernel, Particles(*(part.clone() for part in mu)))
    v, d = derivatives(kernel, teacher, now)
    scale = mu.p.shape[1] ** -0.5
    size, damping = scale * v.norm(dim=1), torch.ones_like(v[:, 0])
    active = torch.arange(len(size))
    for _ in range(n_steps):
        values, vectors = torch.linalg.eigh(d)
        inner = (vectors.mT @ v[..., None])[..., 0]
        step = -(vectors @ (values * inner / (values**2 + damping[active, None]))[..., None])[..., 0]
        step *= (STEP / scale / step.norm(dim=1, keepdim=True)).clamp(max=1)
        old = some(now, active)
        new = _white(kernel, old.moved_to(old.theta + step.view_as(old.theta)))
        new_v, new_d = derivatives(kernel, some(teacher, active), new)
        new_size = scale * new_v.norm(dim=1)
        better = new_size < size[active]
        damping[active] = (damping[active] * torch.where(better, 0.2, 5.0)).clamp(min=1e-14)
        kept = active[better]
        now.a[kept], now.w[kept], size[kept] = new.a[better], new.w[better], new_size[better]
        v, d = torch.where(better[:, None], new_v, v), torch.where(better[:, None, None], new_d, d)
        go = (size[active] > goal) & (damping[active] < 1e6) & (now.w[active].norm(dim=2).amax(1) < FAR)
        active, v, d = active[go], v[go], d[go]
        if not len(active):
            break
    return now, size


def _kind(size: float, height: float, anywhere: float) -> str:
    if size > FLAT or (height > LOW and CONSTANT <= anywhere <= MOVING):
        return UNRESOLVED
    return MINIMUM if height <= LOW else CRITICAL if anywhere < CONSTANT else WASSERSTEIN


def spectrum(seed: int, k: int) -> tuple[float, ...]:
    """k eigenvalues, uniform in [0.2, 1] (stream "spectrum"): no two sums of some of them are equal."""
    return tuple((0.2 + 0.8 * torch.rand(k, generator=generator(seed, "spectrum"), dtype=torch.float64)).tolist())


def search(
    kernel: Kernel, seeds: Sequence[int], like: TeacherConfig, n: int, n_starts: int
) -> tuple[Particles, Particles, pd.DataFrame]:
    """``stationary`` from ``n_starts`` random starts of n particles for each seed's teacher, and what they are.

    Args:
        like: the teacher, whose seed and spectrum are each seed's.

    Returns:
        Teachers and points, one member per start, and the table of ``examined`` with the column seed.
    """
    named = [(seed, number) for seed in seeds for number in range(n_starts)]
    teacher = teachers([replace(like, seed=seed, spectrum=spectrum(seed, like.k)) for seed, _ in named], kernel)
    starts = [InitConfig("aligned", n, like.d, like.k, like.size, 10_000 * seed + number) for seed, number in named]
    found, size = stationary(kernel, teacher, initial_particles(starts))
    return teacher, found, examined(kernel, teacher, found, size).assign(seed=[seed for seed, _ in named])


def examined(
    kernel: Kernel, teacher: Particles, mu: Particles, size: Float[Tensor, " E"], n_anywhere: int = 100
) -> pd.DataFrame:
    """What each point that ``stationary`` found is.

    Args:
        size: root mean square of grad dL/dmu at the particles.
        n_anywhere: random neurons, a and w standard normal, the same for all members (stream "anywhere" of seed 0).

    Returns:
        One row per member: member, loss, r (smallest eigenvalue of C), height (relative to the loss without features), size, anywhere (largest
        |grad dL/dmu| at the random neurons), negative (eigenvalues of the particle Hessian below -1e-6 of the largest
        absolute one), curvature (the smallest over the largest absolute one), kind: "unresolved", still moving, or neither
        clearly of the next two; "global minimum"; "critical", in the theorem's sense; "Wasserstein only".
    """
    k, dims, gen = mu.a.shape[2], mu.w.shape[2], generator(0, "anywhere")
    a, w = (torch.randn(n_anywhere, n, generator=gen, dtype=mu.a.dtype).expand(len(mu.p), -1, -1) for n in (k, dims))
    anywhere = velocity_at(kernel, teacher, mu, a.contiguous(), w.contiguous()).norm(dim=2).amax(1)
    cov = covariances(kernel, teacher, mu)
    losses = loss(cov)
    height = 2 * losses / trace(cov.c)
    values = torch.cat([torch.linalg.eigvalsh((h + h.mT) / 2) for _, h in dense_blocks(kernel, teacher, mu)])
    relative = values / values.abs().amax(1, keepdim=True)
    kind = [_kind(*row) for row in zip(size.tolist(), height.tolist(), anywhere.tolist(), strict=True)]
    r = torch.linalg.eigvalsh(cov.c)[:, 0]
    table = {"member": range(len(kind)), "loss": losses, "r": r, "height": height, "size": size, "anywhere": anywhere}
    return pd.DataFrame(table | {"negative": (relative < -1e-6).sum(1), "curvature": relative[:, 0], "kind": kind})
