"""Moments of features, and from them the loss on prompts of n contexts (Kim & Suzuki 2024, Appendix C.4).

y_i = v^T f°(x_i) + noise eps_i with E[v v^T] = 1, E[eps^2] = 1, and a query without noise. The prediction is g^T W
h(x_q) with g = 1/n sum_i y_i h(x_i). The loss is quadratic in v, so only E[v v^T] counts of the law of v:

L^n(mu, W) = 1/2 tr C - tr(A W A^T) + 1/2 tr(W^T S W B),   S = E[g g^T] = Q / n + (1 - 1/n) A^T A + noise^2 B / n,

Q = E[|f°|^2 h h^T]. Its minimiser is W_n = S^{-1} A^T A B^{-1}, which tends to B^{-1} with n. A and B have closed forms
for x ~ N(0, I_d). Q is a fourth-order Gaussian expectation without one for erf: it is estimated from inputs, with a
standard error, or exact for their own law.

Linear attention sees features only through these moments, whatever they are: h~ = (h_mu, 1) of a model, (f°, 1) of an
oracle, (x, 1) of attention without an MLP. The constant is ours: with it no model gains from being able to make one. In
the limit of infinite prompts it takes the mean out of h_mu. All formulas are derived by us.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import Activation, Sigma, network
from icl_lib.mean_field.landscape import Covariances, trace
from icl_lib.mean_field.measure import Particles, covariance, member, with_one
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer, require_number


class Moments(NamedTuple):
    """What L^n is made of: A, B, C, and Q = E[|f°|^2 h h^T]."""

    cov: Covariances
    q: Float[Tensor, "E k k"]


def features(activation: Sigma, mu: Particles, x: Float[Tensor, "*E S d"]) -> Float[Tensor, "E S k"]:
    """h_mu(x); inputs for all members, or for each its own. Autograd goes through it."""
    return activation(x @ mu.w.mT) @ mu.weighted


def q_sum(f: Float[Tensor, "*E S k0"], h: Float[Tensor, "*E S k"]) -> Float[Tensor, "*E k k"]:
    """|f|^2 h h^T summed over inputs."""
    return h.mT @ (f.square().sum(-1, keepdim=True) * h)


def fourth_moment(
    activation: Sigma, teacher: Particles, mu: Particles, x: Float[Tensor, "S d"], block: int = 8192
) -> tuple[Float[Tensor, "E k k"], Float[Tensor, "E k k"]]:
    """Q over the inputs x, and the standard error of its entries as an estimate for the law they came from."""
    k = mu.a.shape[2]
    first, second = (torch.zeros(len(mu.a), k, k, dtype=mu.a.dtype) for _ in range(2))
    for part in x.split(block):
        f, h = (features(activation, m, part) for m in (teacher, mu))
        first += q_sum(f, h)
        second += h.square().mT @ (f.square().sum(-1, keepdim=True).square() * h.square())
    mean = first / len(x)
    return mean, ((second / len(x) - mean.square()) / len(x)).clamp(min=0).sqrt()


def empirical_moments(activation: Sigma, teacher: Particles, mu: Particles, x: Float[Tensor, "S d"]) -> Moments:
    """All moments for the empirical law of x, for which L^n is then exact; autograd goes through it."""
    f, h = (features(activation, m, x) for m in (teacher, mu))
    cov = Covariances(f.mT @ h / len(x), h.mT @ h / len(x), f.mT @ f / len(x))
    return Moments(cov, q_sum(f, h) / len(x))


def context_moment(m: Moments, n: float, noise: float = 0.0) -> Float[Tensor, "E k k"]:
    """S = E[g g^T]; n may be inf."""
    require_number("n", n, low=1, or_infinity=True)
    require_number("noise", noise, low=0)
    ata = m.cov.a.mT @ m.cov.a
    return ata + (m.q - ata + noise**2 * m.cov.b) / n


def loss_n(m: Moments, w: Float[Tensor, "E k k"], n: float, noise: float = 0.0) -> Float[Tensor, " E"]:
    """L^n(mu, W), exactly; L_TF at n = inf. Noise in the query's label would add noise^2 / 2.

    >>> from icl_lib.mean_field.landscape import loss_at
    >>> one = torch.eye(2).double()[None]
    >>> m = Moments(Covariances(one, one, one), 4 * one)
    >>> [round(float(loss_n(m, 0.5 * one, n)), 6) for n in (10, 1000, float("inf"))]
    [0.325, 0.25075, 0.25]
    >>> float(loss_at(m.cov, 0.5 * one))
    0.25
    """
    a, b, c = m.cov
    return trace(c) / 2 - trace(a @ w @ a.mT) + trace(w.mT @ context_moment(m, n, noise) @ w @ b) / 2


def optimum_n(m: Moments, n: float, noise: float = 0.0) -> Float[Tensor, "E k k"]:
    """W_n = S^{-1} A^T A B^{-1}; raises ``SingularCovariance`` where B cannot be inverted."""
    return torch.linalg.solve(context_moment(m, n, noise), m.cov.a.mT @ m.cov.a) @ m.cov.optimum


def excess_constant(m: Moments, w: Float[Tensor, "E k k"], noise: float = 0.0) -> Float[Tensor, " E"]:
    """n (L^n - L_TF) at W, the same for all n: 1/2 tr(W^T (Q - A^T A + noise^2 B) W B)."""
    variance = context_moment(m, 1, noise) - m.cov.a.mT @ m.cov.a
    return trace(w.mT @ variance @ w @ m.cov.b) / 2


def sampled_contexts(
    activation: Sigma, teacher: Particles, mu: Particles, n: int, n_prompts: int, seeds: Sequence[int]
) -> tuple[Float[Tensor, "E P k0 k"], Float[Tensor, "E P k k"]]:
    """1/n sum_i f°(x_i) h(x_i)^T and 1/n sum_i h h^T of prompts with Gaussian inputs; stream (seed, "eval", n)."""
    require_integer("n", n, 1)
    require_integer("n_prompts", n_prompts, 1)
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for e, seed in enumerate(seeds):
        gen = generator(seed, "eval", n)
        x = torch.randn(n_prompts * n, mu.w.shape[2], generator=gen, dtype=mu.w.dtype)
        f, h = (features(activation, member(nu, e), x)[0].view(n_prompts, n, -1) for nu in (teacher, mu))
        for store, left in zip(found, (f, h), strict=True):
            store.append(left.mT @ h / n)
    return torch.stack(found[0]), torch.stack(found[1])


def prompt_losses(
    cov: Covariances, w: Float[Tensor, "E k k"], a_hat: Float[Tensor, "E P k0 k"]
) -> Float[Tensor, "E P"]:
    """Loss of each prompt, with the mean over v and over the query taken exactly: 1/2 E|f° - A_hat W h|^2."""
    aw = a_hat @ w[:, None]
    return trace(cov.c[:, None] - 2 * aw @ cov.a.mT[:, None] + aw @ cov.b[:, None] @ aw.mT) / 2


def best_loss_n(m: Moments, n: float, noise: float = 0.0) -> Float[Tensor, " E"]:
    """min_W L^n(mu, W) = 1/2 tr C - 1/2 tr(S^{-1} X B^{-1} X), X = A^T A."""
    x = m.cov.a.mT @ m.cov.a
    shrunk = torch.linalg.solve(context_moment(m, n, noise), x) @ torch.linalg.solve(m.cov.b, x)
    return (trace(m.cov.c) - trace(shrunk)) / 2


def raw_inputs(d: int, members: int = 1) -> Particles:
    """Particles whose features by the activation "identity" are x itself: no MLP."""
    require_integer("d", d, 1)
    eye = torch.eye(d, dtype=torch.float64).expand(members, d, d).clone()
    return Particles(eye * d, eye.clone(), torch.full((members, d), 1 / d, dtype=torch.float64))


def mean_feature(act: Activation, mu: Particles) -> Float[Tensor, "E k"]:
    """E h_mu."""
    return (mu.a * (mu.p * act.means(mu.w))[..., None]).sum(1)


def model_covariances(
    act: Activation,
    teacher: Particles,
    mu: Particles,
    constant: bool = True,
    of: Activation | None = None,
    c: Float[Tensor, "E k0 k0"] | None = None,
) -> Covariances:
    """A~ = (A, E f°), B~ = ((B, E h), (E h^T, 1)) and C.

    Args:
        act: sigma of the teacher.
        constant: whether 1 is among the features.
        of: sigma of the model, if it is another one.
        c: C, where it is known.

    Raises:
        ConfigError: two different activations, none of them "identity".
    """
    of = of or act
    if of is act:
        a = covariance(act.kernel(), teacher, mu)
    else:
        pair = act.name, of.name
        require("identity" in pair, "activation", pair, "the same for teacher and model, or identity for one of them")
        a = teacher.weighted.mT @ act.linear_parts(teacher.w) @ of.linear_parts(mu.w).mT @ mu.weighted
    b = covariance(of.kernel(), mu, mu)
    c = covariance(act.kernel(), teacher, teacher) if c is None else c
    cov = Covariances(a, (b + b.mT) / 2, c)
    if not constant:
        return cov
    mean_f, mean_h = mean_feature(act, teacher), mean_feature(of, mu)
    last = torch.cat([mean_h[:, None], torch.ones_like(mean_h[:, :1, None])], 2)
    b = torch.cat([torch.cat([cov.b, mean_h[..., None]], 2), last], 1)
    return Covariances(torch.cat([cov.a, mean_f[..., None]], 2), b, c)


def model_moments(
    act: Activation,
    teacher: Particles,
    mu: Particles,
    x: Float[Tensor, "S d"],
    constant: bool = True,
    of: Activation | None = None,
    c: Float[Tensor, "E k0 k0"] | None = None,
) -> Moments:
    """As ``model_covariances``, and Q~ over the inputs x, in their precision."""
    q = []
    for e in range(len(teacher.p)):
        f, h = (network(s, m.weighted[e], m.w[e], x) for s, m in ((act, teacher), (of or act, mu)))
        q.append(q_sum(f, with_one(h) if constant else h) / len(x))
    return Moments(model_covariances(act, teacher, mu, constant, of, c), torch.stack(q).to(teacher.a.dtype))
