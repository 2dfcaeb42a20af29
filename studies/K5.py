"""How fast L falls on a measure that contains gamma pi: the dissipation and lower bounds on it; births as a control (K5).

The bounds are derived by us, step by step in the chapter, and proven: that they hold is a test and no claim. With everything (M, zeta, B) of the mixed measure and r = lambda_min(C):
int |grad dL/dmu|^2 dmu >= int |M^T g|^2 dmu >= gamma int |M^T g|^2 dpi >= (gamma / R4) int |M^T g|^2 dmu°
>= gamma |Sigma_zeta M|_*^2 / (R4 E|a°|^2), and where L < r / 2 this is >= 4 gamma L^2 (r - 2 L) / (R4 E|a°|^2 |B|).
The first steps look at the input weights alone, since grad_a dL/dmu = -M^T g(w): R4 is that of the w-marginals.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.changes import BirthDeath
from icl_lib.mean_field.integrate import Change, State
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import Velocity, first_variation, velocity
from icl_lib.mean_field.measure import InitConfig, Particles, initial_particles, stack, uniform, whitened
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer, require_number


class Chain(NamedTuple):
    """The dissipation and what bounds it from below, each the next; `from_loss` is nan where L >= r / 2. Shapes (E,)."""

    dissipation: Float[Tensor, " E"]
    in_a: Float[Tensor, " E"]
    on_pi: Float[Tensor, " E"]
    on_teacher: Float[Tensor, " E"]
    nuclear: Float[Tensor, " E"]
    from_loss: Float[Tensor, " E"]
    loss: Float[Tensor, " E"]


def mixture(mu: Particles, pi: Particles, gamma: float) -> Particles:
    """(1 - gamma) mu + gamma pi. Refuses gamma outside (0, 1)."""
    require_number("gamma", gamma, 1e-12, 1 - 1e-12, "in (0, 1)")
    a, w = (torch.cat(part, dim=1) for part in zip(mu[:2], pi[:2], strict=True))
    return Particles(a, w, torch.cat([(1 - gamma) * mu.p, gamma * pi.p], dim=1))


def atomic_reference(teacher: Particles, config: InitConfig, share: float = 0.5) -> Particles:
    """A pi with density: `share` of its mass on the teacher's input weights (R4 = 1 / share), the rest as `config` draws.

    One teacher. Output weights are drawn for all atoms: no bound looks at them.
    """
    require_number("share", share, 1e-9, 1 - 1e-9, "in (0, 1)")
    n0, k = teacher.w.shape[1], config.k
    drawn = initial_particles([config])
    a = torch.randn(1, n0, k, generator=generator(config.seed, "reference"), dtype=torch.float64)
    p = torch.cat([share * teacher.p, (1 - share) * drawn.p], dim=1)
    return Particles(torch.cat([a, drawn.a], dim=1), torch.cat([teacher.w, drawn.w], dim=1), p)


def spread_teachers(kernel: Kernel, per_output: int, d: int, k: int, size: float, seeds: Sequence[int]) -> Particles:
    """Teachers with a density against pi, w ~ N(0, size^2 / d I), that is at most R4 = 2; pi knows nothing of them.

    The neurons of output j are draws of pi turned to w_j > 0: mu° = sum_j 2 1[w_j > 0] pi / k on w-marginals. Output
    weights are one vector for each j, such that C = 1. Finitely many atoms stand for the density. Stream (seed,
    "spread").

    Args:
        per_output: atoms for each of the k <= d outputs.
    """
    require_integer("per_output", per_output, 1)
    require_integer("k", k, 1, d)
    members = []
    for seed in seeds:
        w = torch.randn(k, per_output, d, generator=generator(seed, "spread"), dtype=torch.float64) * size / d**0.5
        for j in range(k):
            w[j, :, j] = w[j, :, j].abs()
        a = torch.eye(k, dtype=w.dtype).repeat_interleave(per_output, dim=0)
        drawn = Particles(a[None], w.flatten(0, 1)[None], uniform(k * per_output))
        members.append(whitened(kernel, drawn, "the teacher's covariance"))
    return stack(members)


def dissipation(v: Velocity, mu: Particles) -> tuple[Float[Tensor, " E"], Float[Tensor, " E"]]:
    """int |grad dL/dmu|^2 dmu = -dL/dt of the flow, and the share of it that the output weights have."""
    in_a = (mu.p * v.a.square().sum(-1)).sum(-1)
    return in_a + (mu.p * v.w.square().sum(-1)).sum(-1), in_a


def density_ratio(teacher: Particles, pi: Particles) -> Float[Tensor, " E"]:
    """R4 = max over the teacher's atoms w° of mu°(w°) / pi(w°), on w-marginals; inf where pi misses an atom."""
    same = (teacher.w[:, :, None] == pi.w[:, None]).all(-1).to(pi.p.dtype)
    own = (teacher.w[:, :, None] == teacher.w[:, None]).all(-1).to(pi.p.dtype)
    return ((own @ teacher.p[..., None])[..., 0] / (same @ pi.p[..., None])[..., 0]).amax(1)


def velocity_in_a(
    kernel: Kernel, teacher: Particles, mu: Particles, w: Float[Tensor, "E n d"]
) -> Float[Tensor, "E n k"]:
    """M^T g(w) = -grad_a dL/dmu at any input weights."""
    k = mu.a.shape[2]
    units = torch.eye(k, dtype=w.dtype)
    columns = [first_variation(kernel, teacher, mu, unit.expand(*w.shape[:2], k), w) for unit in units]
    return -torch.stack(columns, dim=-1)


def chain(
    kernel: Kernel, teacher: Particles, mu: Particles, pi: Particles, gamma: float, mixed: Particles | None = None
) -> Chain:
    """All steps of the bound at ``mixture(mu, pi, gamma)``, or at `mixed` in its place (a control: no pi inside).

    Raises:
        ConfigError: pi misses an atom of the teacher, so that R4 is infinite and the bound says nothing.
    """
    r4 = density_ratio(teacher, pi)
    require(bool(r4.isfinite().all()), "pi", r4.tolist(), "a measure with all the teacher's atoms (values are R4)")
    at = mixture(mu, pi, gamma) if mixed is None else mixed
    v = velocity(kernel, teacher, at)
    cov = v.covariances
    total, in_a = dissipation(v, at)
    on_pi, on_teacher = (
        (nu.p * velocity_in_a(kernel, teacher, at, nu.w).square().sum(-1)).sum(-1) for nu in (pi, teacher)
    )
    size = (teacher.p * teacher.a.square().sum(-1)).sum(-1)
    scale = gamma / (r4 * size)
    nuclear = scale * torch.linalg.matrix_norm(cov.residual @ cov.m, "nuc").square()
    r, norm_b = torch.linalg.eigvalsh(cov.c)[:, 0], torch.linalg.matrix_norm(cov.b, 2)
    from_loss = scale * 4 * v.loss.square() * (r - 2 * v.loss) / norm_b
    from_loss = torch.where(v.loss < r / 2, from_loss, torch.nan)
    return Chain(total, in_a, gamma * on_pi, gamma / r4 * on_teacher, nuclear, from_loss, v.loss)


def births_from(nu: Particles, config: BirthDeath, seeds: Sequence[int]) -> Change:
    """As ``changes.births``, the same particles dying, with newborns drawn from the atoms of nu and not from pi.

    Args:
        nu: a member for each seed. The reference of ``config`` is not used.
    """
    require(len(seeds) == len(nu.p), "seeds", list(seeds), f"one per member, {len(nu.p)}")

    def change(state: State, dt: float) -> Particles:
        mu, chance = state.mu, -torch.expm1(-config.at(state.time) * dt)
        a, w, n = mu.a.clone(), mu.w.clone(), mu.a.shape[1]
        for e, seed in enumerate(seeds):
            born = torch.rand(n, generator=generator(seed, "births", state.step), dtype=a.dtype) < chance[e]
            at = torch.rand(n, generator=generator(seed, "newborn", state.step), dtype=a.dtype)
            parent = torch.searchsorted(nu.p[e].cumsum(0), at).clamp(max=nu.p.shape[1] - 1)[born]
            a[e, born], w[e, born] = nu.a[e, parent], nu.w[e, parent]
        return mu._replace(a=a, w=w)

    return change


def log_ratio(times: Float[Tensor, " E"], others: Float[Tensor, " E"], end: float) -> Float[Tensor, " E"]:
    """log10 of times over others, pair by pair; a time that was not reached (nan) counts as `end`, where the run ended.

    With such censoring on the slower side the effect is understated.

    Raises:
        ConfigError: a time after `end`, or not above 0.
    """
    both = torch.stack([times, others]).nan_to_num(nan=end)
    require(
        bool(((both > 0) & (both <= end)).all()),
        "end",
        end,
        f"at least every time; times reach {float(both.max()):.6g}",
    )
    return both[0].log10() - both[1].log10()
