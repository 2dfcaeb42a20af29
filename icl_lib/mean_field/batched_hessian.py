"""Gradient and Hessian of L in the particles, written out, for many small members at once.

With M = A B^{-1} held fixed, 2 L is a quadratic form in the kernels of all pairs; what M gives way is the Schur
complement of its own Hessian I x B (derived by us; tests compare with autograd, which takes four times as long).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import grad

from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles, check_teacher
from icl_lib.validate import require_memory


def _pairs(kernel: Kernel, w: Float[Tensor, "E N d"], v: Float[Tensor, "E M d"]) -> tuple[Tensor, ...]:
    """K(w_i, v_j), its slope in w_i, and the second derivatives in w_i twice and in w_i and v_j: (E, N, M, ...)."""
    shape = (*w.shape[:2], *v.shape[1:])
    left, right = (
        part.expand(shape).reshape(-1, 1, shape[-1]).requires_grad_() for part in (w[:, :, None], v[:, None])
    )
    with torch.enable_grad():
        value = kernel.gram(left, right)
        (slope,) = grad(value.sum(), left, create_graph=True)
        columns = [grad(slope[..., x].sum(), (left, right), retain_graph=True) for x in range(shape[-1])]
    own, mixed = (torch.stack(parts, 2).view(*shape, shape[-1]) for parts in zip(*columns, strict=True))
    return value.detach().view(shape[:-1]), slope.detach().view(shape), own, mixed


def gradient_and_hessian(
    kernel: Kernel, teacher: Particles, mu: Particles
) -> tuple[Float[Tensor, "E N q"], Float[Tensor, "E N q N q"]]:
    """First and second derivatives of L(mu) in theta_i = (a_i, w_i), q = k + d; O(N^2 q^2) memory a member.

    >>> from icl_lib.mean_field.erf import Erf
    >>> from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, teachers
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2)], Erf())
    >>> slope, bend = gradient_and_hessian(Erf(), teacher, initial_particles([InitConfig(n=5, d=4, k=2)]))
    >>> slope.shape, bend.shape
    (torch.Size([1, 5, 6]), torch.Size([1, 5, 6, 5, 6]))
    """
    check_teacher(teacher, mu)
    n, k, q = *mu.a.shape[1:], mu.a.shape[2] + mu.w.shape[2]
    require_memory("particles", tuple(mu.w.shape), 16.0 * len(mu.a) * (n * q) ** 2)
    u, known = mu.a * mu.p[..., None], teacher.a * teacher.p[..., None]
    value, slope, own, mixed = _pairs(kernel, mu.w, torch.cat([mu.w, teacher.w], 1))
    inner, mixed = value[:, :, :n], mixed[:, :, :n]
    features = inner @ u  # q(w_i) = E[h sigma(w_i^T x)]
    b_inv = torch.linalg.inv(u.mT @ features)
    m = known.mT @ value[:, :, n:].mT @ u @ b_inv
    left = u @ m.mT
    right = torch.cat([left, -known], 1)  # of all that a neuron pairs with: L = const + sum_ij left_i right_j K_ij
    c = left @ right.mT
    miss = value @ right  # -g(w_i)
    d_miss = torch.einsum("ejc,eijx->eicx", right, slope)
    d_features = torch.einsum("eju,eijx->eiux", u, slope[:, :, :n])

    first = torch.cat([miss @ m, torch.einsum("eij,eijx->eix", c, slope)], 2)
    second = u.new_zeros(len(u), n, q, n, q)
    second[:, :, :k, :, :k] = torch.einsum("eij,euv->eiujv", inner, m.mT @ m)
    cross = torch.einsum("eju,ejix->eiujx", left @ m, slope[:, :, :n])
    cross.diagonal(dim1=1, dim2=3).add_(torch.einsum("ecu,eicx->euxi", m, d_miss))
    second[:, :, :k, :, k:], second[:, :, k:, :, :k] = cross, cross.permute(0, 3, 4, 1, 2)
    of_w = second[:, :, k:, :, k:]
    of_w.copy_(torch.einsum("eij,eijxy->eixjy", c[:, :, :n], mixed))
    of_w.diagonal(dim1=1, dim2=3).add_(torch.einsum("eij,eijxy->exyi", c, own))

    moved = u.new_empty(*m.shape, n, q)  # how the slope in M moves with theta
    moved[..., :k] = torch.einsum("eic,uv->ecuiv", miss, torch.eye(k, dtype=u.dtype))
    moved[..., :k] += torch.einsum("ecv,eiu->ecuiv", m, features)
    moved[..., k:] = torch.einsum("eicx,eiu->ecuix", d_miss, u) + torch.einsum("eic,eiux->ecuix", left, d_features)
    second -= torch.einsum("ecuix,euv,ecvjy->eixjy", moved, b_inv, moved)
    size = torch.cat([mu.p[..., None].expand_as(mu.a), torch.ones_like(mu.w)], 2)  # from a_i p_i, w_i to a_i, w_i
    return first * size, second * size[..., None, None] * size[:, None, None]
