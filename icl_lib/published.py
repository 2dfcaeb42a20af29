"""Published curves, read by hand off the papers' figures (see ``data/README.md``), to be drawn behind ours."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from icl_lib.stats import Interval, jackknife_interval
from icl_lib.validate import require, require_choice

FOLDER = Path(__file__).parent / "data"


def published_curves(figure: str) -> pd.DataFrame:
    """One figure of Li et al. 2024: columns series, x, error. Accurate to about 5 % of each axis."""
    table = pd.read_csv(FOLDER / "li2024_published_curves.csv")
    require_choice("figure", figure, tuple(table["figure"].unique()))
    return table[table["figure"] == figure].drop(columns="figure").reset_index(drop=True)


def published_mechanism() -> pd.DataFrame:
    """The published numbers on attention and neurons: columns quantity, stage, value, unit."""
    return pd.read_csv(FOLDER / "li2024_published_mechanism.csv")


def held_out_curves() -> pd.DataFrame:
    """ICL and classical learners at alpha' = 0.6: columns series, x, error. Kept aside until K' had been chosen at 0.8."""
    return pd.read_csv(FOLDER / "li2024_published_alpha06.csv").drop(columns="figure")


def log_ratio(ours: ArrayLike, published: ArrayLike, clip: float = 0.0) -> Float[np.ndarray, " *n"]:
    """log(ours / published) of errors, both clipped below at ``clip``; above 0 where ours is larger.

    Digitised errors are known to about 5 %, which alone makes differences of 0.05. A curve is compared by the mean of the absolute value.

    Raises:
        ConfigError: for errors that are not positive after clipping.

    >>> log_ratio([0.02, 0.0], [0.02, 0.001], clip=0.001).tolist()
    [0.0, 0.0]
    """
    a, b = (np.maximum(np.asarray(x, float), clip) for x in (ours, published))
    for field, x in (("ours", a), ("published", b)):
        require(bool((x > 0).all()), field, float(x.min()), "positive, or clipped above 0")
    return np.log(a) - np.log(b)


def distance(ours: pd.DataFrame, published: pd.DataFrame, clip: float = 0.0) -> Interval:
    """Mean absolute `log_ratio` of our mean errors to the published ones, over the points that both have, with its interval over seeds.

    Args:
        ours: columns seed, series, x and error, one row per seed and point; every seed has every point.
        published: columns series, x and error.

    Raises:
        ConfigError: where no point is common, and for less than two seeds (`jackknife_interval`).
    """
    wide = ours.pivot_table(index="seed", columns=["series", "x"], values="error")
    theirs = published.set_index(["series", "x"])["error"]
    points = [point for point in theirs.index if point in wide.columns]
    require(
        len(points) > 0, "ours", sorted(set(ours["x"])), f"with one of the published x, {sorted(set(published['x']))}"
    )
    target = theirs[points].to_numpy()
    found = jackknife_interval(wide[points], lambda mean: float(np.abs(log_ratio(mean, target, clip)).mean()))
    return found._replace(low=max(found.low, 0.0))
