"""Coupled particles: the same particle in a small ensemble and in a large one, both flows from one place (Sznitman 1991).

A pool of many particles is the reference, and cut into parts it gives independent ensembles of every smaller width.
"""

from math import ceil

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.integrate import State
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles
from icl_lib.validate import require, require_integer


def parts(pools: Particles, width: int) -> Particles:
    """Every pool cut into parts of ``width`` particles, members ordered by pool; equal masses only.

    Raises:
        ConfigError: masses that differ, or a width that does not divide the pools.

    >>> from icl_lib.mean_field import InitConfig, initial_particles
    >>> parts(initial_particles([InitConfig(n=50, d=4, k=2)]), 10).a.shape
    torch.Size([5, 10, 2])
    """
    n_pools, n, k = pools.a.shape
    require_integer("width", width, k, n, allowed=f"between k = {k} and the pool's {n}")
    require(n % width == 0, "width", width, f"a divisor of the pool's {n} particles")
    require(bool((pools.p == pools.p[0, 0]).all()), "p", "masses that differ", "equal: parts have equal masses")
    members = n_pools * n // width
    a, w = (x.reshape(members, width, -1) for x in pools[:2])
    return Particles(a, w, a.new_full((members, width), 1 / width))


def trajectories(
    kernel: Kernel, teacher: Particles, mu: Particles, config: FlowConfig
) -> tuple[Float[ndarray, " T"], Float[ndarray, "E T"], Float[Tensor, "E T N q"]]:
    """Times, losses and places of every member along its flow; one teacher for all."""
    require(len(teacher.p) == 1, "teacher", len(teacher.p), "one teacher for all members")
    shared = Particles(*(x.expand(len(mu.p), *x.shape[1:]) for x in teacher))
    places, stride = [mu.theta], max(1, ceil((config.every - 1e-9) / config.dt))

    def look(now: State, h: float) -> Particles:
        if now.step % stride == 0 or now.clock + h >= config.t_end - 1e-12:  # where ``flow`` records
            places.append(now.mu.theta)
        return now.mu

    _, history = flow(kernel, shared, start(mu), config, look)
    table = history.pivot(index="member", columns="time", values="loss")
    return table.columns.to_numpy().round(9), table.to_numpy(), torch.stack(places, 1)


def distances(ours: Float[Tensor, "M T N q"], pools: Float[Tensor, "P T n q"], shift: int = 0) -> Float[ndarray, "P T"]:
    """Root mean square distance, over all particles of a pool's parts, to the pool's particle `shift` places on."""
    parted = ours.unflatten(0, (len(pools), -1)).transpose(1, 2).flatten(2, 3)
    return (parted - pools.roll(-shift, 2)).square().sum(-1).mean(-1).sqrt().numpy()
