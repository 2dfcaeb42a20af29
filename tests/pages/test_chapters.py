"""What a chapter says in words agrees with what it recorded."""

import itertools
import json
import re
import shlex
from html import unescape
from pathlib import Path

import pytest

from book import registry
from book.claims import load_claims
from book.cli import pairs, parser

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
WRITTEN = [claim for claim in load_claims().values() if Path(f"{claim.chapter}.ipynb").is_file()]
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


def test_only_open_questions_may_wait_for_their_chapter():
    assert all(claim.paper == "open" for claim in load_claims().values() if claim not in WRITTEN)


@pytest.mark.parametrize("claim", WRITTEN, ids=lambda claim: claim.id)
def test_every_chapter_has_the_same_shape(claim):
    cells = json.loads(Path(f"{claim.chapter}.ipynb").read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = [title for title in re.findall(r"^## (.+)$", text, re.M) if title not in OPTIONAL]
    short = [next((name for name in SHAPE if re.fullmatch(rf"{name}(, .+)?", title)), title) for title in found]
    assert short == (["The question", *SHAPE[1:]] if claim.paper == "open" else SHAPE)


@pytest.mark.parametrize(
    "chapter", [c for c in registry.chapters(Path.cwd()) if c.label.count("/")], ids=lambda c: c.id
)
def test_the_command_that_runs_a_chapter_again_is_accepted(chapter):
    text = "\n".join("".join(cell["source"]) for cell in json.loads(chapter.notebook.read_text())["cells"])
    commands = re.findall(r"^\.venv/bin/icl (run .+)$", text, re.M)
    if chapter.id == "data_model":
        return
    assert len(commands) == 1
    args = parser().parse_args(shlex.split(commands[0]))
    assert registry.find(args.chapter, Path.cwd()).label == chapter.label
    assert chapter.changed(chapter.values(pairs(chapter, args.given)))


@pytest.mark.parametrize("claim", RECORDED, ids=lambda claim: claim.id)
def test_a_page_says_what_its_clauses_measure_and_what_was_changed(claim, html):
    page = (html / f"{claim.chapter}.html").read_text()
    ledger = unescape(re.search(r'<details class="ledger">.*?</details>', page, re.S)[0])
    for key, clause in claim.clauses.items():
        assert (
            f"<code>{key}</code>" in ledger
            and clause.measure.rstrip(".") in ledger
            and clause.control.rstrip(".") in ledger
        )
    assert all(change in ledger for change in claim.changes)


@pytest.mark.parametrize("claim", RECORDED, ids=lambda claim: claim.id)
def test_below_each_figure_are_its_files(claim, html):
    page = (html / f"{claim.chapter}.html").read_text()
    notebook = "\n".join(
        "".join(cell["source"]) for cell in json.loads(Path(f"{claim.chapter}.ipynb").read_text())["cells"]
    )
    names = re.findall(r'chapter\.figure\(\s*\w+,\s*"(\w+)"', notebook)
    for name, kind in itertools.product(names, ("csv", "png", "svg", "json")):
        assert f'href="../../figures/{claim.id}/{name}.{kind}"' in page
        assert (html / f"figures/{claim.id}/{name}.{kind}").is_file()
