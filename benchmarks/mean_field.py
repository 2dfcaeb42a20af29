"""The exact velocity of Paper K's dynamics against autograd, for N particles at d = 20, k = 5, erf, in float64.

``python -m benchmarks.mean_field`` (part of ``make bench``) writes mean_field.csv beside this file: ours against autograd
through the exact loss, through the loss on sampled inputs, and JAX's jit(grad) of the exact loss; our cost against N, d
and k; and the memory that one velocity takes. All that is compared takes turns in one process on one core.

Run once as it is, and once with glibc told to keep large blocks (MALLOC_MMAP_THRESHOLD_), which helps autograd most; the file
holds both, the second one's comparison only.
"""

import os

# Before jax is imported: one thread, as for everything else that is timed.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.measure import memory, take_turns
from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.hessian import exact_loss
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.mean_field.sampled import gaussian_inputs
from icl_lib.paths import write_atomic
from icl_lib.rng import generator

jax.config.update("jax_enable_x64", True)

FILE = Path(__file__).with_name("mean_field.csv")
REPETITIONS = {500: 15, 1000: 15, 4000: 7, 10000: 2}
GRIDS = {"N": (250, 500, 1000, 2000, 4000, 8000), "d": (5, 10, 20, 40, 80), "k": (1, 2, 5, 10, 20)}
MEMORY = (2500, 5000, 10000, 20000)
KEEPS_BLOCKS = "MALLOC_MMAP_THRESHOLD_" in os.environ
SAMPLES = 2000  # inputs of the sampled gradient that is timed; more are extrapolated
WANTED = 0.01  # relative L2 error of grad_w


def setting(n: int, d: int = 20, k: int = 5) -> tuple[Particles, Particles]:
    """The axes teacher and the documented random start."""
    teacher = teachers([TeacherConfig("axes", k, max(d, k), k, spectrum=(1.0,) * k)], Erf())
    return teacher, initial_particles([InitConfig("aligned", n, max(d, k), k)])


def flops(n: int, n_teacher: int = 5, d: int = 20, k: int = 5) -> int:
    """Arithmetic of the products of one velocity, each once and no symmetry used.

    W V^T, K R, L R^T and the product with V, over student and teacher columns. That we form W V^T in both passes is not
    counted as work, and halves that symmetry saves are.
    """
    return 2 * n * (n + n_teacher) * (2 * d + 2 * k)


def autograd_exact(teacher: Particles, mu: Particles) -> Tensor:
    """(a) Gradient in w and a of the exact loss, kernels written out."""
    a, w = mu.a.clone().requires_grad_(), mu.w.clone().requires_grad_()
    exact_loss(Erf(), teacher, Particles(a, w, mu.p)).sum().backward()
    assert w.grad is not None
    return w.grad


def autograd_sampled(teacher: Particles, mu: Particles, n_samples: int, seed: int = 0) -> Tensor:
    """(b) The same of the loss on sampled inputs: features first, so no N x N array is needed."""
    x = gaussian_inputs(n_samples, mu.w.shape[2], generator(seed, "benchmark inputs"))
    a, w = mu.a.clone().requires_grad_(), mu.w.clone().requires_grad_()
    f = (teacher.w @ x.T).erf().mT @ (teacher.a * teacher.p[..., None])
    h = (w @ x.T).erf().mT @ (a * mu.p[..., None])  # (E, S, k)
    cross, own = f.mT @ h / n_samples, h.mT @ h / n_samples
    ((f**2).sum() / n_samples - (cross * torch.linalg.solve(own, cross.mT).mT).sum()).div(2).backward()
    assert w.grad is not None
    return w.grad


def jax_gradient(teacher: Particles, mu: Particles) -> Callable[[], object]:
    """(c) The gradient of (a) as JAX compiles it."""

    def gram(w: jax.Array, v: jax.Array) -> jax.Array:
        lengths = jnp.sqrt((1 + 2 * (w**2).sum(1))[:, None] * (1 + 2 * (v**2).sum(1)))
        return 2 / jnp.pi * jnp.arcsin(2 * w @ v.T / lengths)

    known_w, known = jnp.asarray(teacher.w[0].numpy()), jnp.asarray((teacher.a * teacher.p[..., None])[0].numpy())
    masses = jnp.asarray(mu.p[0].numpy())

    def loss(a: jax.Array, w: jax.Array) -> jax.Array:
        weighted = a * masses[:, None]
        cross, own = (gram(w, known_w) @ known).T @ weighted, (gram(w, w) @ weighted).T @ weighted
        return -(cross * jnp.linalg.solve(own, cross.T).T).sum() / 2  # the constant tr C / 2 is left out

    compiled, (a, w) = jax.jit(jax.grad(loss, (0, 1))), (jnp.asarray(part[0].numpy()) for part in mu[:2])
    return lambda: jax.block_until_ready(compiled(a, w))


def calls(n: int) -> dict[str, Callable[[], object]]:
    """What to time at N particles."""
    teacher, mu = setting(n)
    return {
        "ours": lambda: velocity(Erf(), teacher, mu),
        "autograd, exact loss": lambda: autograd_exact(teacher, mu),
        "JAX jit(grad), exact loss": jax_gradient(teacher, mu),
        "autograd, sampled inputs": lambda: autograd_sampled(teacher, mu, SAMPLES),
    }


def sampling_error(n: int, draws: int = 4) -> float:
    """Relative L2 error of grad_w at ``SAMPLES`` inputs, root mean square over draws."""
    teacher, mu = setting(n)
    exact = -velocity(Erf(), teacher, mu).w * mu.p[..., None]
    found = [autograd_sampled(teacher, mu, SAMPLES, seed) for seed in range(draws)]
    return float(torch.stack([(g - exact).square().sum() / exact.square().sum() for g in found]).mean().sqrt())


def compared(n: int, repetitions: int) -> list[dict[str, object]]:
    """Rows of all methods at N; sampling is extrapolated to ``WANTED``: error as S^-1/2, time as S."""
    big = torch.rand(1500, 1500, dtype=torch.float64)
    out = torch.empty_like(big)
    found = take_turns({"dgemm": lambda: torch.mm(big, big, out=out), **calls(n)}, repetitions)
    peak, error = 2 * 1500**3 / found.pop("dgemm"), sampling_error(n)
    found["autograd, sampled inputs"] *= max(1.0, (error / WANTED) ** 2)
    share = flops(n) / found["ours"] / peak
    rows = [
        {"kind": "compared", "method": m, "N": n, "seconds": t, "ratio": t / found["ours"]} for m, t in found.items()
    ]
    rows[0] |= {"share_of_dgemm": share}
    return rows


def one_velocity(n: int) -> Callable[[], object]:
    """One velocity of N particles; a small one has already been taken."""
    case = setting(n)
    velocity(Erf(), *setting(100))
    return lambda: velocity(Erf(), *case)


def added(n: int) -> float:
    """Mebibytes that one velocity adds to a fresh process at its highest."""
    before, highest = memory(one_velocity, n)
    return highest - before


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    with threadpool_limits(1):
        for n, repetitions in REPETITIONS.items():
            rows += compared(n, repetitions)
            print(pd.DataFrame(rows[-4:]).to_string(index=False), flush=True)
        for axis, values in GRIDS.items() if not KEEPS_BLOCKS else ():
            of_axis = {}
            for value in values:
                at = {"n": 2000, "d": 20, "k": 5} | {axis.lower(): value}
                of_axis[str(value)] = (lambda pair: lambda: velocity(Erf(), *pair))(setting(**at))
            rows += [{"kind": axis, "N": float(v), "seconds": t} for v, t in take_turns(of_axis, 7).items()]
    rows += [] if KEEPS_BLOCKS else [{"kind": "memory", "N": n, "mebibytes": added(n)} for n in MEMORY]
    table = pd.DataFrame(rows).rename(columns={"N": "value"}).assign(keeps_blocks=KEEPS_BLOCKS)
    print(table.to_string(index=False))
    before = pd.read_csv(FILE)
    both = pd.concat([before[before["keeps_blocks"] != KEEPS_BLOCKS], table]).sort_values("keeps_blocks", kind="stable")
    write_atomic(FILE, both.to_csv(index=False, float_format="%.4g").encode())


if __name__ == "__main__":
    main()
