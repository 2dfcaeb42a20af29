"""Published curves, read by hand off the papers' figures (see ``data/README.md``), to be drawn behind ours."""

from pathlib import Path

import pandas as pd

from icl_lib.validate import require_choice

FOLDER = Path(__file__).parent / "data"


def published_curves(figure: str) -> pd.DataFrame:
    """One figure of Li et al. 2024: columns series, x, error. Accurate to about 5 % of each axis."""
    table = pd.read_csv(FOLDER / "li2024_published_curves.csv")
    require_choice("figure", figure, tuple(table["figure"].unique()))
    return table[table["figure"] == figure].drop(columns="figure").reset_index(drop=True)


def published_mechanism() -> pd.DataFrame:
    """The published numbers on attention and neurons: columns quantity, stage, value, unit."""
    return pd.read_csv(FOLDER / "li2024_published_mechanism.csv")
