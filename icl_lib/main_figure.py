"""Where a chapter's figures are found on its page, and which of them to look at first."""

import re
from pathlib import Path

from icl_lib.notebooks import read_cells

# By the name of its file, where it is not the first of the chapter.
MAIN = {"K3": "saddles", "K6": "time_over_epsilon", "K8": "against_width", "K10": "curves"}
DRAWN = re.compile(r'chapter\.figure\(\s*\w+,\s*"(\w+)"')


def figure_anchor(id: str, name: str) -> str:
    """The anchor that rendering gives to a figure whose cell does not name it."""
    return f"fig-{id}-{name}".lower().replace("_", "-")


def main_figure(id: str, notebook: Path) -> tuple[str, str] | None:
    """File name (without ending) and anchor of the main figure of claim ``id``; None if its notebook draws none."""
    for cell in read_cells(notebook):
        drawn = DRAWN.search("".join(cell["source"]))
        if drawn and MAIN.get(id) in (None, drawn[1]):
            named = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
            return drawn[1], named or figure_anchor(id, drawn[1])
    return None
