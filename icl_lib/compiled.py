"""Loops that are compiled, and the matrix product that they share.

What is compiled here gives the same bits on every processor: sums are written in one order, and products are added by fused
multiply-adds. (Not so the algebra of small matrices that a loop leaves to LAPACK, as ``mean_field.kernels.loops.velocity`` does.)
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once_value, for_range, get_or_insert_function
from numba.extending import intrinsic

from icl_lib.locks import locked

LANES = 64  # bytes of a row that a tile has: 16 numbers of float32, 8 of float64
HERE = Path(__file__).parent
UNUSED = 30 * 86_400  # seconds after which machine code of other texts is removed


def _cache() -> Path | None:
    """Where machine code is kept: a folder named by the texts of all modules with compiled loops, so that no old code is run.

    It lies beside Python's own bytecode and is trusted like that; where nobody may write there, with the user's caches.
    """
    digest = hashlib.sha256()
    for path in sorted(HERE.rglob("[!.]*.py")):  # an editor's lock begins with a dot
        with contextlib.suppress(OSError):
            text = path.read_bytes()
            if b"icl_lib.compiled import" in text or path == Path(__file__):
                digest.update(text)
    for place in (HERE / "__pycache__", Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "icl_lib"):
        with contextlib.suppress(OSError, RuntimeError):
            folder = place.expanduser() / f"compiled-{digest.hexdigest()[:12]}"
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                os.utime(folder)  # used now
                for other in folder.parent.glob("compiled-*"):
                    if time.time() - other.stat().st_mtime > UNUSED:
                        shutil.rmtree(other, ignore_errors=True)
                return folder
    return None


FOLDER = _cache()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop at its first call, and keep the machine code for other processes."""
    if FOLDER is None:
        return numba.njit(error_model="numpy")(function)
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
    try:
        loop: Any = numba.njit(cache=True, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before
    save = loop._cache.save_overload

    def save_alone(signature: Any, data: Any) -> None:
        """Of two processes that compile at once, both would take the next free name."""
        with locked(FOLDER / "lock"):
            save(signature, data)

    loop._cache.save_overload = save_alone
    return loop


def _tile(rows: int) -> Any:
    """out[:rows, :LANES] += a[:rows, :k] @ b[:k, :LANES], all of out in registers; addresses and strides in bytes."""

    @intrinsic
    def tile(context, like, a, a_row, a_column, b, b_row, k, out, out_row):
        kind = like.dtype

        def emit(context, builder, signature, args):
            _, a, a_row, a_column, b, b_row, k, out, out_row = args
            number, name = (ir.FloatType(), "f32") if kind == types.float32 else (ir.DoubleType(), "f64")
            size = LANES // (kind.bitwidth // 8)
            word, lanes = ir.IntType(64), ir.VectorType(number, size)
            fma = get_or_insert_function(builder.module, ir.FunctionType(lanes, [lanes] * 3), f"llvm.fma.v{size}{name}")
            nothing, zeros = ir.Constant(lanes, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), size), None)

            def at(start, stride, i, kind):
                i = ir.Constant(word, i) if isinstance(i, int) else i
                return builder.inttoptr(builder.add(start, builder.mul(stride, i)), kind.as_pointer())

            of_row = [at(out, out_row, r, lanes) for r in range(rows)]
            sums = [alloca_once_value(builder, builder.load(address, align=4)) for address in of_row]
            with for_range(builder, k) as loop:
                b_j = builder.load(at(b, b_row, loop.index, lanes), align=4)
                a_j = builder.add(a, builder.mul(a_column, loop.index))
                for r in range(rows):
                    one = builder.load(at(a_j, a_row, r, number), align=4)
                    first = builder.insert_element(nothing, one, ir.Constant(ir.IntType(32), 0))
                    everywhere = builder.shuffle_vector(first, nothing, zeros)
                    builder.store(builder.call(fma, [everywhere, b_j, builder.load(sums[r])]), sums[r])
            for r in range(rows):
                builder.store(builder.load(sums[r]), of_row[r], align=4)
            return context.get_dummy_value()

        return types.void(like, *[types.intp] * 8), emit

    return tile


_four_rows, _one_row = _tile(4), _tile(1)


@compiled
def times(a, b, out):
    """out += a @ b, for arrays of one precision; the rows of b and out are contiguous, those of b some tiles wide and those of out no shorter."""
    assert a.itemsize == b.itemsize == out.itemsize, "of one precision"
    assert a.shape[1] <= b.shape[0] and a.shape[0] <= out.shape[0] and b.shape[1] <= out.shape[1], "shapes fit"
    (n, k), (a_row, a_column), b_row, out_row = a.shape, a.strides, b.strides[0], out.strides[0]
    for c in range(0, b.itemsize * b.shape[1], LANES):
        b_c, out_c = b.ctypes.data + c, out.ctypes.data + c
        for r in range(0, n - n % 4, 4):
            _four_rows(a, a.ctypes.data + r * a_row, a_row, a_column, b_c, b_row, k, out_c + r * out_row, out_row)
        for r in range(n - n % 4, n):
            _one_row(a, a.ctypes.data + r * a_row, a_row, a_column, b_c, b_row, k, out_c + r * out_row, out_row)
