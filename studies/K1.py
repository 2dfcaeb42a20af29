"""How much of a target is linear (claim K1)."""

from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import Activation
from icl_lib.mean_field.landscape import trace
from icl_lib.mean_field.measure import Particles, covariance
from icl_lib.mean_field.moments import mean_feature


def linear_map(act: Activation, teacher: Particles) -> Float[Tensor, "E k0 d"]:
    """E[f° x^T], the best linear map from x to f°."""
    return teacher.weighted.mT @ act.linear_parts(teacher.w)


def linear_share(act: Activation, teacher: Particles) -> Float[Tensor, " E"]:
    """Share of the variance of f° that the best linear predictor explains: |E f° x^T|^2 / (tr C - |E f°|^2).

    >>> from icl_lib.mean_field.kernels import activation
    >>> from icl_lib.mean_field.measure import TeacherConfig, teachers
    >>> act = activation("erf")
    >>> affine_free = teachers([TeacherConfig("nonlinear", n=8, d=4, k=2)], act.kernel())
    >>> bool(linear_share(act, affine_free) < 1e-9)
    True
    """
    c = trace(covariance(act.kernel(), teacher, teacher))
    return linear_map(act, teacher).square().sum((1, 2)) / (c - mean_feature(act, teacher).square().sum(-1))
