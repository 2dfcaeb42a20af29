"""The figures of the performance page."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_lib.figures import ARMS, CONTROL, OURS, PALETTE, THEORY, plain_ticks

COLOURS = (CONTROL, *ARMS[1:], PALETTE[1], PALETTE[2], PALETTE[7])
FACTORS = (0.125, 0.5, 2, 8)


def _factors(ax: Axes) -> None:
    ax.set(xscale="log")
    ax.xaxis.set_minor_locator(plt.NullLocator())
    ax.set_xticks(FACTORS, ["1/8", "1/2", "2", "8"])


def _multiples(ax: Axes) -> None:
    """Plain numbers: 1, 2, 5 of every decade, or the decades alone where there are many."""
    low, high = ax.get_ylim()
    decades = [10.0**k for k in range(-4, 6) if low <= 10.0**k <= high]
    decades = [one for one in decades if len(decades) < 6 or round(np.log10(one)) % 2 == 0]
    plain_ticks(ax.yaxis, decades if high / low > 200 else None)


def ratios(table: pd.DataFrame, panels: list[tuple[str, str]]) -> Figure:
    """One panel per hot path and size that is varied: times ours against size, quartiles as bars; below 1 we lose.

    Args:
        table: of ``results.compared``.
        panels: (benchmark, axis) each.
    """
    fig, axes = plt.subplots(-(-len(panels) // 2), 2, figsize=(6.4, 2.9 * -(-len(panels) // 2)))
    for ax, (benchmark, axis) in zip(axes.flat, panels, strict=False):
        part = table[(table["benchmark"] == benchmark) & (table["axis"] == axis)]
        for colour, (name, one) in zip(COLOURS, part.groupby("against", sort=False), strict=False):
            bars = (one["median"] - one["low"], one["high"] - one["median"])
            ax.errorbar(one["factor"], one["median"], bars, fmt=".-", color=colour, label=name, linewidth=1)
        ax.axhline(1, color=OURS, linewidth=1.5)
        ax.set(yscale="log", title=f"{benchmark}: {axis}")
        ax.title.set_fontsize(11)
        low, high = ax.get_ylim()  # room for the legend
        ax.set_ylim(low, high * (high / low) ** (0.1 + 0.14 * len(set(part["against"]))))
        ax.legend(fontsize=9, loc="upper left", borderaxespad=0, labelspacing=0.2)
        _factors(ax)
        _multiples(ax)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    fig.supxlabel("size, times the published one", fontsize=11)
    fig.supylabel("time of the alternative over ours", fontsize=11)
    return fig


def _fit(ax: Axes, upper: pd.DataFrame, fit: pd.Series) -> None:
    """The fitted power law over the sizes that it was fitted to, with its exponent."""
    x, slope = np.log(upper["size"]), fit["exponent, upper half"]
    line = np.exp(np.log(upper["value"]).mean() + slope * (x - x.mean()))
    ax.plot(upper["size"], line, ":", color=THEORY, linewidth=2)
    interval = f"[{fit['low, upper half']:.2f}, {fit['high, upper half']:.2f}]"
    ax.set_title(f"exponent {slope:.2f} {interval}", fontsize=10)


def growth(data: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """Time (left) and memory (right) against each size, on logarithmic axes; dashed: an alternative; dotted: the fit.

    Args:
        data: of ``scaling.grown``.
        fits: of ``scaling.exponents``.
    """
    names, of = list(dict.fromkeys(data["against"])), fits.set_index(["against", "quantity"])
    fig, axes = plt.subplots(len(names), 2, figsize=(6.4, 2.3 * len(names)))
    for row, name in zip(axes, names, strict=True):
        for ax, quantity in zip(row, ("seconds", "MiB added"), strict=True):
            part = data[(data["against"] == name) & (data["quantity"] == quantity)]
            short = quantity == "seconds" and part["value"].max() < 1
            part = part.assign(value=part["value"] * (1e3 if short else 1))
            for variant, one in part.groupby("variant", sort=False):
                style, colour = ("o-", OURS) if variant == "ours" else (".--", CONTROL)
                ax.plot(one["size"], one["value"], style, color=colour, label=variant)
            ours = part[part["variant"] == "ours"]
            _fit(ax, ours[ours["factor"] >= 1], of.loc[(name, quantity)])
            ax.set(
                xscale="log",
                yscale="log",
                xlabel=name,
                ylabel="ms" if short else {"seconds": "s"}.get(quantity, quantity),
            )
            plain_ticks(ax.xaxis, sorted(set(part["size"]))[::3])
            _multiples(ax)
            if len(set(part["variant"])) > 1:
                ax.legend(fontsize=9)
    return fig


def shown(table: pd.DataFrame, panels: list[tuple[str, str]]) -> pd.DataFrame:
    """The data behind ``ratios``."""
    pairs = zip(table["benchmark"], table["axis"], strict=True)
    return table[[pair in panels for pair in pairs]].drop(columns=["difference", "tolerance"])
