"""What the same sweeps would take on one GPU and on 100 nodes: an estimate from measured work and stated assumptions, not a measurement."""

import math
from dataclasses import dataclass

import pandas as pd

from benchmarks import gpt_training
from benchmarks.case import operations
from benchmarks.page import in_units
from benchmarks.results import times
from benchmarks.training import configs_of
from icl_lib.softmax.deep import initial_params, train_deep
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.training import CHUNK, initial_state, train_steps


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
        benchmark, axis: whose published size one unit of work is.
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
    configs, gpt = configs_of(), gpt_training.configs_of(1)
    start, frame, first = initial_state(configs), stacked_patterns(configs), initial_params(gpt)
    of_step = operations(lambda: train_steps(configs, start, CHUNK, frame)) // CHUNK
    of_gpt = operations(lambda: train_deep(gpt, start=first)) // gpt_training.STEPS
    # Of flow and Transformer, whose blocks numpy computes here, we assume 60 operations a velocity and 30 a batch of 50 prompts.
    return [
        Sweep("one-layer learner, 10 seeds x 300 steps", "training run", "models", 1000, 300, 100, of_step, step),
        # Activations of three layers of width 64: 20 passes over (tokens x width) each way.
        Sweep(
            "GPT-2, one seed x 600 steps",
            "GPT-2, first steps",
            "batch",
            1000,
            600,
            100,
            of_gpt,
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
    """All assumed numbers, in words."""
    gpu, cluster = GPU(), Cluster()
    said = {
        "GPU, float32 (data sheet)": f"{gpu.float32 / 1e12:g} Tflop/s",
        "GPU, float64 (data sheet)": f"{gpu.float64 / 1e12:g} Tflop/s",
        "GPU, memory (data sheet)": f"{gpu.memory / 1e9:g} GB/s",
        "share of these that is reached": f"{gpu.of_peak:.0%}",
        "from one operation to the next": f"{1e6 * gpu.launch:g} µs",
        "nodes": f"{cluster.nodes}",
        "cores of a node, each as fast as ours": f"{cluster.cores}",
    }
    return pd.DataFrame({"assumed": said})


def hour(value: float) -> str:
    """Two digits in hours, minutes or seconds."""
    return in_units(value, {"h": 1, "min": 60, "s": 3600}, 2)


def shown(hours: pd.DataFrame) -> pd.DataFrame:
    """``estimated`` as words."""
    out = hours.assign(flop=hours["flop"].map("{:.1e}".format)).set_index("sweep")
    for name in ("one core", "one GPU", "cluster"):
        out[name] = hours.set_index("sweep")[name].map(hour)
    out = out[["flop", "one core", "one GPU", "binds", "cluster"]]  # ``worked`` shows the parts
    return out.rename(columns={"cluster": f"{Cluster().nodes} nodes", "binds": "GPU waits for"})


def worked(table: pd.DataFrame, hours: pd.DataFrame, overhead: float, efficiency: float) -> str:
    """The first sweep, number by number."""
    sweep, row, gpu, cluster = sweeps(table)[0], hours.iloc[0], GPU(), Cluster()
    unit = float(times(table, sweep.benchmark, "ours", sweep.axis).median())
    cores = cluster.nodes * cluster.cores
    n, of_gpu = sweep.points * sweep.units, sweep.points * sweep.units / sweep.together * sweep.operations
    lines = [
        f"one core: {sweep.points} settings x ({sweep.units} steps x {1e3 * unit:.2g} ms + {overhead:.1f} s) = {hour(row['one core'])}",
        f"GPU, arithmetic: {row['flop']:.1e} flop / ({gpu.of_peak} x {gpu.float32:.3g} flop/s) = {hour(row['arithmetic'])}",
        f"GPU, memory: {n * sweep.byte:.1e} byte / ({gpu.of_peak} x {gpu.memory:.4g} byte/s) = {hour(row['memory'])}",
        f"GPU, launches: {of_gpu:.1e} operations, {sweep.together} settings at once, x {gpu.launch:.0e} s = {hour(row['launches'])}",
        f"GPU: the larger of the first two and the third = {hour(row['one GPU'])}",
        f"{cluster.nodes} nodes: {math.ceil(sweep.points / cores)} wave(s) of {sweep.points} settings on {cores} cores, "
        f"each {sweep.units * unit:.2g} s / {efficiency:.2f} + {overhead:.1f} s = {hour(row['cluster'])}",
    ]
    return "\n".join(lines)
