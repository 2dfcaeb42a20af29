"""What a start is worth: its overlap with what it misses, and the time its flow needs to a level (question Q5; ours).

The overlap |Sigma_zeta M|_* is the steepest rate at which L falls along a homotopy to a rotated teacher (``K3.homotopy``). It is
known before anything has moved. L does not see a -> G a, but the overlap does, and so does the flow: scales of a and w count.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.critical_points import escape_times
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.integrate import Change, State
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import covariances, trace
from icl_lib.mean_field.measure import Particles
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer, require_number


def overlap(kernel: Kernel, teacher: Particles, mu: Particles) -> Float[Tensor, " E"]:
    """|Sigma_zeta M|_* of every member: 0 at critical points whose loss is not 0, and at global minima.

    >>> from icl_lib.mean_field.kernels import Erf
    >>> from icl_lib.mean_field.critical_points import SaddleConfig, saddle
    >>> bool(overlap(Erf(), *saddle(SaddleConfig((1.0, 0.5), (1,), 4), Erf())) < 1e-9)
    True
    """
    cov = covariances(kernel, teacher, mu)
    return torch.linalg.matrix_norm(cov.residual @ cov.m, "nuc")


def repeated(nu: Particles, n: int) -> Particles:
    """Every member n times in a row: one teacher for n starts."""
    require_integer("n", n, 1)
    return Particles(*(part.repeat_interleave(n, dim=0) for part in nu))


def inputs_held(mu: Particles) -> Change:
    """A change for ``flow`` that puts w back after every step, so that only a moves."""

    def change(state: State, dt: float) -> Particles:
        return state.mu._replace(w=mu.w)

    return change


def times_to(
    kernel: Kernel,
    teacher: Particles,
    mu: Particles,
    share: float,
    run: FlowConfig,
    held: bool = False,
    steps: bool = False,
) -> Float[Tensor, " E"]:
    """Time at which the loss is below `share` of that of a model without features, 1/2 tr Sigma_{mu° mu°}; nan if never.

    Measured against the same level for all starts of a teacher: a share of the loss at the start would favour bad starts.

    Args:
        held: only a moves, w stays.
        steps: count records of `run` (run.dt = run.every: steps) instead of time, which a cap makes differ.
    """
    require_number("share", share, 1e-12, 1)
    levels = share * trace(covariances(kernel, teacher, teacher).c) / 2
    run = replace(run, stop_below=float(levels.min()))
    _, history = flow(kernel, teacher, start(mu), run, inputs_held(mu) if held else None)
    if steps:
        history["time"] = history.groupby("member").cumcount()
    return escape_times(history, levels)


def picked(candidates: Particles, scores: Float[Tensor, " EM"], of: int, most: bool = True) -> Particles:
    """Out of `of` candidates in a row, the one of highest score (or of lowest)."""
    require_integer("of", of, 1)
    require(len(scores) % of == 0, "of", of, f"a divisor of the {len(scores)} candidates")
    table = scores.view(-1, of)
    best = table.argmax(1) if most else table.argmin(1)
    return Particles(*(part[torch.arange(len(table)) * of + best] for part in candidates))


def some_axes(seed: int, d: int, n: int) -> tuple[int, ...]:
    """n different inputs out of d, stream (seed, "support")."""
    require_integer("n", n, 1, d, allowed=f"between 1 and d = {d}")
    return tuple(sorted(torch.randperm(d, generator=generator(seed, "support"))[:n].tolist()))


def drawn_length(seeds: Sequence[int], low: float = 1.0, high: float = 4.0) -> list[float]:
    """Lengths of teachers' weights, log-uniform in [low, high], stream (seed, "length")."""
    require_number("low", low, low=1e-9, high=high, allowed=f"above 0 and at most high = {high:g}")
    draws = [float(torch.rand((), generator=generator(s, "length"), dtype=torch.float64)) for s in seeds]
    return [low * (high / low) ** x for x in draws]
