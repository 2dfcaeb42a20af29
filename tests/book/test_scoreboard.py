"""The scoreboard shows every claim, recomputes its verdict, and says when a result is stale."""

import html
import json
import re
from pathlib import Path

import pytest

from book.claims import NOT_MEASURED, VERDICTS, Measured, load_claims, result_json
from book.identity import chapter_code, tables
from book.notebooks import figure_anchor, main_figure
from book.scoreboard import all_counted, fresh_results, scoreboard, stale_because
from book.words import sentence
from icl_lib.paths import read_yaml, root, write_json
from icl_lib.stats import Interval
from icl_lib.validate import ConfigError

REAL = root()
CLAIMS = load_claims()
N_CLAIMS = sum(claim.paper != "open" for claim in CLAIMS.values())  # open questions are counted apart
NEAR, FAR = Interval(0.001, 0.0005, 0.002, 12), Interval(0.51, 0.4, 0.6, 10)


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with the real ledger, nothing measured, and the notebook of L1."""
    (tmp_path / "claims.yml").write_bytes((REAL / "claims.yml").read_bytes())
    write_notebook(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ICL_BOOK_OUT", raising=False)
    return tmp_path


def write_notebook(book: Path, code: str = "from icl_lib import rng\nx = 1", prose: str = "# A") -> None:
    file = book / f"{CLAIMS['L1'].chapter}.ipynb"
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": [prose]},
        {"cell_type": "code", "metadata": {}, "source": [code], "outputs": []},
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def record(book: Path, folder: str = "figures", control: Interval = FAR, **more: object) -> None:
    """A result of L1 that meets every clause, unless its control says otherwise."""
    measured = {key: Measured(NEAR, control) for key in CLAIMS["L1"].clauses}
    code = chapter_code(book / f"{CLAIMS['L1'].chapter}.ipynb")
    write_json(book / folder / "L1" / "result.json", result_json(CLAIMS["L1"], measured, **{"code_hash": code, **more}))


def rows(table: str) -> dict[str, str]:
    return {re.search(r"<b>([LKQ]\d+)</b>", row)[1]: row for row in re.findall(r"<tr data.*?</tr>", table)}  # type: ignore[index]


def test_unmeasured_claims_are_shown(book: Path) -> None:
    table, counts, answers = scoreboard()
    assert sum(answers.values()) == answers["not yet measured"] == len(CLAIMS) - N_CLAIMS
    found = rows(table)
    assert list(found) == list(CLAIMS) and len(found) == len(CLAIMS)
    assert all("not yet measured" in row for row in found.values())
    assert counts == {**dict.fromkeys(VERDICTS, 0), "not yet measured": N_CLAIMS}
    for name, row in found.items():
        assert html.escape(CLAIMS[name].where) in row
        assert "<a href" not in row  # there is no page to point to


def test_measured_claim(book: Path) -> None:
    record(book)
    table, counts, _ = scoreboard()
    row = rows(table)["L1"]
    assert list(rows(table)) == list(CLAIMS)
    assert "✔ reproduced" in row and "not yet measured" not in row
    assert "0.001 [0.0005, 0.002]" in row and "0.51 [0.4, 0.6]" in row
    for key, clause in CLAIMS["L1"].clauses.items():
        assert html.escape(sentence(clause, Measured(NEAR, FAR))) in row and f'title="{key}: ' in row
    clauses = ",".join(["reproduced"] * len(CLAIMS["L1"].clauses))
    data = f'data-verdict="reproduced" data-clauses="{clauses}" data-paper="Li et al. 2024" data-seeds="12"'
    assert data in row and "<p>12 seeds</p>" in row
    assert f'aria-label="clauses: {len(CLAIMS["L1"].counted)} reproduced"' in row
    assert 'href="../figures/L1/result.json"' in row and ">figure</a>" not in row  # this notebook draws none
    assert 'href="softmax/L1_in_domain.html"' in row and "make book CHAPTER=L1_in_domain" in row
    assert "Theory only" in row and "stale" not in row
    assert (counts["reproduced"], counts["not yet measured"], sum(counts.values())) == (1, N_CLAIMS - 1, N_CLAIMS)


def test_what_is_ours_is_labelled_and_not_counted(book: Path) -> None:
    """A clause that fails costs the claim its verdict, unless the paper does not say it."""

    def shown(label: str, paper: str = "li2024") -> tuple[str, dict[str, int], dict[str, int]]:
        ledger = read_yaml(book / "claims.yml")
        ledger["L1"] |= {"paper": paper}
        for clause in ledger["L1"]["clauses"].values():
            clause.pop("ours", None)
        ledger["L1"]["clauses"]["few_tasks"] |= {"ours": label} if label else {}
        (book / "claims.yml").write_text(json.dumps(ledger), encoding="utf-8")
        measured = {key: Measured(FAR if key == "few_tasks" else NEAR, FAR) for key in CLAIMS["L1"].clauses}
        code = chapter_code(book / f"{CLAIMS['L1'].chapter}.ipynb")
        claim = load_claims()["L1"]
        write_json(book / "figures/L1/result.json", result_json(claim, measured, code_hash=code))
        table, counts, _ = scoreboard()
        return rows(table)["L1"], counts, all_counted()

    row, counts, by_all = shown("")
    others = len(CLAIMS["L1"].clauses) - 1
    assert (
        "◐ partly" in row
        and 'class="ours"' not in row
        and f'aria-label="clauses: {others} reproduced, 1 not reproduced"' in row
    )
    assert counts["partly"] == 1 and by_all == {"partly": 1}
    row, counts, by_all = shown("our result")
    assert "✔ reproduced" in row and counts["reproduced"] == 1 and by_all == {"partly": 1}
    assert row.count('<span class="ours">our result</span>') == 2  # beside the verdict, and at the clause
    assert f'aria-label="clauses: {others} reproduced"' in row and 'aria-label="not counted: 1 not reproduced"' in row
    row, counts, by_all = shown("our result", "open")  # a guess of ours that fails is a guess that fails
    assert "◐ partly held" in row and 'class="ours"' not in row and by_all == {}


def test_a_claim_of_which_all_is_ours_is_theory_only(book: Path) -> None:
    ledger = read_yaml(book / "claims.yml")
    for clause in ledger["L1"]["clauses"].values():
        clause["ours"] = "our reading"
    (book / "claims.yml").write_text(json.dumps(ledger), encoding="utf-8")
    record(book)
    table, counts, _ = scoreboard()
    row = rows(table)["L1"]
    n = len(CLAIMS["L1"].clauses)
    assert "◇ theory only" in row and f'aria-label="not counted: {n} reproduced"' in row and "clauses: " not in row
    assert counts["theory only"] == 1 and counts["reproduced"] == 0 and all_counted() == {"reproduced": 1}


def test_a_finding_is_shown_with_the_result_that_it_was_written_for(book: Path) -> None:
    def told() -> bool:
        return '<p class="finding">So &amp; so.</p>' in rows(scoreboard(book / "fresh")[0])["L1"]

    ledger = read_yaml(book / "claims.yml")
    verdicts = ["reproduced"] * len(CLAIMS["L1"].clauses)
    for when, shown in ((["partly", *verdicts[1:]], False), (verdicts, True)):
        ledger["L1"]["finding"] = {"says": "So & so.", "when": when}
        (book / "claims.yml").write_text(json.dumps(ledger), encoding="utf-8")
        record(book)
        assert told() is shown
    record(book, "fresh")  # the same numbers
    assert told()
    record(book, "fresh", control=Interval(0.81, 0.7, 0.9, 10))  # the same verdicts
    assert not told()
    record(book, "fresh", code_hash="of other code")
    assert not told()


def test_one_click_to_figure_and_data(book: Path) -> None:
    """The key figure of the ledger, under the name in its cell's metadata or else the one that rendering gives it."""
    key = CLAIMS["L1"].key_figure
    write_notebook(book, code=f'chapter.figure(fig, "first_one", table)\nchapter.figure(fig, "{key}", table)')
    assert main_figure("L1", book / f"{CLAIMS['L1'].chapter}.ipynb") == ("first_one", "fig-l1-first-one")
    write_notebook(book, code=f'chapter.figure(fig, "{key}", table)\nchapter.figure(fig, "second", table)')
    record(book)
    row = rows(scoreboard()[0])["L1"]
    assert f'href="softmax/L1_in_domain.html#{figure_anchor("L1", key)}"' in row
    assert f'href="../figures/L1/{key}.csv"' in row and 'href="../figures/L1/result.json"' in row
    file = book / f"{CLAIMS['L1'].chapter}.ipynb"
    notebook = json.loads(file.read_text())
    notebook["cells"][1]["metadata"] = {"mystnb": {"figure": {"name": "fig-own"}}}
    file.write_text(json.dumps(notebook))
    assert 'href="softmax/L1_in_domain.html#fig-own"' in rows(scoreboard()[0])["L1"]


def test_main_figures_of_this_book() -> None:
    for claim in CLAIMS.values():
        if not (REAL / "figures" / claim.id / "result.json").is_file():
            continue  # a new claim, not yet recorded
        found = main_figure(claim.id, REAL / f"{claim.chapter}.ipynb", claim.key_figure)
        assert found and (REAL / "figures" / claim.id / f"{found[0]}.csv").is_file()


def test_stale(book: Path) -> None:
    """Code on which the numbers depend makes a result stale, prose does not."""
    record(book)
    write_notebook(book, prose="# Other words")
    assert "stale" not in scoreboard()[0]
    write_notebook(book, code="from icl_lib import rng\nx = 2")
    assert "stale: the code has changed since" in rows(scoreboard()[0])["L1"]
    record(book)
    assert "stale" not in scoreboard()[0]
    record(book, code_hash="0123456789abcdef")
    table, counts, _ = scoreboard()
    assert table.count("stale") == 1 and "stale" in rows(table)["L1"] and counts["reproduced"] == 1


def test_what_is_vouched_for_is_not_stale(book: Path) -> None:
    """Code that was shown to compute the same; and only that code."""
    record(book, code_hash="0123456789abcdef")
    now = chapter_code(book / f"{CLAIMS['L1'].chapter}.ipynb")
    vouched = book / "figures" / "vouched.csv"
    vouched.write_text(f"claim,recorded,now,since,date,how\nL1,0123456789abcdef,{now},c,d,h\n")
    assert "stale" not in scoreboard()[0]
    write_notebook(book, code="from icl_lib import rng\nx = 3")
    assert "stale: the code has changed since" in rows(scoreboard()[0])["L1"]


def test_a_result_that_read_other_tables_stale_because(book: Path) -> None:
    """Tables that others recorded count by their numbers: not by the code that they were made with."""
    notebook = book / f"{CLAIMS['L1'].chapter}.ipynb"
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["metadata"] = {"icl": {"reads": ["figures/K*/*.csv", "figures/K*/result.json"]}}
    notebook.write_text(json.dumps(content), encoding="utf-8")
    record(book)
    clause = {"value": [1.0], "control": [2.0], "verdict": "partly"}
    write_json(book / "figures/K5/result.json", {"clauses": {"a": clause}, "code_hash": "x"})
    (book / "figures/K5/rate.csv").write_text("seed,rate\n0,0.5\n")
    assert stale_because(CLAIMS["L1"], book / "figures/L1/result.json")  # it says nothing of tables
    record(book, tables=tables(notebook, book))
    write_json(book / "figures/K5/result.json", {"clauses": {"a": {**clause, "verdict": "x"}}, "code_hash": "y"})
    assert not stale_because(CLAIMS["L1"], book / "figures/L1/result.json")
    for change in ("figures/K5/result.json", "figures/K5/rate.csv"):
        before = (book / change).read_text(encoding="utf-8")
        (book / change).write_text(before.replace("1.0", "1.5").replace("0.5", "0.6"), encoding="utf-8")
        assert stale_because(CLAIMS["L1"], book / "figures/L1/result.json"), change
        (book / change).write_text(before, encoding="utf-8")
    assert not stale_because(CLAIMS["L1"], book / "figures/L1/result.json")


def test_a_result_with_merge_markers_is_named(book: Path) -> None:
    record(book)
    file = book / "figures/L1/result.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"^file='.*figures/L1/result.json': must be JSON; line 1.*merge markers in it$"
    ):
        scoreboard()


@pytest.mark.parametrize("content", ["{}", "[]", '{"clauses": {"a": {}}, "code_hash": "x"}'])
def test_a_result_that_no_chapter_wrote_is_named(book: Path, content: str) -> None:
    record(book)
    (book / "figures/L1/result.json").write_text(content, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"^file='.*figures/L1/result.json': must be a result as a chapter records it"
    ):
        scoreboard()


@pytest.mark.parametrize(
    ("at", "line"), [(0, "<<<<<<< HEAD"), (1, "<<<<<<< HEAD"), (2, "L2,a,b,c,2026-11-30,seen, twice")]
)
def test_a_table_of_what_is_vouched_for_that_is_no_longer_one_is_named(book: Path, at: int, line: str) -> None:
    """With merge markers, or a row that is too long: no row is passed over without a word."""
    record(book)
    lines = ["claim,recorded,now,since,date,how", "L1,a,b,c,2026-11-30,tests"]
    lines[at:at] = [line]
    (book / "figures/vouched.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^file='.*figures/vouched.csv': must be .*without merge markers$"):
        scoreboard()


def test_what_could_not_be_measured_is_shown_and_counted(book: Path) -> None:
    record(book, control=NOT_MEASURED)
    table, counts, _ = scoreboard()
    assert "○ not measured" in rows(table)["L1"] and sum(counts.values()) == N_CLAIMS == counts["not yet measured"]


def test_bad_news_is_shown(book: Path) -> None:
    record(book, control=NEAR)  # a control that passes
    table, counts, _ = scoreboard()
    assert "✘ not reproduced" in rows(table)["L1"] and counts["not reproduced"] == 1


def test_verdict_is_recomputed(book: Path) -> None:
    """A verdict written into the file by hand is not what the scoreboard shows."""
    record(book, control=NEAR)
    file = book / "figures/L1/result.json"
    forged = json.loads(file.read_text())
    write_json(file, {**forged, "verdict": "reproduced"})
    assert scoreboard()[1]["reproduced"] == 0


def test_fresh_results_win(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(book)
    record(book, "fresh", control=NEAR)
    assert scoreboard()[1]["reproduced"] == 1
    assert scoreboard(book / "fresh")[1]["not reproduced"] == 1
    assert scoreboard(book / "nothing here")[1]["reproduced"] == 1  # the committed ones fill the gaps
    assert fresh_results() is None
    monkeypatch.setenv("ICL_BOOK_OUT", str(book / "fresh"))
    assert fresh_results() == book / "fresh"
    monkeypatch.setenv("ICL_BOOK_OUT", str(book / "missing"))
    assert fresh_results() is None


def test_our_own_expectations_are_held_or_refuted(book: Path) -> None:
    """Not reproduced: nobody has produced them before."""
    q1 = CLAIMS["Q1"]
    write_json(
        book / "figures/Q1/result.json", result_json(q1, dict.fromkeys(q1.clauses, Measured(FAR, FAR)), code_hash="x")
    )
    file = book / f"{q1.chapter}.ipynb"
    file.parent.mkdir(parents=True)
    file.write_bytes((book / f"{CLAIMS['L1'].chapter}.ipynb").read_bytes())
    found = rows(scoreboard()[0])
    assert "✘ refuted" in found["Q1"] and 'data-verdict="not reproduced"' in found["Q1"]
    assert "What was expected" in found["Q1"] and "The claim" in found["L1"]


def test_what_is_ours_stands_apart() -> None:
    groups = re.findall(r'<tbody><tr class="group"><th[^>]*>(.*?)</th></tr>(.*?)</tbody>', scoreboard()[0])
    assert [list(rows(body)) for _, body in groups] == [[n for n in CLAIMS if n[0] == part] for part in "LKQ"]
    assert groups[-1][0] == "Our own questions"


def test_scoreboard_of_this_book() -> None:
    table, counts, _ = scoreboard()
    assert list(rows(table)) == list(CLAIMS) and sum(counts.values()) == N_CLAIMS
    recorded = {file.parent.name for file in (REAL / "figures").glob("*/result.json")}
    assert {name for name, row in rows(table).items() if "not yet measured" not in row} == recorded & set(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS)
def test_no_committed_result_stale_because(claim: str) -> None:
    """Record it again, or vouch for it (``python -m tools.vouch``)."""
    file = REAL / "figures" / claim / "result.json"
    assert not file.is_file() or not stale_because(CLAIMS[claim], file)
