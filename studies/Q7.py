"""Features pretrained on f°, tested on f' = cos(phi) f° + sin(phi) g (question Q7; all of this is ours).

Linear attention is linear in the labels, so with features and W frozen its error on f' is cos(phi) times that on f° plus sin(phi)
times that on g, prompt by prompt: at every W and every n the loss is a quadratic form in (cos(phi), sin(phi)).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import Kernel, Sigma
from icl_lib.mean_field.landscape import trace
from icl_lib.mean_field.measure import Particles, SingularCovariance, covariance, inverse_root, member, uniform
from icl_lib.mean_field.moments import features
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer, require_number

BLOCK = 200_000  # inputs at a time


class Form(NamedTuple):
    """Loss as a function of phi: cos^2 on_f + 2 cos sin cross + sin^2 on_g."""

    on_f: Float[Tensor, " E"]
    cross: Float[Tensor, " E"]
    on_g: Float[Tensor, " E"]

    def at(self, phi: float) -> Float[Tensor, " E"]:
        """The loss at an angle."""
        c, s = math.cos(phi), math.sin(phi)
        return c * c * self.on_f + 2 * c * s * self.cross + s * s * self.on_g


def form_of(loss: Callable[[float], Float[Tensor, " E"]]) -> Form:
    """The form of a loss that is one, from its values at 0, pi / 4 and pi / 2.

    >>> found = form_of(Form(*torch.tensor([[1.0], [0.5], [2.0]])).at)
    >>> [round(float(part), 6) for part in found]
    [1.0, 0.5, 2.0]
    """
    on_f, middle, on_g = loss(0.0), loss(math.pi / 4), loss(math.pi / 2)
    return Form(on_f, middle - (on_f + on_g) / 2, on_g)


def _sum(*parts: tuple[Float[Tensor, "E _ k"], Float[Tensor, "E _ d"]]) -> Particles:
    """Neurons (a, w) of several functions in one measure of equal masses, whose feature map is the sum of all a sigma(w^T x)."""
    a, w = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    n = a.shape[1]
    return Particles(a * n, w, uniform(n).expand(len(a), -1).clone())


def between(teacher: Particles, g: Particles, phi: float) -> Particles:
    """f' = cos(phi) f° + sin(phi) g, as the neurons of both."""
    shares = ((math.cos(phi), teacher), (math.sin(phi), g))
    return _sum(*((share * nu.a * nu.p[..., None], nu.w) for share, nu in shares))


def orthogonal(kernel: Kernel, teacher: Particles, g: Particles, spectrum: Float[Tensor, "E k"]) -> Particles:
    """The part of g that is orthogonal to f° (E[g f°^T] = 0), scaled to covariance diag(spectrum); neurons of both.

    Raises:
        SingularCovariance: nothing, or too little, of g is orthogonal to f°.
    """
    require(bool((spectrum > 0).all()), "spectrum", spectrum.tolist(), "positive")
    along = covariance(kernel, g, teacher) @ inverse_root(covariance(kernel, teacher, teacher), "Sigma of f°", -1.0)
    raw = _sum((g.a * g.p[..., None], g.w), (-teacher.a * teacher.p[..., None] @ along.mT, teacher.w))
    left, whole = covariance(kernel, raw, raw), covariance(kernel, g, g)
    if (trace(left) < 1e-10 * trace(whole)).any():  # rounding
        raise SingularCovariance("nothing of g is orthogonal to f°")
    white = inverse_root(left, "Sigma of g's orthogonal part")
    return raw._replace(a=raw.a @ white * spectrum.sqrt()[:, None])


def drawn_spectrum(k: int, seeds: Sequence[int], low: float = 0.3, high: float = 3.0) -> Float[Tensor, "E k"]:
    """Eigenvalues log-uniform in [low, high], stream (seed, "spectrum of g")."""
    require_integer("k", k, 1)
    require_number("low", low, low=1e-9, high=high, allowed=f"above 0 and at most high = {high:g}")
    draws = [torch.rand(k, generator=generator(s, "spectrum of g"), dtype=torch.float64) for s in seeds]
    return low * (high / low) ** torch.stack(draws)


class Prompts(NamedTuple):
    """Prompts with labels by f° and by g from the same v: all that linear attention sees of them.

    Attributes:
        labels: of the query, by f° and by g.
        contexts: 1/n sum_i y_i h(x_i), by f° and by g.
        query: h(x_query).
    """

    labels: Float[Tensor, "E P 2"]
    contexts: Float[Tensor, "E P 2 k"]
    query: Float[Tensor, "E P k"]

    def errors(self, w: Float[Tensor, "E k k"]) -> Float[Tensor, "E P 2"]:
        """Label minus prediction of every prompt, on f° and on g."""
        return self.labels - (self.contexts @ (w[:, None] @ self.query[..., None]))[..., 0]

    def form(self, w: Float[Tensor, "E k k"]) -> Form:
        """Mean loss over the prompts, as a function of phi."""
        on_f, on_g = self.errors(w).unbind(-1)
        return Form(*((one * other).mean(1) / 2 for one, other in ((on_f, on_f), (on_f, on_g), (on_g, on_g))))


def _of_one(seed: int, act: Sigma, nus: Sequence[Particles], n: int, n_prompts: int, purpose: str) -> list[Tensor]:
    """The fields of ``Prompts`` for one member, (P, ...) each."""
    gen, (f, g, mu) = generator(seed, purpose, n), nus
    found: tuple[list[Tensor], ...] = ([], [], [])
    block = max(1, BLOCK // (n + 1))
    for first in range(0, n_prompts, block):
        size = min(block, n_prompts - first)
        x = torch.randn(size * (n + 1), mu.w.shape[2], generator=gen, dtype=mu.w.dtype)
        v = torch.randn(size, f.a.shape[2], generator=gen, dtype=mu.w.dtype)
        h = features(act, mu, x)[0].view(size, n + 1, -1)
        y = torch.stack([(features(act, nu, x)[0].view(size, n + 1, -1) @ v[..., None])[..., 0] for nu in (f, g)], -1)
        for store, part in zip(found, (y[:, n], y[:, :n].mT @ h[:, :n] / n, h[:, n]), strict=True):
            store.append(part)
    return [torch.cat(store) for store in found]


def draw_prompts(
    activation: Sigma,
    nus: tuple[Particles, Particles, Particles],
    n: int,
    n_prompts: int,
    seeds: Sequence[int],
    purpose: str = "check",
) -> Prompts:
    """Whole prompts of n contexts, nothing averaged; x and v Gaussian; nus = (f°, g, mu), one member per seed.

    Args:
        purpose: of the stream (seed, purpose, n); "check" and "eval" are held out.
    """
    require_integer("n", n, 1)
    require_integer("n_prompts", n_prompts, 1)
    require(len(seeds) == len(nus[2].p), "seeds", list(seeds), f"one per member, {len(nus[2].p)}")
    members = []
    for e, seed in enumerate(seeds):
        members.append(_of_one(seed, activation, [member(nu, e) for nu in nus], n, n_prompts, purpose))
    return Prompts(*(torch.stack(parts) for parts in zip(*members, strict=True)))


def fitted_attention(prompts: Prompts, phi: float) -> Float[Tensor, "E k k"]:
    """W that fits the labels by f' of these prompts best (least squares in its k^2 entries)."""
    sides = torch.tensor([math.cos(phi), math.sin(phi)], dtype=prompts.labels.dtype)
    k = prompts.query.shape[2]
    require(prompts.query.shape[1] >= k * k, "prompts", prompts.query.shape[1], f"at least k^2 = {k * k}")
    context = (sides[:, None] * prompts.contexts).sum(2)
    design = (context[..., None] * prompts.query[..., None, :]).flatten(2)
    return torch.linalg.lstsq(design, (prompts.labels @ sides)[..., None]).solution.view(-1, k, k)
