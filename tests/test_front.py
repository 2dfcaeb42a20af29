"""What the front pages, the citation and the templates say agrees with the ledger and the recorded results."""

import json
import re
from pathlib import Path

import pytest
import yaml
from matplotlib.colors import to_hex

from book.all_results import all_results
from book.claims import Claim, Clause, Measured, judge_clause, load_claims
from icl_lib import figures
from icl_lib.stats import Interval

CLAIMS = load_claims()
BOOK = "chapters"


def text_of(page: str) -> str:
    """A page's prose; of a notebook the Markdown cells."""
    file = Path(BOOK, page)
    if file.suffix == ".md":
        return file.read_text()
    cells = json.loads(file.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def linked(text: str) -> list[str]:
    """Ids of the claims whose chapters a text links to, in its order."""
    return re.findall(r"\]\((?:\w+/)?([LKQ]\d+)_\w+\.ipynb\)", text)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
def test_a_chapter_is_called_as_in_the_ledger(claim: Claim) -> None:
    """A title says the finding or asks the question: where it is a statement, it is not one that its chapter refutes."""
    file = Path(f"{claim.chapter}.ipynb")
    if file.is_file():
        first = "".join(json.loads(file.read_text())["cells"][0]["source"])
        assert first.partition("\n")[0] == f"# {claim.id} · {claim.title}"


def between(text: str, start: str, end: str) -> str:
    assert text.count(start) == 1 and end in text.split(start)[1], (start, end)
    return text.split(start)[1].split(end)[0]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, str]:
    table = all_results().drop_duplicates("claim")
    return dict(zip(table["claim"], table["claim_verdict"], strict=True))


# Words about results.


def test_the_introduction_names_every_claim_that_is_not_reproduced(verdicts: dict[str, str]) -> None:
    words = between(text_of("introduction.ipynb"), "In words:", "### What held")
    assert set(linked(words)) == {name for name, verdict in verdicts.items() if verdict != "reproduced"}


@pytest.mark.parametrize("verdict", ["reproduced", "partly", "not reproduced", "theory only"])
@pytest.mark.parametrize("paper", ["L", "K"])
def test_the_comparison_sorts_claims_as_recorded(verdicts: dict[str, str], paper: str, verdict: str) -> None:
    found = re.findall(rf"\*\*{verdict.capitalize()}, Paper {paper}\*\*\n: (.*)", text_of("compare.md"))
    expected = [name for name, v in verdicts.items() if v == verdict and name.startswith(paper)]
    assert linked("".join(found)) == expected


@pytest.mark.parametrize(("part", "paper"), [("softmax", "li2024"), ("mean_field", "kim2024")])
def test_a_part_lists_its_claims_once(part: str, paper: str) -> None:
    listed = between(text_of(f"{part}/part.md"), "## The claims, in the order of the argument", "```{image}")
    names = linked(listed)
    assert sorted(names) == sorted(name for name, claim in CLAIMS.items() if claim.paper == paper)
    # A chapter is listed after those that it needs.
    for line in listed.splitlines():
        if needed := re.search(r"Needs (.*)\.", line):
            (name,) = linked(line) or ["bridge"]
            before = names[: names.index(name)] if name in names else names
            assert set(re.findall(r"[LK]\d+", needed[1])) <= set(before), line


@pytest.mark.parametrize("part", ["softmax", "mean_field"])
def test_the_diagram_shows_every_chapter(part: str) -> None:
    drawn = set(re.findall(r">([LK]\d+)</text>", Path(BOOK, part, "chapters.svg").read_text()))
    described = between(text_of(f"{part}/part.md"), "{image} chapters.svg", "\n:width")
    assert drawn == {name for name, claim in CLAIMS.items() if claim.chapter.startswith(f"{BOOK}/{part}/")}
    assert drawn == set(re.findall(r"[LK]\d+", described))


def test_the_figures_descriptions_name_what_is_not_reproduced(verdicts: dict[str, str]) -> None:
    cells = json.loads(Path(BOOK, "all_results.ipynb").read_text())["cells"]
    alts = [c["metadata"]["mystnb"]["image"]["alt"] for c in cells if "mystnb" in c["metadata"]]
    for alt, paper in zip(alts, "LKQ", strict=True):
        _, wholly, rest = re.split(r"(In [LKQ1-9, 0and]+) every mark is a blue dot", alt)
        expected = [name for name, verdict in verdicts.items() if name.startswith(paper) and verdict == "reproduced"]
        assert re.findall(r"[LKQ]\d+", wholly) == expected
        others = {name for name in verdicts if name.startswith(paper)} - set(expected)
        assert set(re.findall(r"[LKQ]\d+", rest)) == others


# How to read a verdict.


def test_the_quoted_clause_is_the_ledgers() -> None:
    quoted = between(text_of("verdicts.md"), "```yaml\n", "```")
    assert quoted in Path("claims.yml").read_text()
    ((name, clause),) = yaml.safe_load(quoted).items()
    fields = [clause[field] for field in ("measure", "pass", "partly", "control", "says")]
    assert Clause(*fields) == CLAIMS["L2"].clauses[name]


ROW = re.compile(r"^\| ([a-z ]+) \| (\S+\s\[.*?\]) \| (\S+\s\[.*?\]) \|", flags=re.M)


def made_up(cell: str) -> Interval:
    estimate, low, high = (float(x.replace("−", "-")) for x in re.findall(r"−?\d+\.\d+", cell))
    assert low <= estimate <= high
    return Interval(estimate, low, high, 10)


def test_the_made_up_rows_are_judged_as_they_say() -> None:
    rows = ROW.findall(text_of("verdicts.md"))
    assert len(rows) == 7 and {verdict for verdict, *_ in rows} == {"reproduced", "partly", "not reproduced"}
    for verdict, value, control in rows:
        assert judge_clause(CLAIMS["L2"].clauses["alpha"], Measured(made_up(value), made_up(control))) == verdict


ROLES = {
    "ours": figures.OURS,
    "control": figures.CONTROL,
    "floor or bound": figures.FLOOR,
    "best possible": figures.BAYES,
    "GPT-2": figures.GPT,
    "published": figures.PUBLISHED,
    "theory": figures.THEORY,
    "second arm": figures.ARMS[1],
    "third arm": figures.ARMS[2],
}


def test_the_legend_of_colours_is_that_of_the_figures() -> None:
    shown = re.findall(
        r'<span class="swatch" style="background-color: (#\w+)"></span> \| ([^|]+) \|', text_of("notation.md")
    )
    assert {role: color for color, role in shown} == {role: to_hex(color) for role, color in ROLES.items()}


def test_the_page_explains_every_verdict() -> None:
    defined = re.findall(r"^([a-z ]+)\n: ", text_of("verdicts.md"), flags=re.M)
    assert {"reproduced", "partly", "not reproduced", "theory only", "not yet measured", "stale"} <= set(defined)


# Citation, licences, contributing.


def test_the_citation_is_valid_and_names_both_papers() -> None:
    citation = yaml.safe_load(Path("CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation.keys() >= {"message", "title", "authors", "version", "license"}
    assert {author["name"] for author in citation["authors"]} == {"The icl-book authors"}
    bibliography = Path("references.bib").read_text()
    references = {r["identifiers"][0]["value"]: r for r in citation["references"]}
    assert references.keys() == {"arXiv:2402.15607", "arXiv:2402.01258"}
    for value, reference in references.items():
        number = value.removeprefix("arXiv:")
        assert reference["url"] == f"https://arxiv.org/abs/{number}" and f"eprint    = {{{number}}}" in bibliography
        assert reference["title"] in bibliography
        names = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in reference["authors"])
        assert f"author    = {{{names}}}" in bibliography
        assert reference["type"] == "conference-paper" and reference["year"] == 2024


def test_the_version_is_the_same_everywhere() -> None:
    version = yaml.safe_load(Path("CITATION.cff").read_text())["version"]
    assert f'\nversion = "{version}"\n' in Path("pyproject.toml").read_text()
    assert f"\n## {version}" in Path("CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md", "LICENSE-TEXT", "README.md"])
def test_files_that_are_linked_exist(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", Path(name).read_text()):
        assert Path(target).exists(), target


TEMPLATES = sorted(Path(".github/ISSUE_TEMPLATE").glob("*.md"))


def test_templates_are_complete() -> None:
    assert {file.stem for file in TEMPLATES} == {"wrong_result", "new_claim", "reproduction_failed"}
    for file in TEMPLATES:
        _, front, body = file.read_text().split("---\n", 2)
        assert yaml.safe_load(front).keys() == {"name", "about", "title", "labels"}
        assert all(yaml.safe_load(front).values()) and len(body) > 200


def test_commands_in_contributing_exist() -> None:
    text = Path("CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z]+):.*##", Path("Makefile").read_text(), flags=re.M))
    used = set(re.findall(r"`make ([a-z]+)", text))
    assert {"book", "record", "test"} <= used <= targets
    assert len(re.findall(r"^\d+\. ", text, flags=re.M)) == 10
