"""The loop that every flow goes through, its state, and single steps.

A flow is a state, a step (a field of velocities and a rule how to follow it) and what is recorded. ``flow`` follows
the particles, ``joint_flow`` W as well, ``mean_motion`` of the chapter on training the mean of its steps.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.mean_field.measure import NonFinite, Particles, SingularCovariance


class State(NamedTuple):
    """A flow between two steps: particles; per member the time, and the integral of sum p |v|^2 so far; steps taken.

    `clock` is the sum of the steps as they were asked for: the time of a member whose steps `cap` has not shortened.
    """

    mu: Particles
    time: Float[Tensor, " E"]
    dissipated: Float[Tensor, " E"]
    step: int = 0
    clock: float = 0.0


Change = Callable[[State, float], Particles]  # the particles after a step of length dt (before `cap` shortens it)
Parts = tuple[Tensor, ...]
S = TypeVar("S")
P = TypeVar("P")
BROKEN = (NonFinite, SingularCovariance, torch.linalg.LinAlgError)  # what a step says where a flow has left its region


def integrate(
    state: S,
    step: Callable[[S, P], S],
    plan: Iterable[P],
    record: Callable[[S], bool | None],
    every: int,
    where: Callable[[S], str],
) -> S:
    """The state after all steps of a plan.

    Args:
        step: a state, and what the plan says of this step (its length, or its number), to the next state.
        plan: of all steps; it is asked for one after the other, and never held as a whole.
        record: sees the first state, one after every so many steps, and the last; true ends the flow there.
        where: words for an error, of the state before what went wrong.

    Raises:
        Diverged: from one of ``BROKEN``.

    >>> integrate(1.0, lambda y, h: y - h * y, [0.5] * 4, lambda y: print(y), 2, str)
    1.0
    0.25
    0.0625
    0.0625
    """
    try:
        enough, number, coming = record(state), 0, iter(plan)
        this = next(coming, None)
        while this is not None and not enough:
            state, number, this = step(state, this), number + 1, next(coming, None)
            if number % every == 0 or this is None:
                enough = record(state)
    except BROKEN as cause:
        raise Diverged(f"{where(state)}: {cause}") from cause
    return state


def speed2(mu: Particles, d_a: Float[Tensor, "E N k"], d_w: Float[Tensor, "E N d"]) -> Float[Tensor, " E"]:
    """Mean square of velocities (d_a, d_w), weighted by p."""
    return (mu.p * (d_a.square().sum(-1) + d_w.square().sum(-1))).sum(-1)


def capped(speed2: Float[Tensor, " E"], dt: float, cap: float) -> Float[Tensor, " E"]:
    """Length of a step: dt, or less, so that no member moves by more than `cap` in root mean square."""
    longest = torch.full_like(speed2, cap) / speed2.sqrt().clamp(min=1e-300)
    return torch.fmin(torch.full_like(speed2, dt), longest)


def euler(
    mu: Particles, d_a: Float[Tensor, "E N k"], d_w: Float[Tensor, "E N d"], dt: Float[Tensor, " E"]
) -> Particles:
    """An Euler step along (d_a, d_w), of each member's length."""
    h = dt[:, None, None]
    return mu._replace(a=mu.a + h * d_a, w=mu.w + h * d_w)


def runge_kutta(field: Callable[[Parts], Parts], y: Parts, dt: float | Tensor) -> Parts:
    """y(t + dt) of dy/dt = field(y) to order 4; y is a tuple of tensors, each with a leading ensemble dimension.

    Four evaluations of the field.

    Args:
        dt: one number, or one per member, of shape (E,).

    >>> (y,) = runge_kutta(lambda y: (-y[0],), (torch.ones(1, dtype=torch.float64),), dt=0.1)
    >>> round(float(y), 5)  # exp(-0.1)
    0.90484
    """
    h = torch.as_tensor(dt, dtype=y[0].dtype)

    def moved(along: Parts, share: float) -> Parts:
        steps = (share * h.reshape(-1, *[1] * (part.ndim - 1)) for part in y)
        return tuple(part + step * v for part, step, v in zip(y, steps, along, strict=True))

    k1 = field(y)
    k2 = field(moved(k1, 0.5))
    k3 = field(moved(k2, 0.5))
    k4 = field(moved(k3, 1.0))
    return moved(tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)), 1.0)
