"""Teachers from linear to purely nonlinear, with a linear share that is stated and measured exactly.

f° = sqrt(1 - s) g + sqrt(s) l, both with covariance 1. g is the "nonlinear" teacher of ``measure.py``, orthogonal to every
affine function of x for any activation. l is nearly linear: l_j is proportional to sigma(e u_j^T x) - sigma(-e u_j^T x), two neurons
with a short weight e and orthonormal u_j; at e = 1/4 less than 1/5000 of a sigmoid's l is not linear (of a ReLU's nothing is). f° is
whitened as a whole, since g is orthogonal to the linear part of l only. Derived by us.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.activations import Activation
from icl_lib.mean_field.features import mean_feature
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import trace
from icl_lib.mean_field.measure import Particles, TeacherConfig, covariance, inverse_root, stack, teachers, uniform
from icl_lib.rng import generator
from icl_lib.validate import require, require_number


@dataclass(frozen=True)
class MixConfig:
    """A target between linear and nonlinear.

    Attributes:
        linear: s, from 0 (purely nonlinear) to 1 (linear up to what ``short`` leaves).
        nonlinear: g; its kind must be "nonlinear" and its spectrum (1, .., 1). Its seed is that of the u_j, too.
        short: e.
    """

    linear: float
    nonlinear: TeacherConfig
    short: float = 0.25

    def __post_init__(self) -> None:
        g = self.nonlinear
        require(isinstance(g, TeacherConfig), "nonlinear", g, "a TeacherConfig")
        require_number("linear", self.linear, 0, 1)
        require_number("short", self.short, 1e-3, 10)
        require(g.kind == "nonlinear", "nonlinear.kind", g.kind, "'nonlinear'")
        require(g.spectrum == (1.0,) * g.k, "nonlinear.spectrum", g.spectrum, f"{(1.0,) * g.k}: g has covariance 1")
        require(g.k <= g.d, "nonlinear.k", g.k, f"at most d = {g.d}: each output has a direction of its own")


def _pairs(config: MixConfig, kernel: Kernel) -> Particles:
    """l, with 2 k neurons."""
    k, d = config.nonlinear.k, config.nonlinear.d
    drawn = torch.randn(d, k, generator=generator(config.nonlinear.seed, "linear part"), dtype=torch.float64)
    u, eye = config.short * torch.linalg.qr(drawn)[0].mT, torch.eye(k, dtype=torch.float64)
    pairs = Particles(torch.cat([eye, -eye])[None], torch.cat([u, -u])[None], uniform(2 * k))
    return pairs._replace(a=pairs.a @ inverse_root(covariance(kernel, pairs, pairs), "the linear part's covariance"))


def _mixed(config: MixConfig, kernel: Kernel) -> Particles:
    parts = teachers([config.nonlinear], kernel), _pairs(config, kernel)
    shares = (1 - config.linear) ** 0.5, config.linear**0.5
    n = config.nonlinear.n + 2 * config.nonlinear.k
    a = torch.cat([share * m.a * m.p[..., None] * n for share, m in zip(shares, parts, strict=True)], dim=1)
    mixed = Particles(a, torch.cat([m.w for m in parts], dim=1), uniform(n))
    whiten = inverse_root(covariance(kernel, mixed, mixed), "the target's covariance")
    return mixed._replace(a=mixed.a @ whiten)


def mixed_teachers(configs: Sequence[MixConfig], kernel: Kernel) -> Particles:
    """An ensemble of targets, n + 2 k neurons each and covariance 1; they must agree in n, d and k."""
    return stack([_mixed(c, kernel) for c in configs])


def linear_map(act: Activation, teacher: Particles) -> Float[Tensor, "E k0 d"]:
    """E[f° x^T], the best linear map from x to f°."""
    return teacher.weighted.mT @ act.linear_parts(teacher.w)


def linear_share(act: Activation, teacher: Particles) -> Float[Tensor, " E"]:
    """Share of the variance of f° that the best linear predictor explains: |E f° x^T|^2 / (tr C - |E f°|^2).

    >>> from icl_lib.mean_field.activations import activation
    >>> from icl_lib.mean_field.measure import TeacherConfig, teachers
    >>> act = activation("erf")
    >>> affine_free = teachers([TeacherConfig("nonlinear", n=8, d=4, k=2)], act.kernel())
    >>> bool(linear_share(act, affine_free) < 1e-9)
    True
    """
    c = trace(covariance(act.kernel(), teacher, teacher))
    return linear_map(act, teacher).square().sum((1, 2)) / (c - mean_feature(act, teacher).square().sum(-1))
