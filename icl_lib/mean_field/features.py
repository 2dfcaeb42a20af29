"""Exact moments of features with a constant among them, and so the losses of attention on any of them.

Linear attention sees features only through A~ = E[f° h~^T], B~ = E[h~ h~^T] and Q~ = E[|f°|^2 h~ h~^T], whatever they are:
h~ = (h_mu, 1) of a model, (f°, 1) of an oracle, (x, 1) of attention without an MLP. ``landscape`` and
``finite_prompts`` then give its losses and optima. A~ and B~ have closed forms for x ~ N(0, I_d); Q~ is a mean over inputs.
The constant is ours: with it no model gains from being able to make one. In the limit of infinite prompts it takes the
mean out of h_mu. The formulas of this module are derived by us.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.activations import Activation, network
from icl_lib.mean_field.finite_prompts import Moments, q_sum
from icl_lib.mean_field.landscape import Covariances
from icl_lib.mean_field.measure import Particles, covariance
from icl_lib.validate import require, require_integer


def raw_inputs(d: int, members: int = 1) -> Particles:
    """Particles whose features by the activation "identity" are x itself: no MLP."""
    require_integer("d", d, 1)
    eye = torch.eye(d, dtype=torch.float64).expand(members, d, d).clone()
    return Particles(eye * d, eye.clone(), torch.full((members, d), 1 / d, dtype=torch.float64))


def mean_feature(act: Activation, mu: Particles) -> Float[Tensor, "E k"]:
    """E h_mu."""
    return (mu.a * (mu.p * act.means(mu.w))[..., None]).sum(1)


def with_one(h: Float[Tensor, "*m k"]) -> Float[Tensor, "*m K"]:
    """h~ = (h, 1)."""
    return torch.cat([h, torch.ones_like(h[..., :1])], -1)


def with_constant(cov: Covariances, mean_f: Float[Tensor, "E k0"], mean_h: Float[Tensor, "E k"]) -> Covariances:
    """A~ = (A, E f°) and B~ = ((B, E h), (E h^T, 1)) of h~ = (h, 1); C as it was."""
    one = torch.ones_like(mean_h[:, :1, None])
    b = torch.cat([torch.cat([cov.b, mean_h[..., None]], 2), torch.cat([mean_h[:, None], one], 2)], 1)
    return Covariances(torch.cat([cov.a, mean_f[..., None]], 2), b, cov.c)


def _cross(act: Activation, teacher: Particles, of: Activation, mu: Particles) -> Float[Tensor, "E k0 k"]:
    """A = E[f° h^T], where one of the two is linear or both have the same sigma."""
    if of is act:
        return covariance(act.kernel(), teacher, mu)
    pair = act.name, of.name
    require("identity" in pair, "activation", pair, "the same for teacher and model, or identity for one of them")
    return teacher.weighted.mT @ act.linear_parts(teacher.w) @ of.linear_parts(mu.w).mT @ mu.weighted


def model_covariances(
    act: Activation,
    teacher: Particles,
    mu: Particles,
    constant: bool = True,
    of: Activation | None = None,
    c: Float[Tensor, "E k0 k0"] | None = None,
) -> Covariances:
    """A~, B~ and C.

    Args:
        act: sigma of the teacher.
        constant: whether 1 is among the features.
        of: sigma of the model, if it is another one.
        c: C, where it is known.

    Raises:
        ConfigError: two different activations, none of them "identity".
    """
    of = act if of is None else of
    b = covariance(of.kernel(), mu, mu)
    c = covariance(act.kernel(), teacher, teacher) if c is None else c
    cov = Covariances(_cross(act, teacher, of, mu), (b + b.mT) / 2, c)
    return with_constant(cov, mean_feature(act, teacher), mean_feature(of, mu)) if constant else cov


def q_moment(
    act: Activation,
    teacher: Particles,
    mu: Particles,
    x: Float[Tensor, "S d"],
    constant: bool = True,
    of: Activation | None = None,
) -> Float[Tensor, "E K K"]:
    """Q~ over the inputs x, in their precision."""
    found, of = [], act if of is None else of
    for e in range(len(teacher.p)):
        f, h = (network(s, m.weighted[e], m.w[e], x) for s, m in ((act, teacher), (of, mu)))
        found.append(q_sum(f, with_one(h) if constant else h) / len(x))
    return torch.stack(found).to(teacher.a.dtype)


def model_moments(
    act: Activation,
    teacher: Particles,
    mu: Particles,
    x: Float[Tensor, "S d"],
    constant: bool = True,
    of: Activation | None = None,
    c: Float[Tensor, "E k0 k0"] | None = None,
) -> Moments:
    """All moments: exact but for Q~, which is over x."""
    return Moments(model_covariances(act, teacher, mu, constant, of, c), q_moment(act, teacher, mu, x, constant, of))
