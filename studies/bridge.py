"""Training on prompts without its noise, and how far two loss curves are apart.

``icl_lib.mean_field.training`` moves particles along minus the gradient of a batch's loss at fixed W. The mean of that over batches is minus
the gradient of L^n(mu, W) = L_TF(mu, W) + E_n(mu, W) / n (E_n: ``moments.excess_constant``): the flow's velocity at this W plus a
term of order 1/n. Euler steps along it are training with infinitely many prompts of n contexts, but for what is left of sampling in E_n (``n_inputs``). Derived by us, for odd sigma
and odd f°, under which the constant feature decouples from the others, and for prompts without label noise.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.flows import Joint, joint_velocity
from icl_lib.mean_field.integrate import euler, integrate
from icl_lib.mean_field.kernels import Sigma, activation
from icl_lib.mean_field.landscape import covariances, loss, trace
from icl_lib.mean_field.measure import Particles, check_particles
from icl_lib.mean_field.moments import Moments, empirical_moments, excess_constant, optimum_n
from icl_lib.rng import generator
from icl_lib.validate import require, require_choice, require_number

MODES = ("static", "static_finite", "joint")  # of ``training.MODES``

Velocities = tuple[
    Float[Tensor, "E N k"], Float[Tensor, "E N d"], Float[Tensor, "E k k"]
]  # in a and w, over p, and in W


def mirrored_inputs(d: int, n: int, step: int = 0) -> Float[Tensor, "S d"]:
    """n Gaussian inputs and their negatives, stream (0, "mirrored", step)."""
    x = torch.randn(n, d, generator=generator(0, "mirrored", step), dtype=torch.float64)
    return torch.cat([x, -x])


def excess_velocity(
    sigma: Sigma, teacher: Particles, mu: Particles, w: Float[Tensor, "E k k"], x: Float[Tensor, "S d"]
) -> Velocities:
    """Minus the gradient of E_n at W, the coefficient of 1/n in the mean motion; expectations are over x."""
    with torch.enable_grad():
        free = [part.detach().clone().requires_grad_() for part in (mu.a, mu.w, w)]
        m = empirical_moments(sigma, teacher, mu._replace(a=free[0], w=free[1]), x)
        d_a, d_w, d_attention = torch.autograd.grad(excess_constant(m, free[2]).sum(), free)
    return -d_a / mu.p[..., None], -d_w / mu.p[..., None], -d_attention


def mean_motion(
    name: str, teacher: Particles, mu: Particles, mode: str, n: float, dt: float, t_end: float, every: float, n_inputs: int = 64
) -> pd.DataFrame:  # fmt: skip
    """Training without noise; at n = inf all but "joint" are Euler steps of the flow of L(mu).

    Args:
        name: of sigma, "erf" or "tanh".
        mode: one of ``MODES``, with the defaults of w_rate (1) and w_start (0.3) for "joint".
        n: contexts of a prompt, or inf.
        every: time between two rows of the history, a multiple of dt.
        n_inputs: Q and E_n are over as many inputs and their negatives, drawn afresh for every step.

    Returns:
        One row per member and recorded time: member, time, loss (L(mu)), size (E_mu |a|^2), volume (log det B).

    Raises:
        Diverged: B is singular or not finite; names time and settings.
    """
    check_particles(mu)
    require_choice("name", name, ("erf", "tanh"))
    require_choice("mode", mode, MODES)
    for field, value, low in (("dt", dt, 1e-12), ("every", every, 1e-12), ("t_end", t_end, 0)):
        require_number(field, value, low=low)
    require_number("n", n, low=1, or_infinity=True)
    per_row = round(every / dt)
    require(per_row >= 1 and abs(every / dt - per_row) < 1e-6, "every", every, f"a multiple of dt = {dt}")
    kernel, sigma, finite = activation(name).kernel(), activation(name).function, n < np.inf
    rows: list[tuple] = []
    _, b, c = covariances(kernel, teacher, mu)
    white, lengths = torch.linalg.inv(b), torch.full((len(mu.p),), dt, dtype=mu.a.dtype)
    power = torch.linalg.eigvalsh(c)[:, -1] * (1 + 2 / n) + trace(c) / n

    def record(now: Joint) -> None:
        cov = covariances(kernel, teacher, now.mu)
        columns = (loss(cov), (now.mu.p * now.mu.a.square().sum(-1)).sum(-1), torch.logdet(cov.b))
        rows.extend((e, now.time, *row) for e, row in enumerate(zip(*(x.tolist() for x in columns), strict=True)))

    def step(now: Joint, number: int) -> Joint:
        cov, (mu, w, _) = covariances(kernel, teacher, now.mu), now
        x = mirrored_inputs(mu.w.shape[2], n_inputs, number)
        if mode == "static_finite" and finite:
            w = optimum_n(Moments(cov, empirical_moments(sigma, teacher, mu, x).q), n)
        elif mode != "joint":
            w = cov.optimum
        found = joint_velocity(kernel, teacher, mu, w)
        if finite:
            more = excess_velocity(sigma, teacher, mu, w, x)
            found = found[0] + more[0] / n, found[1] + more[1] / n, found[2] + more[2] / n
        if mode == "joint":  # the step of ``Trainer.moved``, where the constant feature has eigenvalue 1
            top = torch.linalg.eigvals(white @ cov.b).real.amax(-1).clamp(min=1.0)
            w = w + white @ found[2] @ white / (power * top**2)[:, None, None]
        return Joint(euler(mu, *found[:2], lengths), w, (number + 1) * dt)

    first, steps = Joint(mu, 0.3 * white, 0.0), range(per_row * (round(t_end / dt) // per_row))
    integrate(first, step, steps, record, per_row, lambda now: f"time {now.time:.6g}, dt={dt}, n={n}, {mode}")
    return pd.DataFrame(rows, columns=["member", "time", "loss", "size", "volume"])


def curves(history: pd.DataFrame, value: str = "loss") -> pd.DataFrame:
    """Loss over that at time 0: one row per recorded time, one column per member."""
    rounded = history.assign(time=history["time"].round(6))
    table = rounded.pivot_table(index="time", columns="member", values=value)
    return table / table.iloc[0]


def farthest(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """Largest distance between two tables of ``curves`` over the times that both have, per member."""
    both = one.index.intersection(other.index)
    require(len(both) > 1, "times", list(one.index[:3]), "times that both tables have")
    return (one.loc[both] - other.loc[both]).abs().max()


def falls(table: pd.DataFrame, level: float) -> pd.Series:
    """Time at which each member's curve first falls below the level, by linear interpolation; inf where it does not."""
    found = {}
    for member, curve in table.items():
        i = int((curve.to_numpy() < level).argmax())
        part = curve.iloc[max(i - 1, 0) : i + 1]
        found[member] = np.interp(-level, -part, part.index) if part.iloc[-1] < level else np.inf
    return pd.Series(found)
