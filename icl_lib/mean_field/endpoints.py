"""Where descent ends: many small starts, polished by a second-order method and classified (for Kim & Suzuki 2024, Theorem 3.3).

Saddle-free Newton steps (Dauphin et al. 2014): -|Hessian|^{-1} gradient, |.| of the eigenvalues, and the best of a few
multiples. They leave saddles along negative curvature and settle at minima only, so that an end which is not at loss 0
shows a possible trap. The outputs are whitened at every step: the loss does not see it, and the Hessian stays well
conditioned. All starts that share a teacher move as one batch; one that is done drops out.
"""

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

from icl_lib.mean_field.hessian import dense_blocks, exact_loss
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import covariances, trace
from icl_lib.mean_field.measure import Particles, check_particles, inverse_root
from icl_lib.stats import Interval, binomial_interval
from icl_lib.validate import require, require_integer, require_number

SCALES = (3.0, 2.0, 1.0, 0.5, 0.2, 0.05, 0.01, 1e-3, 1e-5, 1e-7)
CHUNK = 1000  # losses at a time, which fit in the cache
KINDS = ("global minimum", "strict saddle", "trap", "unresolved")


def _members(theta: Tensor, like: Particles, teacher: Particles) -> tuple[Particles, Particles]:
    """The teacher for each, and the members that flat coordinates describe."""
    t, k = theta.view(len(theta), like.a.shape[1], -1), like.a.shape[2]
    mu = Particles(t[..., :k], t[..., k:], like.p[:1].expand(len(theta), -1))
    return Particles(*(part.expand(len(theta), *part.shape[1:]) for part in teacher)), mu


def _whitened(kernel: Kernel, theta: Tensor, n: int, k: int) -> Tensor:
    """a -> B^{-1/2} a: the loss does not see it, and Newton steps cannot drift to where B is nearly singular."""
    t = theta.view(len(theta), n, -1)
    a, w = t[..., :k], t[..., k:]
    sigma = a.mT @ kernel.gram(w, w) @ a / n**2
    return torch.cat([a @ inverse_root(sigma, "Sigma_mumu"), w], dim=2).flatten(1)


def _newton(gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient, eigenvalues, and the saddle-free Newton step, of root mean square at most 1."""
    values, vectors = torch.linalg.eigh(hessian)
    inner = torch.einsum("epq,ep->eq", vectors, gradient)
    damped = values.abs().maximum(1e-9 * values.abs().amax(1, keepdim=True))
    step = -torch.einsum("epq,eq->ep", vectors, inner / damped)
    return (
        gradient,
        values,
        step * (step.shape[1] ** 0.5 / step.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1),
    )


def _best_step(loss: Callable, theta: Tensor, value: Tensor, steps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Each member's best multiple of one of its steps; at a degenerate minimum it is more than one Newton step."""
    tried = torch.stack([theta + scale * step for step in steps for scale in SCALES])
    losses = torch.cat([loss(some) for some in tried.flatten(0, 1).split(CHUNK)]).view(tried.shape[:2])
    best, which = losses.nan_to_num(nan=torch.inf).min(0)
    return tried[which, torch.arange(len(theta))], best >= value


def polish(
    kernel: Kernel, teacher: Particles, mu: Particles, n_steps: int = 300, floor: float = 1e-4, flat: float = 1e-7
) -> tuple[Particles, pd.DataFrame]:
    """Descend from every member of ``mu`` and say what its end is.

    Args:
        teacher: one, shared by all members.
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
    require(len(teacher.p) == 1, "teacher", len(teacher.p), "one, shared by all members")
    require(bool((mu.p == mu.p[0, 0]).all()), "p", "masses that differ", "equal, and shared by all members")
    require_integer("n_steps", n_steps, 1)
    for name, number in (("floor", floor), ("flat", flat)):
        require_number(name, number, low=1e-15, allowed="a finite number above 0")

    def loss(theta: Tensor) -> Tensor:
        return exact_loss(kernel, *_members(theta, mu, teacher))

    size = float(trace(covariances(kernel, teacher, teacher).c)) / 2
    theta = mu.theta.flatten(1)
    taken = torch.zeros(len(theta), dtype=torch.long)
    gradients, curvature, losses = (torch.full((len(theta),), torch.nan, dtype=theta.dtype) for _ in range(3))
    active = torch.arange(len(theta))
    for _ in range(n_steps + 1):
        theta[active] = _whitened(kernel, theta[active], *mu.a.shape[1:])
        parts = [_newton(*some) for some in dense_blocks(kernel, *_members(theta[active], mu, teacher))]
        gradient, values, step = (torch.cat(part) for part in zip(*parts, strict=True))
        value = loss(theta[active])
        losses[active], gradients[active] = value / size, gradient.norm(dim=1) / size
        curvature[active] = values[:, 0] / values.abs().amax(1)
        done = (value / size < floor) | ((gradients[active] < flat) & (curvature[active] > -1e-6))
        downhill = -gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-300)
        moved, stuck = _best_step(loss, theta[active], value, (step, downhill))
        go = ~(done | stuck)
        theta[active[go]] = moved[go]
        taken[active[go]] += 1
        active = active[go]
        if not len(active):
            break
    critical = gradients < flat
    kind = [
        KINDS[0] if low else KINDS[3] if not still else KINDS[1] if bent else KINDS[2]
        for low, still, bent in zip(losses < floor, critical, curvature < -1e-6, strict=True)
    ]
    table = {"member": range(len(theta)), "loss": losses * size, "height": losses, "gradient": gradients}
    table |= {"curvature": curvature, "steps": taken, "kind": kind}
    return _members(theta, mu, teacher)[1], pd.DataFrame(table)


def trap_share(table: pd.DataFrame) -> Interval:
    """Share of ends that are neither a global minimum nor a strict saddle; exact interval (Clopper and Pearson 1934).

    The starts are independent, so each is a unit of its own, given the teachers. Unresolved ends count as traps.
    """
    return binomial_interval(~table["kind"].isin(KINDS[:2]))
