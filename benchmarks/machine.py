"""What the processor does at its best, measured in the same turns: rates of products, of memory, of single operations.

A rate is the unit of work over the time; shares of a peak are taken of the large products in the same precision, or of the copy
of arrays as large as a training step's, which stay in cache as its own do. Operations of a training step and of an epoch are timed alone,
each as often as one needs it.
"""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.case import Case, Size
from benchmarks.epoch import EPOCH, LENGTH, QUERIES, TEACHER, WIDTH, D
from benchmarks.results import STEP
from benchmarks.training import AXES, MEMBERS, configs_of, products
from icl_lib.mean_field.transformer import CACHE
from icl_lib.softmax import fused
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.training import initial_state

NONE = Size("", 0, 1)
CORNERS = [size for size in AXES if size.factor in (1, 8) or size.factor < 0.16]  # smallest, published, largest


def epoch_operations() -> dict[str, tuple[Callable[[], object], float]]:
    """What an epoch needs at the least: (a call, how many of them an epoch needs)."""
    rows, rng = CACHE // WIDTH, np.random.default_rng(0)
    x, z = rng.standard_normal((rows, D), np.float32), rng.standard_normal((rows, WIDTH), np.float32)
    inner, y, out = rng.standard_normal((D, WIDTH), np.float32), x[:, 0].copy(), np.empty_like(z)
    tall, gen = np.empty((D, WIDTH), np.float32), torch.Generator()
    many, known = torch.empty(rows * 100, D), rng.standard_normal((rows, TEACHER), np.float32)
    blocks = EPOCH * (LENGTH + QUERIES) / rows
    small = known.copy()
    return {
        "product, X w": (lambda: np.matmul(x, inner, out=z), blocks),
        "product, slopes and X": (lambda: np.matmul(x.T, z, out=tall), blocks),
        "product, labels and values": (lambda: y @ z, blocks),
        "sigmoid (as tanh)": (lambda: np.tanh(z, out=out), blocks),
        "slope, memory traffic in cache": (lambda: np.multiply(z, z, out=out), blocks),
        "inputs, random numbers": (lambda: many.normal_(generator=gen), blocks / 100),
        "teacher, sigmoid": (lambda: np.tanh(known, out=small), blocks),
        "teacher, product": (lambda: np.matmul(x, inner[:, :TEACHER], out=small), blocks),
    }


def step_operations(size: Size) -> dict[str, tuple[Callable[[], object], int]]:
    """Parts of a model's compiled step: (a call, how many models or steps it does). Memory is that of one step, again and again.

    Weights and tables: what a call of several steps begins and ends with, however many they are.
    """
    configs, rng, again = configs_of(size), np.random.default_rng(0), 10
    b, l, params, patterns = (
        configs[0].batch_size,
        configs[0].prompts.n_context,
        initial_state(configs).params,
        stacked_patterns(configs),
    )

    def shared(rows: int, columns: int) -> np.ndarray:
        one = rng.random((rows, columns), np.float32)
        return np.lib.stride_tricks.as_strided(one, (again, *one.shape), (0, *one.strides))

    wide = [(i, j, -(-k // fused.PAD) * fused.PAD) for i, j, k in products(configs[0])]
    factors = [(shared(i, j), shared(j, k), shared(i, k)) for i, j, k in wide]
    scores, power = -rng.random((again * b, l), np.float32), np.empty(l, np.int32)
    x = scores.copy()

    def exponentials() -> None:
        np.copyto(x, scores)
        fused._exp(x, power)

    return {
        "products": (lambda: [fused._times_each(*three) for three in factors], again),
        "exponentials": (exponentials, again),
        "weights and tables": (lambda: fused.Learner(configs, params, patterns).weights(), len(configs)),
    }


def repeated(call: Callable[[], object], times: int) -> Callable[[], object]:
    return lambda: [call() for _ in range(times)]


def rates() -> list[Case]:
    """Seconds per 10^9 operations, bytes or numbers."""
    config = configs_of()[0]
    large, double = torch.rand(1024, 1024), torch.rand(1500, 1500, dtype=torch.float64)
    out, out_double, big = torch.empty_like(large), torch.empty_like(double), torch.rand(2**26)
    target, z = torch.empty_like(big), np.random.default_rng(0).random((160, 160))  # a block of the kernel's
    z_out, root = np.empty_like(z), torch.empty(z.shape, dtype=torch.float64)
    small = torch.rand(MEMBERS, config.batch_size, config.model.m)
    copy, bits, gen = torch.empty_like(small), torch.empty(100_000, dtype=torch.int64), torch.Generator()
    found: dict[
        str, tuple[str, Callable[[], object], int, float]
    ] = {  # of what, a call, how often at once, work of one
        "GEMM, float32": ("flop", lambda: torch.mm(large, large, out=out), 1, 2 * 1024**3),
        "GEMM, float64": ("flop", lambda: torch.mm(double, double, out=out_double), 1, 2 * 1500**3),
        "arcsin, float64": ("number", lambda: np.arcsin(z, out=z_out), 50, z.size),
        "reciprocal root, float64": ("number", lambda: torch.rsqrt(torch.from_numpy(z), out=root), 50, z.size),
        "memory": ("byte", lambda: target.copy_(big), 1, 8 * big.numel()),
        "copy, arrays of the training step": ("byte", lambda: copy.copy_(small), 20, 8 * small.numel()),
        "random numbers": ("number", lambda: bits.random_(-(2**63), None, generator=gen), 10, bits.numel()),
    }
    return [
        Case("machine", name, NONE, f"s per 10^9 {what}", repeated(call, times), times * work / 1e9)
        for name, (what, call, times, work) in found.items()
    ]


def cases() -> list[Case]:
    alone = [
        Case("epoch, operations", name, NONE, "s per epoch", repeated(call, 50), 50 / n)
        for name, (call, n) in epoch_operations().items()
    ]
    steps = [
        Case(STEP, name, size, "s per step of one model", repeated(call, 20), 20 * n)
        for size in CORNERS
        for name, (call, n) in step_operations(size).items()
    ]
    return rates() + steps + alone
