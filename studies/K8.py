"""Finite width: how far N particles are from many, spread and bias apart (Kim & Suzuki 2024, propagation of chaos).

The design is ours. Per seed a pool of many particles is drawn; it is the reference, and cut into parts of N it gives
pool / N independent ensembles of every smaller width. What a loss does to first order in the empirical measure is
linear in it, so it cancels exactly in (mean over the parts) - (the pool): what is left is the bias, of order 1/N, with
noise of the same order, where the difference of independent runs has noise of order N^{-1/2}.

Coupling (Sznitman 1991): a particle of a part starts where the same particle of the pool does. Their distance is 0 at
time 0, and what it is later was made by the flow alone.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import t as student
from torch import Tensor

from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.integrate import State
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles
from icl_lib.stats import Interval
from icl_lib.validate import require, require_integer


class Paths(NamedTuple):
    """Flows of pools and of their parts: times (T,), and for every width what happens to each pool's parts."""

    times: Float[ndarray, " T"]
    losses: dict[int, Float[ndarray, "P parts T"]]
    distances: dict[int, Float[ndarray, "P T"]]  # r_t, of particles to the same particles of the pool
    uncoupled: dict[int, Float[ndarray, "P T"]]  # the same, to the particles of the next part in the pool


def parts(pools: Particles, width: int) -> Particles:
    """Every pool cut into parts of ``width`` particles, members ordered by pool; equal masses only.

    Raises:
        ConfigError: masses that differ, or a width that does not divide the pools.
    """
    n_pools, n, k = pools.a.shape
    require_integer("width", width, k, n, allowed=f"between k = {k} and the pool's {n}")
    require(n % width == 0, "width", width, f"a divisor of the pool's {n} particles")
    require(bool((pools.p == pools.p[0, 0]).all()), "p", "masses that differ", "equal: parts have equal masses")
    members = n_pools * n // width
    a, w = (x.reshape(members, width, -1) for x in pools[:2])
    return Particles(a, w, a.new_full((members, width), 1 / width))


def repeated(mu: Particles, width: int) -> Particles:
    """The same particles over and over: ``width`` of them, as many as before that differ (the control).

    Raises:
        ConfigError: a width that is no multiple of the number of particles.
    """
    n = mu.a.shape[1]
    require(width % n == 0, "width", width, f"a multiple of the {n} particles")
    a, w, p = (x.repeat_interleave(width // n, dim=1) for x in mu)
    return Particles(a, w, p * (n / width))


def _expanded(teacher: Particles, n: int) -> Particles:
    require(len(teacher.p) == 1, "teacher", len(teacher.p), "one teacher for all members")
    return Particles(*(x.expand(n, *x.shape[1:]) for x in teacher))


def trajectories(
    kernel: Kernel, teacher: Particles, mu: Particles, config: FlowConfig
) -> tuple[Float[ndarray, " T"], Float[ndarray, "E T"], Float[Tensor, "E T N q"]]:
    """Times, losses and places of every member along its flow; one teacher for all."""
    places, stride = [mu.theta], max(1, ceil((config.every - 1e-9) / config.dt))

    def look(now: State, h: float) -> Particles:
        if now.step % stride == 0 or now.clock + h >= config.t_end - 1e-12:  # where ``flow`` records
            places.append(now.mu.theta)
        return now.mu

    _, history = flow(kernel, _expanded(teacher, len(mu.p)), start(mu), config, look)
    table = history.pivot(index="member", columns="time", values="loss")
    return table.columns.to_numpy().round(9), table.to_numpy(), torch.stack(places, 1)


def distances(ours: Float[Tensor, "M T N q"], pools: Float[Tensor, "P T n q"], shift: int = 0) -> Float[ndarray, "P T"]:
    """Root mean square distance, over all particles of a pool's parts, to the pool's particle `shift` places on."""
    parted = ours.unflatten(0, (len(pools), -1)).transpose(1, 2).flatten(2, 3)
    return (parted - pools.roll(-shift, 2)).square().sum(-1).mean(-1).sqrt().numpy()


def paths(kernel: Kernel, teacher: Particles, pools: Particles, widths: Sequence[int], config: FlowConfig) -> Paths:
    """Flows of all parts of all pools, for every width and for the pools themselves."""
    times, values, reference = trajectories(kernel, teacher, pools, config)
    of = Paths(times, {}, {}, {})
    for width in dict.fromkeys(widths):
        _, of.losses[width], places = trajectories(kernel, teacher, parts(pools, width), config)
        of.losses[width] = of.losses[width].reshape(len(pools.p), -1, len(times))
        of.distances[width] = distances(places, reference)
        of.uncoupled[width] = distances(places, reference, width)
    of.losses[pools.a.shape[1]] = values[:, None]
    return of


def repeated_paths(
    kernel: Kernel, teacher: Particles, mu: Particles, widths: Sequence[int], config: FlowConfig
) -> Paths:
    """The control: flows of the same particles repeated up to every width; one part per member."""
    of = Paths(np.empty(0), {}, {}, {})
    for width in widths:
        times, values, _ = trajectories(kernel, teacher, repeated(mu, width), config)
        of = of._replace(times=times)
        of.losses[width] = values[:, None]
    return of


def spread(values: Float[ndarray, "P parts T"], reference: Float[ndarray, "P T"]) -> Float[ndarray, " T"]:
    """Standard deviation over all parts of all pools; `reference` is not looked at."""
    return values.reshape(-1, values.shape[-1]).std(axis=0, ddof=1)


def bias(values: Float[ndarray, "P parts T"], reference: Float[ndarray, "P T"]) -> Float[ndarray, " T"]:
    """Mean over all parts of all pools, minus the mean of the reference."""
    return values.mean(axis=(0, 1)) - reference.mean(axis=0)


def farthest(values: Float[ndarray, "P parts T"], reference: Float[ndarray, "P T"]) -> Float[ndarray, " 1"]:
    """Largest distance from the mean reference over the whole run, mean over parts."""
    return np.abs(values - reference.mean(axis=0)).max(axis=-1).mean()[None]


Measure = Callable[[ndarray, ndarray], ndarray]


def jackknife(statistic: Callable[[ndarray], ndarray], n: int, level: float = 0.95) -> list[Interval]:
    """Interval of each entry of a statistic of n seeds, which is given the indices of the seeds it may use.

    Standard error from leaving out one seed at a time (Tukey 1958), and a t interval; of a mean it is the t interval of
    ``mean_interval``. For statistics that no seed has alone, such as the exponent of a standard deviation.
    """
    require_integer("n", n, 2)
    everything = np.arange(n)
    left = np.stack([statistic(np.delete(everything, i)) for i in everything])
    half = student.ppf((1 + level) / 2, n - 1) * np.sqrt((n - 1) * left.var(axis=0))
    return [Interval(float(m), float(m - h), float(m + h), n) for m, h in zip(statistic(everything), half, strict=True)]


def measured(of: Paths, reference: Float[ndarray, "P T"], measure: Measure, width: int) -> list[Interval]:
    """A measure at one width, with its interval over pools: one per time, or one for the run."""
    return jackknife(lambda i: measure(of.losses[width][i], reference[i]), len(reference))


def exponents(of: Paths, reference: Float[ndarray, "P T"], measure: Measure, widths: Sequence[int]) -> list[Interval]:
    """Slope of log |measure| against log N by least squares, with its interval over pools: per time, or for the run.

    Where a bias changes its sign between two widths the slope means nothing, and its interval is wide.
    """
    require(len(set(widths)) >= 2, "widths", list(widths), "at least two different")
    x = np.log(widths) - np.log(widths).mean()

    def slope(i: ndarray) -> ndarray:
        logs = np.stack([np.log(np.abs(measure(of.losses[n][i], reference[i]))) for n in widths])
        return x @ logs / (x @ x)

    return jackknife(slope, len(reference))


def extrapolated(of: Paths, width: int, pool: int) -> Float[ndarray, "P T"]:
    """The pools with their own bias of order 1/N removed: L_P - (L_N - L_P) / (P/N - 1) (Richardson), N = ``width``."""
    large, small = of.losses[pool][:, 0], of.losses[width].mean(axis=1)
    return large - (small - large) / (pool / width - 1)
