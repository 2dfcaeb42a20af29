"""Plateaus on the way down: where the loss falls slowest between two faster stretches."""

import numpy as np
import pandas as pd
from scipy.signal import find_peaks

from icl_lib.validate import require, require_number


def plateaus(history: pd.DataFrame, prominence: float = 1.0) -> pd.DataFrame:
    """Local minima of the speed -dL/dt of each member of a flow's history.

    Args:
        history: of ``flow``; member, time and loss, recorded often enough to resolve the plateaus.
        prominence: a plateau counts if the speed rises by exp(prominence) on both sides.

    Returns:
        One row per plateau: member, time and loss where the member is slowest.

    >>> time = np.linspace(0, 20, 201)
    >>> loss = 1 / (1 + np.exp(time - 4)) + 1 / (1 + np.exp(time - 16))  # falls twice
    >>> history = pd.DataFrame({"member": 0, "time": time, "loss": loss})
    >>> plateaus(history)["time"].round(1).tolist()
    [10.0]
    """
    require_number("prominence", prominence, low=0)
    require({"member", "time", "loss"} <= set(history), "history", list(history), "a table with member, time and loss")
    rows = []
    for member, part in history.groupby("member"):
        time, loss = part["time"].to_numpy(), part["loss"].to_numpy()
        speed = -np.diff(loss) / np.diff(time)
        slowness = -np.log(np.maximum(speed, 1e-18))  # below that a loss does not move in float64
        peaks, _ = find_peaks(slowness, prominence=prominence)
        rows += [(member, (time[i] + time[i + 1]) / 2, (loss[i] + loss[i + 1]) / 2) for i in peaks]
    return pd.DataFrame(rows, columns=["member", "time", "loss"])


def distance_to_levels(losses: np.ndarray, spectrum: tuple[float, ...]) -> np.ndarray:
    """Distance of each loss to the nearest of the levels 1/2 sum_J lambda, J any non-empty set of outputs."""
    subsets = np.array([[i >> j & 1 for j in range(len(spectrum))] for i in range(1, 2 ** len(spectrum))])
    levels = subsets @ np.asarray(spectrum) / 2
    return np.abs(np.asarray(losses, float)[:, None] - levels).min(axis=1)
