"""The loss of linear attention on h_mu at infinite prompt length, and its first variation.

A = Sigma_{mu° mu}, B = Sigma_{mu mu}, C = Sigma_{mu° mu°}. Losses: Kim & Suzuki 2024, setting (infinite prompts, two
timescales). First variation and velocity: derived by us, with M = A B^{-1},
zeta = h_{mu°} - M h_mu, Sigma_zeta = C - M A^T and g(w) = E[zeta sigma(w^T x)].
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import Kernel, Zonal
from icl_lib.mean_field.measure import Particles, check_finite, check_teacher, covariance, inverse_root


class Covariances(NamedTuple):
    """A, B and C of teachers with k0 and models with k outputs."""

    a: Float[Tensor, "E k0 k"]
    b: Float[Tensor, "E k k"]
    c: Float[Tensor, "E k0 k0"]

    @property
    def optimum(self) -> Float[Tensor, "E k k"]:
        """W_mu = B^{-1}, a minimiser of L_TF(mu, W) in W; raises ``SingularCovariance``."""
        return inverse_root(self.b, "Sigma_mumu", -1.0)

    @property
    def m(self) -> Float[Tensor, "E k0 k"]:
        """M = A B^{-1}, the best linear map from h_mu to f°; raises ``NonFinite`` if A is NaN or infinite."""
        optimum = self.optimum
        check_finite(self.a.isfinite().all((1, 2)), "Sigma_mu°mu")
        return self.a @ optimum

    @property
    def residual(self) -> Float[Tensor, "E k0 k0"]:
        """Sigma_zeta, the covariance of what h_mu cannot express."""
        return self.c - self.m @ self.a.mT


class Velocity(NamedTuple):
    """-grad dL/dmu at each particle, with what it was computed from."""

    a: Float[Tensor, "E N k"]
    w: Float[Tensor, "E N d"]
    covariances: Covariances
    loss: Float[Tensor, " E"]


def covariances(kernel: Kernel, teacher: Particles, mu: Particles) -> Covariances:
    """A, B and C; O(N^2) time, O(N) memory.

    Raises:
        ConfigError: a teacher of other members or inputs than the particles; single precision.
    """
    check_teacher(teacher, mu)
    pairs = (teacher, mu), (mu, mu), (teacher, teacher)
    return Covariances(*(covariance(kernel, *pair) for pair in pairs))


def trace(matrix: Float[Tensor, "*E k k"]) -> Float[Tensor, "*E"]:
    """Of each of many matrices."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def loss_at(cov: Covariances, w: Float[Tensor, "E k k"]) -> Float[Tensor, " E"]:
    """L_TF(mu, W) = 1/2 E|f° - A W h_mu|^2."""
    aw = cov.a @ w
    return trace(cov.c - 2 * aw @ cov.a.mT + aw @ cov.b @ aw.mT) / 2


def loss(cov: Covariances) -> Float[Tensor, " E"]:
    """L(mu) = min_W L_TF(mu, W) = 1/2 tr Sigma_zeta.

    >>> from icl_lib.mean_field import Erf, TeacherConfig, teachers
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2, spectrum=(1.0, 0.5))], Erf())
    >>> bool(loss(covariances(Erf(), teacher, teacher)).abs() < 1e-9)
    True
    """
    return trace(cov.residual) / 2


def _features(kernel: Kernel, teacher: Particles, mu: Particles, w: Tensor) -> tuple[Tensor, Tensor]:
    """E[f° sigma(w^T x)] and q(w) = E[h_mu sigma(w^T x)] for each row of `w`."""
    return kernel.products(w, teacher.w, teacher.weighted), kernel.products(w, mu.w, mu.weighted)


def first_variation(
    kernel: Kernel, teacher: Particles, mu: Particles, a: Float[Tensor, "E n k"], w: Float[Tensor, "E n d"]
) -> Float[Tensor, "E n"]:
    """dL/dmu(a, w) = -a^T M^T g(w) at any neurons; its mean over mu is 0."""
    m = covariances(kernel, teacher, mu).m
    f, q = _features(kernel, teacher, mu, w)
    return -torch.linalg.vecdot(a @ m.mT, f - q @ m.mT)


def velocity(kernel: Kernel, teacher: Particles, mu: Particles, c: Float[Tensor, "E k0 k0"] | None = None) -> Velocity:
    """-grad_{a, w} dL/dmu at the particles: M^T g(w) and E[(a^T M^T zeta) sigma'(w^T x) x].

    The gradient of L in particle i is -p_i times this. Two passes over K(w, w) and two over K(w, w°).

    Args:
        c: Sigma_{mu° mu°} where it is known, which a flow computes once.

    Raises:
        ConfigError: a teacher of other members or inputs than the particles; single precision.
        SingularCovariance: B cannot be inverted.
        icl_lib.mean_field.measure.NonFinite: a result is NaN or infinite.

    >>> from icl_lib.mean_field import Erf, InitConfig, TeacherConfig, initial_particles, teachers
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2)], Erf())
    >>> v = velocity(Erf(), teacher, initial_particles([InitConfig(n=50, d=4, k=2)]))
    >>> v.a.shape, v.w.shape, bool(v.loss > 0)
    (torch.Size([1, 50, 2]), torch.Size([1, 50, 4]), True)
    """
    check_teacher(teacher, mu)
    if isinstance(kernel, Zonal):
        (v_a, v_w, *abc, at), well = kernel.velocity(teacher, mu, c)
        if well:  # if not, what follows says why
            return Velocity(v_a, v_w, Covariances(*abc), at)
    c = covariance(kernel, teacher, teacher) if c is None else c
    f, q = _features(kernel, teacher, mu, mu.w)
    cov = Covariances(f.mT @ mu.weighted, _symmetric(q.mT @ mu.weighted), c)
    m = cov.m
    d_w = _of_inputs(kernel, teacher, mu, m, mu.a, mu.w)
    found = Velocity((f - q @ m.mT) @ m, d_w, cov, trace(c - m @ cov.a.mT) / 2)
    finite = found.a.isfinite().all((1, 2)) & found.w.isfinite().all((1, 2)) & found.loss.isfinite()
    check_finite(finite, "velocity or loss")
    return found


def velocity_at(
    kernel: Kernel, teacher: Particles, mu: Particles, a: Float[Tensor, "E M k"], w: Float[Tensor, "E M d"]
) -> Float[Tensor, "E M q"]:
    """-grad dL/dmu at any points (a, w), q = k + d; at the particles of mu it is ``velocity``, up to rounding.

    Raises ``SingularCovariance`` where B cannot be inverted.
    """
    b = covariance(kernel, mu, mu)
    m = Covariances(covariance(kernel, teacher, mu), _symmetric(b), b).m  # M needs no C
    v_a = (kernel.products(w, teacher.w, teacher.weighted) - kernel.products(w, mu.w, mu.weighted @ m.mT)) @ m
    return torch.cat([v_a, _of_inputs(kernel, teacher, mu, m, a, w)], dim=2)


def _of_inputs(kernel: Kernel, teacher: Particles, mu: Particles, m: Tensor, a: Tensor, w: Tensor) -> Tensor:
    """E[(a^T M^T zeta) sigma'(w^T x) x], the velocity of input weights w, given M."""
    left = a @ m.mT
    return kernel.gradient(w, teacher.w, left, teacher.weighted) - kernel.gradient(w, mu.w, left, mu.weighted @ m.mT)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2
