"""Critical points: constructed saddles, how they are perturbed and left, and where descent ends.

A saddle for any k, spectrum and set of missing outputs (ours). Teacher: neuron j on axis j, whitened,
Sigma_{mu° mu°} = diag(lambda). Model: the teacher's neuron for every output that is learnt; for each missing output a
neuron on an axis that the teacher does not use. For an odd activation features on different axes are uncorrelated, so
M = A B^{-1} is the identity on learnt outputs and 0 on missing ones: M^T zeta = 0, dL/dmu vanishes on all of Theta, and
L is half the sum of the missing lambda. Rotating x, mapping the outputs by an invertible R (L does not see it) and
splitting particles keep this true and make the point look like any other.

``polish`` descends from many small starts by saddle-free Newton steps (Dauphin et al. 2014; for Kim & Suzuki 2024,
Theorem 3.3): -|Hessian|^{-1} gradient, |.| of the eigenvalues, and the best of a few multiples. They leave saddles
along negative curvature and settle at minima only, so that an end which is not at loss 0 shows a possible trap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.changes import isotropic
from icl_lib.mean_field.hessian import dense_blocks, exact_loss, hessian_kernel
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import covariances, trace
from icl_lib.mean_field.measure import (
    Particles,
    TeacherConfig,
    check_particles,
    covariance,
    inverse_root,
    stack,
    teachers,
    uniform,
)
from icl_lib.rng import generator
from icl_lib.stats import Interval, binomial_interval
from icl_lib.validate import require, require_integer, require_number

SCALES = (3.0, 2.0, 1.0, 0.5, 0.2, 0.05, 0.01, 1e-3, 1e-5, 1e-7)  # multiples of a Newton step
CHUNK = 1000  # losses at a time, which fit in the cache
KINDS = ("global minimum", "strict saddle", "trap", "unresolved")


@dataclass(frozen=True)
class SaddleConfig:
    """One constructed critical point, with its teacher.

    Attributes:
        spectrum: lambda_1 .. lambda_k, positive.
        missing: J, indices of the outputs that the model misses; none gives a global minimum.
        d: inputs, at least k + |J|.
        size: length of the weights w.
        copies: particles that each neuron is split into, with random masses.
        rotate: turn x by a random rotation. mix: map the model's outputs by a random invertible matrix.
        seed: of the stream "saddle".
    """

    spectrum: tuple[float, ...] = (1.0, 0.7, 0.5, 0.3, 0.2)
    missing: tuple[int, ...] = (0,)
    d: int = 20
    size: float = 2.0
    copies: int = 1
    rotate: bool = True
    mix: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("spectrum", "missing"):
            require(isinstance(getattr(self, name), tuple), name, getattr(self, name), "a tuple")
        k = len(self.spectrum)
        inside = all(isinstance(j, int) and 0 <= j < k for j in self.missing)
        inside = inside and len(set(self.missing)) == len(self.missing)
        require(inside, "missing", self.missing, f"different output numbers below k = {k}")
        least = k + len(self.missing)
        enough = f"at least k + |J| = {least}: each missing output needs a free axis"
        require_integer("d", self.d, least, allowed=enough)
        require_integer("copies", self.copies, 1)
        self.teacher()  # checks spectrum, size and seed

    def teacher(self) -> TeacherConfig:
        """The teacher: neuron j on axis j, with this spectrum."""
        k = len(self.spectrum)
        return TeacherConfig("axes", k, self.d, k, self.size, self.spectrum, self.seed)

    def height(self) -> float:
        """L at the saddle: half the sum of the missing lambda."""
        return sum(self.spectrum[j] for j in self.missing) / 2


def saddle(config: SaddleConfig, kernel: Kernel) -> tuple[Particles, Particles]:
    """Teacher and model, ensembles of one; refuses an activation that is not odd, under which axes are correlated.

    >>> from icl_lib.mean_field import Erf, covariances, loss
    >>> config = SaddleConfig(spectrum=(1.0, 0.6), missing=(1,), d=4)
    >>> round(float(loss(covariances(Erf(), *saddle(config, Erf())))), 6), config.height()
    (0.3, 0.3)
    """
    teacher = teachers([config.teacher()], kernel)
    c = covariance(kernel, teacher, teacher)[0]
    k, d, gen = len(config.spectrum), config.d, generator(config.seed, "saddle")
    w = teacher.w[0].clone()
    w[list(config.missing)] = config.size * torch.eye(d, dtype=w.dtype)[k : k + len(config.missing)]
    a = k * torch.eye(k, dtype=w.dtype)
    plain = Particles(a[None], w[None], uniform(k))
    cross = covariance(kernel, teacher, plain)[0][:, list(config.missing)]
    odd = bool((cross.abs() < 1e-9 * c.abs().max()).all())
    require(odd, "kernel", type(kernel).__name__, "of an odd activation, so that axes are uncorrelated")
    if config.rotate:
        turn = torch.linalg.qr(torch.randn(d, d, generator=gen, dtype=w.dtype)).Q
        w, teacher = w @ turn, teacher._replace(w=teacher.w @ turn)
    if config.mix:
        a = a @ torch.randn(k, k, generator=gen, dtype=w.dtype)
    masses = torch.rand(k, config.copies, generator=gen, dtype=w.dtype) + 0.2
    masses = (masses / masses.sum(1, keepdim=True) / k).flatten()
    a, w = (part.repeat_interleave(config.copies, dim=0)[None] for part in (a, w))
    return teacher, Particles(a, w, masses[None])


def saddle_of_seed(
    seed: int,
    k: int = 2,
    d: int = 6,
    copies: int = 8,
    low: float = 0.5,
    high: float = 1.5,
    missing: tuple[int, ...] = (0,),
    rotate: bool = True,
) -> SaddleConfig:
    """A constructed saddle with lambda_j uniform in [low, high], stream (seed, "spectrum")."""
    require_integer("k", k, 1)
    require_number("low", low, low=1e-9, high=high, allowed=f"above 0 and at most high = {high:g}")
    draws = torch.rand(k, generator=generator(seed, "spectrum"), dtype=torch.float64)
    spectrum = tuple((low + (high - low) * draws).tolist())
    return SaddleConfig(spectrum, missing, d, copies=copies, rotate=rotate, seed=seed)


def saddles(configs: Sequence[SaddleConfig], kernel: Kernel) -> tuple[Particles, Particles]:
    """Teachers and models of several saddles of one shape, as ensembles."""
    pairs = [saddle(config, kernel) for config in configs]
    return stack([teacher for teacher, _ in pairs]), stack([mu for _, mu in pairs])


def gaussian_process(
    kernel: Kernel, teacher: Particles, mu: Particles, seeds: Sequence[int], step: int = 0
) -> Float[Tensor, "E N q"]:
    """One draw of the Gaussian process at the particles, made from the same numbers as ``isotropic``.

    Time and memory grow as (N q)^2. Raises ``SingularCovariance`` where B cannot be inverted.
    """
    z = isotropic(mu, seeds, step) * mu.p.sqrt()[..., None]
    return torch.einsum("enmqr,emr->enq", hessian_kernel(kernel, teacher, mu, mu.theta, mu.theta), z)


def escape_times(history: pd.DataFrame, levels: Float[Tensor, " E"]) -> Float[Tensor, " E"]:
    """When each member's loss in a history of ``flow`` is first below its level, linear between rows; nan if never."""
    members = [part.sort_values("time") for _, part in history.groupby("member", sort=True)]
    require(len(levels) == len(members), "levels", len(levels), f"one per member, {len(members)}")
    found = torch.full((len(members),), float("nan"), dtype=torch.float64)
    for e, (part, level) in enumerate(zip(members, levels.tolist(), strict=True)):
        time, loss = (torch.tensor(part[c].to_numpy(), dtype=torch.float64) for c in ("time", "loss"))
        below = loss < level
        if below.any():
            i = int(below.int().argmax())
            found[e] = time[i]
            if i:
                share = (loss[i - 1] - level) / (loss[i - 1] - loss[i])
                found[e] = time[i - 1] + share * (time[i] - time[i - 1])
    return found


def _members(theta: Tensor, like: Particles, teacher: Particles, which: Tensor) -> tuple[Particles, Particles]:
    """The teachers of members ``which``, and the members that flat coordinates describe."""
    t, k = theta.view(len(theta), like.a.shape[1], -1), like.a.shape[2]
    mu = Particles(t[..., :k], t[..., k:], like.p[:1].expand(len(theta), -1))
    if len(teacher.p) == 1:
        return Particles(*(part.expand(len(theta), *part.shape[1:]) for part in teacher)), mu
    return Particles(*(part[which] for part in teacher)), mu


def _whitened(kernel: Kernel, theta: Tensor, n: int, k: int) -> Tensor:
    """a -> B^{-1/2} a: the loss does not see it, and Newton steps cannot drift to where B is nearly singular."""
    t = theta.view(len(theta), n, -1)
    a, w = t[..., :k], t[..., k:]
    sigma = a.mT @ kernel.gram(w, w) @ a / n**2
    return torch.cat([a @ inverse_root(sigma, "Sigma_mumu"), w], dim=2).flatten(1)


def _newton(gradient: Tensor, hessian: Tensor) -> tuple[Tensor, ...]:
    """The gradient, eigenvalues, and the saddle-free Newton step, of root mean square at most 1."""
    values, vectors = torch.linalg.eigh(hessian)
    inner = torch.einsum("epq,ep->eq", vectors, gradient)
    damped = values.abs().maximum(1e-9 * values.abs().amax(1, keepdim=True))
    step = -torch.einsum("epq,eq->ep", vectors, inner / damped)
    shorter = (step.shape[1] ** 0.5 / step.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1)
    return gradient, values, step * shorter


def _best_step(
    loss: Callable, theta: Tensor, which: Tensor, value: Tensor, steps: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Each member's best multiple of one of its steps; at a degenerate minimum it is more than one Newton step."""
    tried = torch.stack([theta + scale * step for step in steps for scale in SCALES])
    chunks = zip(tried.flatten(0, 1).split(CHUNK), which.repeat(len(tried)).split(CHUNK), strict=True)
    losses = torch.cat([loss(*some) for some in chunks]).view(tried.shape[:2])
    best, multiple = losses.nan_to_num(nan=torch.inf).min(0)
    return tried[multiple, torch.arange(len(theta))], best >= value


def polish(
    kernel: Kernel, teacher: Particles, mu: Particles, n_steps: int = 300, floor: float = 1e-4, flat: float = 1e-7
) -> tuple[Particles, pd.DataFrame]:
    """Descend from every member of ``mu`` and say what its end is.

    Args:
        teacher: one, shared by all members, or one per member.
        mu: of equal masses.
        n_steps: at most so many Newton steps.
        floor: a loss below this share of that of a model without features, tr Sigma_{mu° mu°} / 2, is a global minimum.
        flat: a gradient below this, relative to the same loss, is a critical point.

    Returns:
        The ends, and one row per member: member, loss and height (relative to the loss without features), gradient (its
        length, relative), curvature (smallest eigenvalue of the Hessian over the largest absolute one), steps,
        kind: "global minimum"; "strict saddle", flat with curvature below -1e-6; "trap", flat without it; "unresolved".
    """
    check_particles(mu)
    require(
        len(teacher.p) in (1, len(mu.p)), "teacher", len(teacher.p), "one, shared by all members, or one per member"
    )
    require(bool((mu.p == mu.p[0, 0]).all()), "p", "masses that differ", "equal, and shared by all members")
    require_integer("n_steps", n_steps, 1)
    for name, number in (("floor", floor), ("flat", flat)):
        require_number(name, number, low=1e-15, allowed="a finite number above 0")

    def loss(theta: Tensor, which: Tensor) -> Tensor:
        return exact_loss(kernel, *_members(theta, mu, teacher, which))

    size = (trace(covariances(kernel, teacher, teacher).c) / 2).expand(len(mu.p))
    theta = mu.theta.flatten(1)
    taken = torch.zeros(len(theta), dtype=torch.long)
    gradients, curvature, losses = (torch.full((len(theta),), torch.nan, dtype=theta.dtype) for _ in range(3))
    active = torch.arange(len(theta))
    for _ in range(n_steps + 1):
        theta[active] = _whitened(kernel, theta[active], *mu.a.shape[1:])
        parts = [_newton(*some) for some in dense_blocks(kernel, *_members(theta[active], mu, teacher, active))]
        gradient, values, step = (torch.cat(part) for part in zip(*parts, strict=True))
        value, unit = loss(theta[active], active), size[active]
        losses[active], gradients[active] = value / unit, gradient.norm(dim=1) / unit
        curvature[active] = values[:, 0] / values.abs().amax(1)
        done = (value / unit < floor) | ((gradients[active] < flat) & (curvature[active] > -1e-6))
        downhill = -gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)
        moved, stuck = _best_step(loss, theta[active], active, value, (step, downhill))
        go = ~(done | stuck)
        theta[active[go]] = moved[go]
        taken[active[go]] += 1
        active = active[go]
        if not len(active):
            break
    signs = zip(losses < floor, gradients < flat, curvature < -1e-6, strict=True)
    kind = [KINDS[0 if low else 3 if not still else 1 if bent else 2] for low, still, bent in signs]
    table = {"member": range(len(theta)), "loss": losses * size, "height": losses, "gradient": gradients}
    table |= {"curvature": curvature, "steps": taken, "kind": kind}
    return _members(theta, mu, teacher, torch.arange(len(theta)))[1], pd.DataFrame(table)


def trap_share(table: pd.DataFrame) -> Interval:
    """Share of ends that are neither a global minimum nor a strict saddle; exact interval (Clopper and Pearson 1934).

    Starts that share a teacher are independent given it; with a teacher each, each is a unit of its own. Unresolved ends
    count as traps.
    """
    return binomial_interval(~table["kind"].isin(KINDS[:2]))
