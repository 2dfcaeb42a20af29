"""One classical Runge-Kutta step, the same for every flow here."""

from collections.abc import Callable

import torch
from torch import Tensor

Parts = tuple[Tensor, ...]


def runge_kutta(slope: Callable[[Parts], Parts], y: Parts, dt: float | Tensor) -> Parts:
    """y(t + dt) of dy/dt = slope(y) to order 4; y is a tuple of tensors, each with a leading ensemble dimension.

    Args:
        dt: one number, or one per member, of shape (E,).

    >>> (y,) = runge_kutta(lambda y: (-y[0],), (torch.ones(1, dtype=torch.float64),), dt=0.1)
    >>> round(float(y), 5)  # exp(-0.1)
    0.90484
    """
    h = torch.as_tensor(dt, dtype=y[0].dtype)

    def moved(slopes: Parts, share: float) -> Parts:
        steps = (share * h.reshape(-1, *[1] * (part.ndim - 1)) for part in y)
        return tuple(part + step * s for part, step, s in zip(y, steps, slopes, strict=True))

    k1 = slope(y)
    k2 = slope(moved(k1, 0.5))
    k3 = slope(moved(k2, 0.5))
    k4 = slope(moved(k3, 1.0))
    return moved(tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)), 1.0)
