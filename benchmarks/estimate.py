"""What the same sweeps would take on one GPU and on 100 nodes: an estimate from measured work and stated assumptions, not a measurement."""

import math
from dataclasses import asdict, dataclass

import pandas as pd

from benchmarks.results import times


@dataclass(frozen=True)
class GPU:
    """Data-sheet numbers of an NVIDIA A100 40 GB SXM (without tensor cores), and what we assume of its use."""

    float32: float = 19.5e12  # flop/s
    float64: float = 9.7e12  # flop/s
    memory: float = 1.555e12  # byte/s
    of_peak: float = 0.5  # share of these that our products and passes reach
    launch: float = 5e-6  # s between two operations, however small they are


@dataclass(frozen=True)
class Cluster:
    """Nodes of which each runs one process per core, as fast as the core measured here."""

    nodes: int = 100
    cores: int = 32


@dataclass(frozen=True)
class Sweep:
    """Independent runs.

    Attributes:
        benchmark, axis, variant: whose published size one unit of work is.
        points: runs that are called one by one; one point's units of work.
        together: points that a GPU holds at once.
        operations: of one unit of work, whatever the number of points in it.
        byte: passes over memory of one unit of work.
    """

    name: str
    benchmark: str
    axis: str
    points: int
    units: float
    together: int
    operations: int
    byte: float
    precision: str = "float32"


def sweeps(table: pd.DataFrame) -> list[Sweep]:
    """Four sweeps of 1 000 settings at the published scale, one per kind of run."""

    def noted(benchmark: str, unit: str) -> float:
        rows = table[(table["benchmark"] == benchmark) & (table["unit"] == unit) & (table["factor"] == 1)]
        return float(rows["value"].iloc[0])

    step = noted("training step", "byte")
    return [
        Sweep("one-layer learner, 10 seeds x 300 steps", "training run", "models", 1000, 300, 100, 60, step),
        # Activations of three layers of width 64: 20 passes over (tokens x width) each way.
        Sweep(
            "GPT-2, one seed x 600 steps",
            "GPT-2, first steps",
            "batch",
            1000,
            600,
            100,
            400,
            3 * 40 * 128 * 21 * 64 * 4,
        ),
        # Eight passes over the N x N kernel, student and teacher, in float64.
        Sweep(
            "flow of 500 particles, 1 000 velocities",
            "velocity",
            "N",
            1000,
            1000,
            100,
            60,
            8 * 8 * 505 * 500,
            "float64",
        ),
        # Six passes over (tokens x neurons) of an epoch.
        Sweep("Transformer, 20 epochs of 10 000 prompts", "epoch", "n", 1000, 20, 10, 200 * 30, 6 * 4 * 1e7 * 500),
    ]


def estimated(
    table: pd.DataFrame, overhead: float, efficiency: float, gpu: GPU | None = None, cluster: Cluster | None = None
) -> pd.DataFrame:
    """Hours on one core as measured here, on a GPU, and on the cluster, for 1 000 settings each.

    Args:
        overhead: seconds of a point beside its computation, as measured of `icl run`.
        efficiency: of two workers over twice one, as measured; assumed for all cores of a node.

    Returns:
        sweep, flop, one core (h), arithmetic, memory and launches on the GPU (h), one GPU (h), what binds it, cluster (h).
    """
    gpu, cluster, rows = gpu or GPU(), cluster or Cluster(), []
    for sweep in sweeps(table):
        at = (table["benchmark"] == sweep.benchmark) & (table["axis"] == sweep.axis) & (table["factor"] == 1)
        flop = table[at & (table["variant"] == "ours") & (table["unit"] == f"flop, {sweep.precision}")]["value"].iloc[0]
        one = sweep.units * float(times(table, sweep.benchmark, "ours", sweep.axis).median())
        work = sweep.points * sweep.units
        parts = {
            "arithmetic": work * flop / (gpu.of_peak * getattr(gpu, sweep.precision)),
            "memory": work * sweep.byte / (gpu.of_peak * gpu.memory),
            "launches": work / sweep.together * sweep.operations * gpu.launch,
        }
        waves = math.ceil(sweep.points / (cluster.nodes * cluster.cores))
        hours = {name: seconds / 3600 for name, seconds in parts.items()}
        rows.append(
            {
                "sweep": sweep.name,
                "flop": work * flop,
                "one core": (sweep.points * (one + overhead)) / 3600,
                **hours,
                "one GPU": max(hours["arithmetic"], hours["memory"]) + hours["launches"],
                "binds": max(hours, key=lambda name: hours[name]),
                "cluster": waves * (one / efficiency + overhead) / 3600,
            }
        )
    return pd.DataFrame(rows)


def assumptions() -> pd.DataFrame:
    """All assumed numbers."""
    rows = [(type(one).__name__, name, value) for one in (GPU(), Cluster()) for name, value in asdict(one).items()]
    return pd.DataFrame(rows, columns=["of", "assumed", "value"])
