"""Prompts of n contexts: the loss, its optimum in W, and prompts drawn to check them (Kim & Suzuki 2024, Appendix C.4).

y_i = v^T f°(x_i) + noise eps_i with E[v v^T] = 1, E[eps^2] = 1, and a query without noise. The prediction is g^T W h(x_q)
with g = 1/n sum_i y_i h(x_i). All formulas are derived by us. The loss is quadratic in v, so of the law of v only E[v v^T] counts:

L^n(mu, W) = 1/2 tr C - tr(A W A^T) + 1/2 tr(W^T S W B),   S = E[g g^T] = Q / n + (1 - 1/n) A^T A + noise^2 B / n,

Q = E[|f°|^2 h h^T]. Its minimiser is W_n = S^{-1} A^T A B^{-1}, which tends to B^{-1} with n. Q is a fourth-order Gaussian
expectation without a closed form for erf: it is estimated from inputs, with a standard error, or exact for their own law.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.activations import Sigma, differentiable
from icl_lib.mean_field.landscape import Covariances, trace
from icl_lib.mean_field.measure import Particles, member
from icl_lib.mean_field.regression import task_vectors
from icl_lib.rng import generator
from icl_lib.validate import require_integer, require_number


class Moments(NamedTuple):
    """What L^n is made of: A, B, C, and Q = E[|f°|^2 h h^T]."""

    cov: Covariances
    q: Float[Tensor, "E k k"]


def features(activation: Sigma, mu: Particles, x: Float[Tensor, "*E S d"]) -> Float[Tensor, "E S k"]:
    """h_mu(x); inputs for all members, or for each its own. Autograd goes through it."""
    return differentiable(activation, mu.weighted, mu.w, x)


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


def prompt_excess(
    cov: Covariances, w: Float[Tensor, "E k k"], a_hat: Float[Tensor, "E P k0 k"]
) -> Float[Tensor, "E P"]:
    """``prompt_losses`` less L_TF and less their linear part in A_hat - A, whose mean is 0: 1/2 |(A_hat - A) W B^{1/2}|^2.

    The same mean as prompt_losses - L_TF with a smaller variance; at W = B^{-1} the linear part is 0 for every prompt.
    """
    off = (a_hat - cov.a[:, None]) @ w[:, None]
    return trace(off @ cov.b[:, None] @ off.mT) / 2


def whole_prompt_losses(
    activation: Sigma,
    nu: tuple[Particles, Particles],
    w: Float[Tensor, "E k k"],
    n: int,
    n_prompts: int,
    seeds: Sequence[int],
    law: str = "gaussian",
    noise: float = 0.0,
) -> Float[Tensor, "E P"]:
    """1/2 (y_q - prediction)^2 of whole prompts, nothing averaged; nu = (teacher, mu).

    Args:
        law: of v, see ``task_vectors``.
        noise: standard deviation of that on context labels.
    """
    found = []
    for e, seed in enumerate(seeds):
        gen, one = generator(seed, "check", n), [member(m, e) for m in nu]
        x = torch.randn(n_prompts * (n + 1), one[0].w.shape[2], generator=gen, dtype=w.dtype)
        f, h = (features(activation, m, x)[0].view(n_prompts, n + 1, -1) for m in one)
        v = task_vectors(law, (n_prompts, f.shape[2]), gen)
        y = torch.linalg.vecdot(f, v[:, None])
        labels = y[:, :n] + noise * torch.randn(n_prompts, n, generator=gen, dtype=w.dtype)
        g = (labels[..., None] * h[:, :n]).mean(1)
        found.append((y[:, n] - torch.linalg.vecdot(g @ w[e], h[:, n])).square() / 2)
    return torch.stack(found)


def best_loss_n(m: Moments, n: float, noise: float = 0.0) -> Float[Tensor, " E"]:
    """min_W L^n(mu, W) = 1/2 tr C - 1/2 tr(S^{-1} X B^{-1} X), X = A^T A."""
    x = m.cov.a.mT @ m.cov.a
    shrunk = torch.linalg.solve(context_moment(m, n, noise), x) @ torch.linalg.solve(m.cov.b, x)
    return (trace(m.cov.c) - trace(shrunk)) / 2
