"""The line below a chapter's title: on every chapter, from the ledger and the recorded numbers, and reading times that can be checked."""

import csv
import dataclasses
import html as entities
import math
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from docutils import nodes

from _ext.page_facts import counts, ledger, whose
from book import words
from book.claims import load_claims
from book.registry import chapters
from book.scoreboard import PAPERS, scoreboard
from tests.pages.test_pages import PAGES

CLAIMS, TABLE = load_claims(), scoreboard()[0]
LINE = re.compile(r'</h1>\s*<p class="page-facts">(.*?)</p>', flags=re.S)
CHAPTERS = {f"chapters/{chapter.label}.html": chapter for chapter in chapters(Path.cwd())}
RECORDED = csv.DictReader(Path("benchmarks/commands.csv").read_text().splitlines())
TIMES = {row["command"]: float(row["seconds"]) for row in RECORDED}


def said(page: Path) -> list[str]:
    """The pieces of the line, as a reader sees them; none where there is no line."""
    found = LINE.findall(page.read_text())
    assert len(found) <= 1 and page.read_text().count('class="page-facts"') == len(found)
    return (
        entities.unescape(re.sub(r"<a .*?</a>|<.*?>", "", found[0])).removesuffix(" · ").split(" · ") if found else []
    )


@pytest.mark.parametrize("name", [name for name in CHAPTERS if name.count("/") == 2])
def test_a_chapter_leads_to_what_its_symbols_mean(html: Path, name: str) -> None:
    part = {"softmax": "#part-i-paper-l", "mean_field": "#part-ii-paper-k", "open": ""}[name.split("/")[1]]
    assert f'<a href="../notation.html{part}">symbols</a></p>' in (html / name).read_text()


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_says_what_the_ledger_and_the_records_say(html: Path, name: str) -> None:
    chapter, facts = CHAPTERS[name], said(html / name)
    claim = CLAIMS.get(chapter.id)
    if claim:
        seeds = re.search(rf'data-seeds="(\d+)"><td><b>{claim.id}</b>', TABLE)
        if claim.paper == "open":
            assert facts[0] == f"Open question {claim.id}"
        else:
            assert facts[:2] == [f"Claim {claim.id}", f"{PAPERS[claim.paper]}, {claim.where}"]
        assert seeds and f"{seeds[1]} seeds" in facts
        moved = words.moves(Path.cwd(), claim.id)
        named = [name for name, move in moved.items() if move > words.LEVEL]
        assert [fact.partition(":")[0] for fact in facts if "rounding" in fact] == (
            [f"rounding moves {max(named, key=lambda name: moved[name])}"]
            if named
            else ["rounding moves nothing by a tenth of its half width"] * bool(moved)
        )
    else:
        assert not any(fact.startswith("Claim") or fact.endswith("seeds") for fact in facts)
    command = f"make book CHAPTER={chapter.notebook.stem}"
    seconds = TIMES.get(chapter.label, TIMES.get(command))
    expected = [] if seconds is None else [f"{math.ceil(seconds / 60)} min to run on two cores"]
    assert [fact for fact in facts if "to run" in fact] == expected
    assert sum(bool(re.fullmatch(r"\d+ min to read", fact)) for fact in facts) == 1


def test_other_pages_say_at_most_how_long_they_take(html: Path) -> None:
    lines = {name: said(html / name) for name in PAGES if name not in CHAPTERS}
    assert all(len(line) <= 1 for line in lines.values())
    minutes = {name: int(line[0].removesuffix(" min to read")) for name, line in lines.items() if line}
    assert minutes and min(minutes.values()) >= 5
    assert not minutes.keys() & {"index.html", "chapters/references.html"}


@pytest.mark.parametrize("name", ["L4_out_of_domain", "K3_landscape", "bridge"])
def test_reading_time_from_the_page_as_it_is_shown(html: Path, name: str) -> None:
    """Counted in another way than by the extension: on the HTML, with simpler rules."""
    (page,) = [page for page in CHAPTERS if Path(page).stem == name]
    article = BeautifulSoup((html / page).read_text(), "html.parser").find("article")
    assert article
    for repeated in article.select(".first-screen"):
        repeated.decompose()
    pictures = len(article.select("img")) + len(article.select("div.math"))
    captions = " ".join(e.get_text() for e in article.select(".caption-text"))
    for node in article.select(
        "noscript, .cell_input, .cell_output, .page-facts, .ledger, div.highlight, div.math, summary, .headerlink"
    ):
        node.decompose()
    for formula in article.select(".math"):
        formula.replace_with(" formula ")
    n_words = len(re.findall(r"\w[\w.,'’-]*", article.get_text() + captions))
    (shown,) = [int(fact.split()[0]) for fact in said(html / page) if fact.endswith("to read")]
    assert abs(shown - (n_words / 200 + pictures * 12 / 60)) < 1.2


def test_what_is_ours_is_said_below_the_verdict() -> None:
    claim = CLAIMS["L1"]
    paper = {key: dataclasses.replace(clause, ours="") for key, clause in claim.clauses.items()}
    claim = dataclasses.replace(claim, clauses=paper)
    clauses = {key: dataclasses.replace(clause, ours="our result") for key, clause in claim.clauses.items()}
    key, *_ = clauses
    one = dataclasses.replace(claim, clauses={**claim.clauses, key: clauses[key]})
    label = f'<code>{key}</code> <span class="ours">our result</span>'
    assert label in whose(one) and "the verdict counts the others" in whose(one) and label in ledger(one)
    assert "none is left for a verdict on the paper" in whose(dataclasses.replace(claim, clauses=clauses))
    assert whose(claim) == whose(dataclasses.replace(one, paper="open")) == ""


def test_tables_mark_what_is_ours(html: Path) -> None:
    """In the table of the verdict, whose cells are recorded without the label."""
    marked = 0
    for claim in CLAIMS.values():
        if not Path(f"figures/{claim.id}/result.json").is_file():
            continue
        page = BeautifulSoup((html / f"{claim.chapter}.html").read_text(), "html.parser")
        names = [cell.get_text(" ", strip=True) for cell in page.select("tr > td:first-child")]
        for key, clause in claim.clauses.items():
            ours = claim.paper != "open" and bool(clause.ours)
            assert (f"{key} {clause.ours}" if ours else key) in names, (claim.id, key)
            marked += ours
    assert marked


def test_what_counts() -> None:
    words = nodes.paragraph(
        "", "", nodes.Text("Two words, and "), nodes.math("", "x^2 + y"), nodes.Text(" – one's 0.5.")
    )
    figure = nodes.figure(
        "", nodes.image(), nodes.caption("", "One caption."), nodes.legend("", nodes.paragraph("", "data"))
    )
    code = nodes.container("", nodes.literal_block("", "x = 1"), classes=["cell_input"])
    output = nodes.container("", nodes.paragraph("", "printed words"), figure.deepcopy(), classes=["cell_output"])
    assert counts(words) == (6, 0)  # a formula in a line is a word
    assert counts(figure) == (2, 1)
    assert counts(code) == (0, 0)
    assert counts(output) == (2, 1)
    assert counts(nodes.section("", words, nodes.math_block("", "a = b"), code, output)) == (8, 2)


def test_tooltips_say_how_it_is_known(html: Path) -> None:
    line = LINE.findall((html / "chapters/softmax/L4_out_of_domain.html").read_text())[0]
    words, pictures = map(
        int, re.findall(r'title="(\d+) words at 200 a minute, and 12 s for each of (\d+) figures', line)[0]
    )
    assert f">{math.ceil(words / 200 + pictures / 5)} min to read<" in line
    assert re.findall(r'title="Measured: (\d+) s', line) == [f"{TIMES['softmax/L4_out_of_domain']:.0f}"]
