"""What finite prompts cost, and the minima that they make (question Q10; ours).

Of the features only their span counts: min_W L^n does not change under a -> G a. F_n(mu) = min_W L^n(mu, W) is a mean
over prompts of n contexts, our reading of Appendix C.4 of Kim & Suzuki 2024. Here it is exact for an empirical law of
the inputs, symmetric under a change of sign of each of them, so that features of one input stay so in a descent.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import grad, hessian, vmap

from icl_lib.mean_field.kernels import Sigma
from icl_lib.mean_field.landscape import loss, trace
from icl_lib.mean_field.measure import Particles, inverse_root
from icl_lib.mean_field.moments import Moments, features
from icl_lib.rng import generator
from icl_lib.twin import twinned
from icl_lib.validate import require, require_integer, require_number

SCALES = (2.0, 1.0, 0.5, 0.2, 0.05, 0.01, 1e-3)  # multiples of a Newton step and of one downhill; the best is taken


def bound(m: Moments, noise: float = 0.0) -> Float[Tensor, " E"]:
    """c of 0 <= min_W L^n - L <= c / n: (E[|f°|^2 |u|^2] + noise^2 k) / 2 with u = B^{-1/2} h.

    >>> from icl_lib.mean_field.landscape import Covariances
    >>> one = torch.eye(2).double()[None]
    >>> float(bound(Moments(Covariances(one, one, one), 4 * one), noise=1.0))
    5.0
    """
    require_number("noise", noise, low=0)
    return (trace(m.q @ m.cov.optimum) + noise**2 * m.q.shape[-1]) / 2


def first_order(m: Moments, noise: float = 0.0) -> Float[Tensor, " E"]:
    """n (min_W L^n - L) / c for many contexts: 1 - (tr C - 2 L) / 2 c."""
    return 1 - (trace(m.cov.c) - 2 * loss(m.cov)) / (2 * bound(m, noise))


def symmetric_inputs(n: int, d: int, seeds: Sequence[int]) -> Float[Tensor, "E S d"]:
    """n Gaussian points for each seed with all changes of signs, S = n 2^d; stream (seed, "inputs", d)."""
    require_integer("n", n, 1)
    require_integer("d", d, 1, 12)
    signs = 1 - 2.0 * torch.cartesian_prod(*[torch.arange(2)] * d).view(-1, d).double()
    points = [torch.randn(n, d, generator=generator(s, "inputs", d), dtype=torch.float64) for s in seeds]
    return torch.stack([(signs[:, None] * x).flatten(0, 1) for x in points])


class Problem(NamedTuple):
    """Inputs, targets there, and n of each member; `long`: prompts are infinitely long, and F_n is L."""

    sigma: Sigma
    x: Float[Tensor, "E S d"]
    f: Float[Tensor, "E S k"]
    n: Float[Tensor, " E"]
    long: bool = False

    def members(self, some: slice) -> "Problem":
        """Some of them."""
        return self._replace(x=self.x[some], f=self.f[some], n=self.n[some])


def problem(sigma: Sigma, teacher: Particles, x: Float[Tensor, "E S d"], n: Float[Tensor, " E"]) -> Problem:
    """Of one teacher, one set of inputs and one n per member."""
    sizes = len(teacher.p), len(x), len(n)
    require(len(set(sizes)) == 1, "n", sizes, "as many teachers and sets of inputs as numbers of contexts")
    return Problem(sigma, x, features(sigma, teacher, x), n)


def _value(p: Problem, theta: Tensor, x: Tensor, f: Tensor, n: Tensor) -> Tensor:
    """F_n of one member at theta (N, k + d), or L; with inverses, since a batch of matrices may read as one of vectors."""
    k = f.shape[1]
    h = p.sigma(x @ theta[:, k:].mT) @ theta[:, :k] / len(theta)
    a, b_inv = f.mT @ h / len(x), torch.linalg.inv_ex(h.mT @ h / len(x))[0]
    half, ata = f.square().sum() / (2 * len(x)), a.mT @ a
    if p.long:
        return half - (b_inv @ ata).trace() / 2
    q = h.mT @ (f.square().sum(1, keepdim=True) * h) / len(x)
    s = ata + (q - ata) / n
    return half - (torch.linalg.inv_ex(s)[0] @ ata @ b_inv @ ata).trace() / 2


def values(p: Problem, theta: Float[Tensor, "E N q"]) -> Float[Tensor, " E"]:
    """F_n of each member."""
    return vmap(partial(_value, p))(theta, p.x, p.f, p.n)


def _particles(p: Problem, theta: Tensor) -> Particles:
    k, shape = p.f.shape[2], theta.shape[:2]
    return Particles(theta[..., :k], theta[..., k:], theta.new_full(shape, 1 / shape[1]))


def whitened(p: Problem, theta: Float[Tensor, "E N q"]) -> Float[Tensor, "E N q"]:
    """a -> B^{-1/2} a: E[h h^T] = 1 over the inputs."""
    k, h = p.f.shape[2], features(p.sigma, _particles(p, theta), p.x)
    root = inverse_root(h.mT @ h / p.x.shape[1], "Sigma_mumu")
    return torch.cat([theta[..., :k] @ root, theta[..., k:]], 2)


def derivatives(p: Problem, theta: Float[Tensor, "E N q"]) -> tuple[Float[Tensor, "E P"], Float[Tensor, "E P P"]]:
    """Gradient and Hessian of F_n in flat coordinates, P = N q."""

    def of(flat: Tensor, x: Tensor, f: Tensor, n: Tensor) -> Tensor:
        return _value(p, flat.view(theta.shape[1:]), x, f, n)

    some = theta.flatten(1), p.x, p.f, p.n
    return vmap(grad(of))(*some), vmap(hessian(of))(*some)


def minimise(
    p: Problem,
    theta: Float[Tensor, "E N q"],
    n_steps: int,
    free: Bool[Tensor, " q"] | None = None,
    longest: float = 0.2,
) -> Float[Tensor, "E N q"]:
    """Saddle-free Newton steps -|Hessian|^{-1} gradient of F_n (Dauphin et al. 2014), all members at once.

    Args:
        free: coordinates of a particle that may move; None for all.
        longest: root mean square over particles of a Newton step, and of one downhill; short ones stay in their basin.
    """
    require_integer("n_steps", n_steps, 1)
    e, n, q = theta.shape
    keep = (torch.ones(q, dtype=torch.bool) if free is None else free).repeat(n)
    theta = twinned(theta, 0)
    for _ in range(n_steps):
        theta = whitened(p, theta)
        gradient, second = derivatives(p, theta)
        gradient, second = gradient[:, keep], second[:, keep][:, :, keep]
        size, vectors = torch.linalg.eigh(second)
        size = size.abs().maximum(1e-9 * size.abs().amax(1, keepdim=True))
        step = torch.zeros_like(theta.flatten(1))
        step[:, keep] = -(vectors @ ((vectors.mT @ gradient[..., None]) / size[..., None]))[..., 0]
        shorter = (longest * n**0.5 / step.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1)
        step = (step * shorter).view(e, n, q)
        downhill = -longest * n**0.5 * (gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-300))
        steps = step, torch.zeros_like(step.flatten(1)).masked_scatter(keep.expand(e, -1), downhill).view(e, n, q)
        tried = torch.stack([theta, *(theta + scale * way for way in steps for scale in SCALES)])
        found = torch.stack([values(p, some) for some in tried]).nan_to_num(nan=torch.inf)
        theta = tried[found.argmin(0), torch.arange(e)]
    return whitened(p, theta)


def distance(p: Problem, theta: Float[Tensor, "E N q"]) -> Float[Tensor, " E"]:
    """Between the target and the span of the features: (2 L / tr C)^{1/2}, the mean sine of their angles."""
    return (2 * values(p._replace(long=True), theta).clamp(min=0) * p.x.shape[1] / p.f.square().sum((1, 2))).sqrt()


def beside_saddle(p: Problem, size: float, others: Float[Tensor, " M"]) -> Float[Tensor, "E 2 q"]:
    """Two neurons on the first axis, where the target has one of length `size`: that one, and the best of `others` for F_n.

    The second output, on another axis, is missed: for odd activations and inputs that are symmetric, L has a saddle here.
    """
    require(p.f.shape[2] == 2, "k", p.f.shape[2], "2")
    starts = torch.zeros(len(others), 2, 2 + p.x.shape[2], dtype=torch.float64)
    starts[:, 0, 0] = starts[:, 1, 1] = 1
    starts[:, 0, 2], starts[:, 1, 2] = size, others
    found = torch.stack([values(p, one.expand(len(p.n), -1, -1)) for one in starts])
    return starts[found.argmin(0)]


def unstable(p: Problem, theta: Float[Tensor, "E N q"]) -> tuple[Float[Tensor, " E"], Float[Tensor, "E N q"]]:
    """Least curvature of L in Wasserstein distance, and the displacement of root mean square 1 along it."""
    n = theta.shape[1]
    values, vectors = torch.linalg.eigh(derivatives(p._replace(long=True), theta)[1])
    return n * values[:, 0], n**0.5 * vectors[..., 0].view_as(theta)


def radius(
    p: Problem, theta: Float[Tensor, "E N q"], way: Float[Tensor, "E N q"], longest: float = 1.0, points: int = 400
) -> Float[Tensor, " E"]:
    """First distance along `way` at which F_n is below its value at theta; to a part in 10^6, nan if beyond `longest`."""
    require_number("longest", longest, low=1e-6, allowed="a finite number above 0")
    require_integer("points", points, 2)

    at_start = values(p, theta)

    def falls(r: Tensor) -> Tensor:
        return values(p, theta + r[:, None, None] * way) < at_start - 1e-11  # rounding is no fall

    grid = longest * torch.logspace(-4, 0, points, dtype=torch.float64)
    below = torch.stack([falls(r.expand(len(theta))) for r in grid])
    first = below.int().argmax(0)
    high, low = grid[first], torch.where(first > 0, grid[(first - 1).clamp(min=0)], 0)
    for _ in range(20):
        middle = (low + high) / 2
        inside = falls(middle)
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    return torch.where(below.any(0), high, torch.nan)


def predicted_radius(p: Problem, theta: Float[Tensor, "E N q"], way: Float[Tensor, "E N q"]) -> Float[Tensor, " E"]:
    """|E[|f°|^2 u_1 u_2]| / (kappa E[|f°|^2 u_2^2] n)^{1/2} for k = 2, with kappa minus the curvature of L along `way`.

    u_1 is the feature that has learnt, u_2 the other one, which sees nothing of the target and alone moves along `way`.
    """
    h = features(p.sigma, _particles(p, theta), p.x)
    require(h.shape[2] == 2, "k", h.shape[2], "2")
    u = h @ torch.linalg.eigh((p.f.mT @ h).mT @ (p.f.mT @ h))[1]  # ascending: u_2, u_1
    weight, along = p.f.square().sum(2), way.flatten(1)
    cross, own = (weight * u[..., 0] * u[..., 1]).mean(1), (weight * u[..., 0].square()).mean(1)
    bent = derivatives(p._replace(long=True), theta)[1]
    kappa = -torch.einsum("ep,epq,eq->e", along, bent, along)
    return cross.abs() / (kappa * own * p.n).sqrt()


def to_teacher(p: Problem, theta: Float[Tensor, "E N q"], w: Float[Tensor, "E M d"]) -> Float[Tensor, " E"]:
    """A bound on the Wasserstein distance to measures with the target's span: each neuron moves to one of the teacher's, or a to 0.

    For odd activations, where -w is as good as w; output weights are those with E[h h^T] = 1.
    """
    k = p.f.shape[2]
    theta = whitened(p, theta)
    each = [torch.cdist(theta[..., k:], sign * w).amin(2) for sign in (1, -1)]
    paid = torch.stack([*each, theta[..., :k].norm(dim=2)]).amin(0)
    return paid.square().mean(1).sqrt()
