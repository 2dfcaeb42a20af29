"""Finite width: how far N particles are from many, spread and bias apart (Kim & Suzuki 2024, propagation of chaos).

The design is ours. Per seed a pool of many particles is drawn; it is the reference, and cut into parts of N it gives
pool / N independent ensembles of every smaller width. What a loss does to first order in the empirical measure is
linear in it, so it cancels exactly in (mean over the parts) - (the pool): what is left is the bias, of order 1/N, with
noise of the same order, where the difference of independent runs has noise of order N^{-1/2}.

Coupling (Sznitman 1991): a particle of a part starts where the same particle of the pool does. Their distance is 0 at
time 0, and what it is later was made by the flow alone.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import t as student

from icl_lib.mean_field.coupling import distances, parts, trajectories
from icl_lib.mean_field.flows import FlowConfig
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


def repeated(mu: Particles, width: int) -> Particles:
    """The same particles over and over: ``width`` of them, as many as before that differ (the control).

    Raises:
        ConfigError: a width that is no multiple of the number of particles.
    """
    n = mu.a.shape[1]
    require(width % n == 0, "width", width, f"a multiple of the {n} particles")
    a, w, p = (x.repeat_interleave(width // n, dim=1) for x in mu)
    return Particles(a, w, p * (n / width))


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
