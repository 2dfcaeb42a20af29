"""What a chapter says in words agrees with what it recorded."""

import json
import re
from pathlib import Path

import pytest

from icl_lib.claims import load_claims

SHAPE = [  # the headings of every claim's chapter, in this order; others may begin like these, and have more to say
    "The claim",
    "Why it should be true",
    "What is finite here",
    "Experiment",
    "Where it breaks",
    "Verdict and control",
    "Exercises",
    "Re-run this chapter",
]
OPTIONAL = {"Where the formulas come from", "Limits"}
RECORDED = [claim for claim in load_claims().values() if Path(f"figures/{claim.id}/result.json").is_file()]


def stated_verdict(notebook: Path) -> str:
    """The verdict in the first cell of a chapter."""
    first = "".join(json.loads(notebook.read_text())["cells"][0]["source"])
    found = re.search(r"\*\*Verdict: ([a-z ]+)\.\*\*", first)
    return found[1] if found else ""


@pytest.mark.parametrize("claim", RECORDED, ids=lambda claim: claim.id)
def test_the_verdict_at_the_top_is_the_recorded_one(claim):
    recorded = json.loads(Path(f"figures/{claim.id}/result.json").read_text())["verdict"]
    assert stated_verdict(Path(f"{claim.chapter}.ipynb")) == recorded


@pytest.mark.parametrize("claim", load_claims().values(), ids=lambda claim: claim.id)
def test_every_chapter_has_the_same_shape(claim):
    cells = json.loads(Path(f"{claim.chapter}.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = [title for title in re.findall(r"^## (.+)$", text, re.M) if title not in OPTIONAL]
    short = [next((name for name in SHAPE if re.fullmatch(rf"{name}(, .+)?", title)), title) for title in found]
    assert short == SHAPE
