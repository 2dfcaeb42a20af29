"""What the processor does at its best, measured in the same turns: rates of products, of memory, of single operations.

A rate is the unit of work over the time; shares of a peak are taken of the large products in the same precision, or of the copy
of arrays as large as a training step's, which stay in cache as its own do. The epoch's operations are timed alone, each as often as an epoch needs it.
"""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.case import Case, Size
from benchmarks.epoch import EPOCH, LENGTH, QUERIES, TEACHER, WIDTH, D
from benchmarks.training import MEMBERS, configs_of, flops, products
from icl_lib.mean_field.transformer import CACHE

NONE = Size("", 0, 1)


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


def repeated(call: Callable[[], object], times: int) -> Callable[[], object]:
    return lambda: [call() for _ in range(times)]


def rates() -> list[Case]:
    """Seconds per 10^9 operations, bytes or numbers."""
    config = configs_of()[0]
    large, double = torch.rand(1024, 1024), torch.rand(1500, 1500, dtype=torch.float64)
    out, out_double, big = torch.empty_like(large), torch.empty_like(double), torch.rand(2**26)
    target, z = torch.empty_like(big), np.random.default_rng(0).random((160, 160))  # a block of the kernel's
    z_out, root = np.empty_like(z), torch.empty(z.shape, dtype=torch.float64)
    pairs = [(torch.rand(MEMBERS, i, j), torch.rand(MEMBERS, j, k)) for i, j, k in products(config)]
    small = torch.rand(MEMBERS, config.batch_size, config.model.m)
    copy, bits, gen = torch.empty_like(small), torch.empty(100_000, dtype=torch.int64), torch.Generator()
    step = MEMBERS * flops(config)
    found: dict[
        str, tuple[str, Callable[[], object], int, float]
    ] = {  # of what, a call, how often at once, work of one
        "GEMM, float32": ("flop", lambda: torch.mm(large, large, out=out), 1, 2 * 1024**3),
        "GEMM, float64": ("flop", lambda: torch.mm(double, double, out=out_double), 1, 2 * 1500**3),
        "products of the training step": ("flop", lambda: [x @ y for x, y in pairs], 5, step),
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
    return rates() + alone
