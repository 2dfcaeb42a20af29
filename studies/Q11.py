"""TODO: what is measured here, in one line."""

from collections.abc import Sequence

import pandas as pd
import torch

from icl_lib.rng import generator
from icl_lib.validate import require_integer


def measure(seeds: Sequence[int], n_draws: int, shift: float = 0.0) -> pd.DataFrame:
    """TODO: one row per seed and number of draws, with the columns ``seed``, ``draws`` and ``value``.

    Raises:
        ConfigError: for fewer than two draws.
    """
    require_integer("n_draws", n_draws, 2)
    means = {s: torch.randn(n_draws, generator=generator(s, "pwgf")).double().cumsum(0) for s in seeds}
    steps = sorted({max(1, n_draws // part) for part in (8, 4, 2, 1)})
    rows = [(s, n, abs(total[n - 1].item() / n + shift)) for s, total in means.items() for n in steps]
    return pd.DataFrame(rows, columns=["seed", "draws", "value"])
