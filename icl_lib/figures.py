"""One visual language for all figures, and figures saved with their data and provenance."""

import io
import math
import re
from collections.abc import Mapping, Sequence
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
# A colour means one thing in the whole book; chapters/notation.md shows the reader which.
OURS, CONTROL, FLOOR, BAYES = PALETTE[0], PALETTE[3], PALETTE[1], PALETTE[2]
GPT = PALETTE[9]  # a GPT-2 beside the one-layer model
PUBLISHED = "0.55"  # grey: curves read off the paper's figures
THEORY = "black"  # dashed or dotted: what a theorem or a derivation predicts
ARMS = (OURS, PALETTE[4], PALETTE[5])  # things that are compared and have no colour of their own, ours first
STARTS = {"near the teacher": ARMS[0], "random": ARMS[1], "near a saddle": ARMS[2]}
DPI = 110  # pixels per inch of the pages
WIDTH = 6.0  # inches; text stays legible when a phone shows the figure 400 px wide


def use_theme() -> None:
    """Set the theme of the book; SVG ids are fixed so that an unchanged figure gives an unchanged file."""
    plt.rcdefaults()  # a matplotlibrc of this machine is not to be seen
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.8),
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "font.size": 12,
            "legend.fontsize": 10,
            "svg.hashsalt": "icl-book",
            "svg.fonttype": "none",
            "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # comes with matplotlib: one layout everywhere
        }
    )


def band(ax: Axes, table: pd.DataFrame, x: str, color: object, label: str, **style: Any) -> None:
    """A curve with its interval: ``table`` has the columns x, estimate, low and high. One point is a dot with a line."""
    table = table.sort_values(x)
    if len(table) == 1:
        ax.vlines(table[x], table["low"], table["high"], color=color, alpha=0.4)
        style = {"marker": ".", **style}
    ax.plot(table[x], table["estimate"], color=color, label=label, **style)
    ax.fill_between(table[x], table["low"], table["high"], color=color, alpha=0.2, linewidth=0)


def published_and_ours(
    axes: Sequence[Axes], published: pd.DataFrame, ours: pd.DataFrame, colors: Mapping[str, object]
) -> None:
    """Published curves in the first panel and ours in the second, on one axis of errors with a logarithmic scale.

    Args:
        published: columns series, x, error.
        ours: columns series, x, estimate, low, high; what is 0 is left out.
        colors: of every series that is drawn, in the order of the legend.
    """
    for name, color in colors.items():
        known, own = published[published["series"] == name], ours[ours["series"] == name]
        axes[0].plot(known["x"], known["error"], ".-", color=color, label=name)
        band(axes[1], own.assign(estimate=own["estimate"].replace(0, math.nan)), "x", color, name, marker=".")
    for ax, whose in zip(axes, ("published", "ours"), strict=True):
        ax.set(yscale="log", title=whose)


def shades(n: int) -> list[tuple[float, ...]]:
    """Colours for n values of one parameter in their order, dark to light."""
    return [plt.colormaps["viridis"](0.85 * i / max(n - 1, 1)) for i in range(n)]


def plain_ticks(axis: Axis, ticks: Sequence[float] | None = None) -> None:
    """Plain numbers on a logarithmic axis: the given ticks, or 1, 2, 5 of every decade; as it is where nothing was drawn."""
    if not math.isfinite(axis.get_minpos()):
        return
    axis.set_major_locator(FixedLocator(list(ticks)) if ticks is not None else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _stable(svg: str) -> str:
    """Number the clip paths, named by coordinates whose last digit varies from run to run, and round coordinates."""
    names: dict[str, str] = {}
    svg = re.sub(r"\bp[0-9a-f]{10}\b", lambda found: names.setdefault(found[0], f"clip{len(names) + 1}"), svg)
    return re.sub(r'\b(?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg)


def save_figure(fig: Figure, folder: Path, name: str, data: pd.DataFrame, provenance: dict[str, object]) -> None:
    """Write name.png, name.svg, the data behind the figure as name.csv and its provenance as name.json."""
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / f"{name}.png", metadata={"Software": None})
    with io.StringIO() as buffer:
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        write_atomic(folder / f"{name}.svg", _stable(buffer.getvalue()).encode())
    data.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    write_json(folder / f"{name}.json", provenance)
