"""One prompt as a table and as a picture."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from icl_lib.figures import WIDTH
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks


def prompt_table(patterns: PatternConfig, prompts: PromptConfig, seed: int) -> pd.DataFrame:
    """One drawn prompt, a row per token (the query last): pattern numbers, kappa, label, whether it matches the query.

    >>> from icl_lib.softmax.patterns import PatternConfig
    >>> from icl_lib.softmax.prompts import PromptConfig
    >>> prompt_table(PatternConfig(), PromptConfig(n_context=4), seed=0).shape[0]
    5
    """
    tasks = task_table([all_tasks(patterns.n_idr)])
    p = sample_prompts([prompts], tasks, [seed], (patterns.n_idr, patterns.n_idi), 1, "shown")
    index = [*p.parts[0, 0].T.tolist(), p.query_parts[0, 0].tolist()]
    table = pd.DataFrame(index, columns=["relevant", "irrelevant"])
    table["irrelevant"] -= patterns.n_idr
    table["kappa"] = [*p.kappa[0, 0].tolist(), p.query_kappa[0, 0].item()]
    table["label"] = [*p.label[0, 0].tolist(), p.target[0, 0].item()]
    table["same_pattern"] = [*p.same_pattern()[0, 0].tolist(), True]
    table.insert(0, "token", [*(str(i + 1) for i in range(len(table) - 1)), "query"])
    return table


def draw_prompt(table: pd.DataFrame) -> Figure:
    """Pattern, irrelevant part and label of every token, one column each; tokens like the query are outlined."""
    fig, axes = plt.subplots(3, 1, figsize=(WIDTH, 4.6), sharex=True, height_ratios=[2, 1.4, 0.8])
    x = range(len(table))
    edge = ["black" if same else "none" for same in table["same_pattern"]]
    colours = [sns.color_palette("colorblind", table["relevant"].max() + 1)[j] for j in table["relevant"]]
    axes[0].scatter(x, table["relevant"] + 1, c=colours, marker="s", s=90, edgecolors=edge, linewidths=1.6)
    axes[0].set(
        ylabel="pattern j", yticks=range(1, table["relevant"].max() + 2), ylim=(0.3, table["relevant"].max() + 1.7)
    )
    axes[1].bar(x, table["kappa"], color="0.5")
    axes[1].axhline(0, color="black", linewidth=0.8)
    axes[1].set(ylabel="κ")
    for i, (label, query) in enumerate(zip(table["label"], table["token"] == "query", strict=True)):
        text = "?" if query else ("+" if label > 0 else "−")
        axes[2].text(i, 0, text, ha="center", va="center", fontsize=15, color="C0" if label > 0 else "C3")
    ticks = [i for i in x if (i % 4 == 3 and i < len(table) - 3) or i == len(table) - 1]
    axes[2].set(ylim=(-1, 1), yticks=[], ylabel="label", xlabel="token", xticks=ticks)
    axes[2].set_xticklabels([table["token"].iloc[i] for i in ticks])
    return fig
