"""The exact velocity of Paper K's dynamics against autograd, for N particles at d = 20, k = 5, erf, in float64.

Run ``python -m benchmarks.mean_field``; it prints and writes nothing. To wire it into ``__main__``, make a ``Case`` of each
pair in ``calls`` with unit "µs per velocity" (work 1).
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.hessian import exact_loss
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, teachers
from icl_lib.mean_field.sampled import gaussian_inputs
from icl_lib.rng import generator

SIZES = (500, 1000, 4000)
SAMPLES = 2000  # inputs of the sampled gradient that is timed; more are extrapolated
WANTED = 0.01  # relative L2 error of grad_w


def setting(n: int) -> tuple[Particles, Particles]:
    """The axes teacher and the documented random start."""
    teacher = teachers([TeacherConfig(spectrum=(1.0,) * 5)], Erf())
    return teacher, initial_particles([InitConfig(n=n)])


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


def calls(n: int) -> dict[str, Callable[[], object]]:
    """What to time at N particles."""
    teacher, mu = setting(n)
    return {
        "exact": lambda: velocity(Erf(), teacher, mu),
        "autograd, exact loss": lambda: autograd_exact(teacher, mu),
        f"autograd, {SAMPLES} inputs": lambda: autograd_sampled(teacher, mu, SAMPLES),
    }


def sampling_error(n: int, draws: int = 4) -> float:
    """Relative L2 error of grad_w at ``SAMPLES`` inputs, root mean square over draws."""
    teacher, mu = setting(n)
    exact = -velocity(Erf(), teacher, mu).w * mu.p[..., None]
    found = [autograd_sampled(teacher, mu, SAMPLES, seed) for seed in range(draws)]
    return float(torch.stack([(g - exact).square().sum() / exact.square().sum() for g in found]).mean().sqrt())


def seconds(call: Callable[[], object]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def main(repetitions: int = 7) -> None:
    """Best and median processor time; everything takes turns, dgemm included."""
    torch.set_num_threads(1)
    big = torch.rand(1500, 1500, dtype=torch.float64)
    out = torch.empty_like(big)
    with threadpool_limits(1):
        for n in SIZES:
            of_n = {"dgemm": lambda: torch.mm(big, big, out=out), **calls(n)}
            times: dict[str, list[float]] = {name: [] for name in of_n}
            for repetition in range(repetitions + 1):
                for name, call in of_n.items():
                    taken = seconds(call)
                    times[name] += [taken] if repetition else []  # the first warms up
            best = {name: min(t) for name, t in times.items()}
            peak, own = 2 * 1500**3 / best["dgemm"], best["exact"]
            print(
                f"N={n}: exact {1e3 * own:.2f} ms (median {1e3 * median(times['exact']):.2f}), "
                f"{flops(n) / own / peak:.1%} of {peak / 1e9:.1f} GF/s"
            )
            for name, t in list(best.items())[2:]:
                print(f"  {name}: {1e3 * t:.1f} ms, {t / own:.1f} x as long")
            error = sampling_error(n)
            factor = max(1.0, (error / WANTED) ** 2)
            of_samples = factor * best[f"autograd, {SAMPLES} inputs"] / own
            print(
                f"  its error {error:.2g}; EXTRAPOLATED (error as S^-1/2, time as S) to {WANTED}: "
                f"{factor * SAMPLES:.2g} inputs, {of_samples:.3g} x as long"
            )


if __name__ == "__main__":
    main()
