"""One visual language for all figures, and figures saved with their data and provenance."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from icl_lib.paths import write_atomic, write_json

PALETTE = sns.color_palette("colorblind")
OURS, CONTROL, FLOOR, BAYES = PALETTE[0], PALETTE[3], PALETTE[1], PALETTE[2]
PUBLISHED = "0.55"  # grey: curves read off the paper's figures
WIDTH = 6.0  # inches; text stays legible when a phone shows the figure 400 px wide


def use_theme() -> None:
    """Set the theme of the book; SVG ids are fixed so that an unchanged figure gives an unchanged file."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.8),
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "font.size": 12,
            "legend.fontsize": 10,
            "svg.hashsalt": "icl-book",
            "svg.fonttype": "none",
        }
    )


def band(ax: Axes, table: pd.DataFrame, x: str, color: object, label: str, **style: Any) -> None:
    """A curve with its interval: ``table`` has the columns x, estimate, low and high."""
    table = table.sort_values(x)
    ax.plot(table[x], table["estimate"], color=color, label=label, **style)
    ax.fill_between(table[x], table["low"], table["high"], color=color, alpha=0.2, linewidth=0)


def plain_ticks(axis: Axis, ticks: Sequence[float] | None = None) -> None:
    """Plain numbers on a logarithmic axis: the given ticks, or 1, 2, 5 of every decade."""
    axis.set_major_locator(FixedLocator(list(ticks)) if ticks is not None else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _stable_ids(svg: str) -> str:
    """Number the clip paths: matplotlib names them by coordinates, whose last digit varies from run to run."""
    names: dict[str, str] = {}
    return re.sub(r"\bp[0-9a-f]{10}\b", lambda found: names.setdefault(found[0], f"clip{len(names) + 1}"), svg)


def save_figure(fig: Figure, folder: Path, name: str, data: pd.DataFrame, provenance: dict[str, object]) -> None:
    """Write name.png, name.svg, the data behind the figure as name.csv and its provenance as name.json."""
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / f"{name}.png", metadata={"Software": None})
    with io.StringIO() as buffer:
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        write_atomic(folder / f"{name}.svg", _stable_ids(buffer.getvalue()).encode())
    data.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    write_json(folder / f"{name}.json", provenance)
