"""The scoreboard in a browser: filters, orders, keyboard, an address for every view, and complete without JavaScript."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import pytest
from bs4 import BeautifulSoup

from book.claims import load_claims
from book.scoreboard import scoreboard
from tests.pages.axe import violations
from tests.pages.conftest import Visit
from tests.pages.test_access import shown

CLAIMS = load_claims()
PAPERS, OPEN = scoreboard()[1:]
COUNTS = {verdict: n + OPEN[verdict] for verdict, n in PAPERS.items()}
WORST_FIRST = ["not reproduced", "partly", "not yet measured", "theory only", "reproduced"]
LI = [name for name, claim in CLAIMS.items() if claim.paper == "li2024"]
ROWS = """() => [...document.querySelectorAll('.scoreboard tbody tr')].filter(row => row.checkVisibility())
    .map(row => [row.querySelector('b').textContent, row.dataset.verdict, Number(row.dataset.seeds)])"""


def rows(page: Any) -> list[list[Any]]:
    return list(page.evaluate(ROWS))


def ids(page: Any) -> list[str]:
    return [row[0] for row in rows(page)]


def fragment(page: Any) -> str:
    return str(page.evaluate("location.hash"))


@pytest.fixture
def board(html: Path, visit: Visit) -> Iterator[Any]:
    yield shown(visit, html / "index.html")
    assert visit.errors == [] and visit.remote == []


def button(page: Any, name: str) -> Any:
    return page.locator(".board-controls").get_by_role("button", name=name)


def test_the_script_is_loaded_here_alone(html: Path) -> None:
    found = {str(p.relative_to(html)) for p in html.rglob("*.html") if "board.js" in p.read_text()}
    assert found == {"index.html"}


def test_filters_by_paper_and_verdict(board: Any) -> None:
    assert ids(board) == list(CLAIMS)
    for verdict, n in COUNTS.items():
        control = board.locator(".board-controls button", has_text=verdict).filter(has=board.locator(".board-count"))
        texts = [t for t in control.all_inner_texts() if t.rpartition(" ")[0] == verdict]
        assert texts == [f"{verdict} {n}"]
    status = board.get_by_role("status")
    assert status.inner_text() == f"All {len(CLAIMS)} claims are shown."

    button(board, "Li et al.").click()
    assert ids(board) == LI and button(board, "Li et al.").get_attribute("aria-pressed") == "true"
    button(board, "partly").click()
    found = rows(board)
    assert found and {verdict for _, verdict, _ in found} == {"partly"} and {name for name, *_ in found} < set(LI)
    assert status.inner_text() == f"{len(found)} of {len(CLAIMS)} claims are shown."
    # A count says what pressing its button would add, given the other filters.
    assert button(board, "Kim").inner_text().endswith(str(PAPERS["partly"] - len(found)))

    button(board, "Kim").click()
    assert len(rows(board)) == PAPERS["partly"]
    button(board, "Open").click()  # all are chosen: as if none were
    assert len(rows(board)) == COUNTS["partly"]
    button(board, "Show all").click()
    assert ids(board) == list(CLAIMS) and fragment(board) == "" and button(board, "Show all").is_disabled()
    assert board.evaluate("document.activeElement.id") == "board-search"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("l5", ["L5"]),
        ("  CONCENTRATES query ", ["L5", "L9"]),  # all words, in titles, findings or measures
        ("pruning", ["L7", "Q3"]),
        ("few_tasks", ["L1"]),  # the name of a clause
        ("one cycle", ["L1"]),  # what a clause measures
        ("reproduced", []),  # what is not said of a claim itself
    ],
)
def test_search(board: Any, text: str, expected: list[str]) -> None:
    board.get_by_label("Search claims").fill(text)
    assert ids(board) == expected
    assert board.get_by_role("status").inner_text().startswith(f"{len(expected)} of ")


def test_orders(board: Any) -> None:
    def press(name: str) -> list[list[Any]]:
        board.locator("th button", has_text=name).click()
        sorted_by = board.locator("th[aria-sort]")
        assert sorted_by.count() == 1 and sorted_by.inner_text() == name
        return rows(board)

    by_verdict = press("verdict")
    assert board.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    assert by_verdict == sorted(by_verdict, key=lambda r: (WORST_FIRST.index(r[1]), list(CLAIMS).index(r[0])))
    assert by_verdict[0][1] != "reproduced"
    turned = press("verdict")
    assert board.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert turned == sorted(turned, key=lambda r: (-WORST_FIRST.index(r[1]), list(CLAIMS).index(r[0])))
    by_seeds = press("seeds")
    assert by_seeds == sorted(by_seeds, key=lambda r: (r[2] or math.inf, list(CLAIMS).index(r[0])))
    press("claim")
    assert ids(board) == list(CLAIMS)
    press("claim")
    assert ids(board) == list(CLAIMS)[::-1] and len(rows(board)) == len(CLAIMS)


def test_a_view_has_an_address(html: Path, board: Any, visit: Visit) -> None:
    button(board, "Kim").click()
    button(board, "partly").click()
    board.locator("th button", has_text="seeds").click()
    board.get_by_label("Search claims").fill("births")
    view, address = rows(board), board.url
    assert view and len(view) < COUNTS["partly"]
    visit.open("about:blank")
    visit.open(address)
    assert rows(board) == view and board.get_by_label("Search claims").input_value() == "births"
    assert button(board, "partly").get_attribute("aria-pressed") == "true"
    board.evaluate("location.hash = 'verdict=reproduced&sort=-claim'")
    board.wait_for_function("document.querySelector('#board-search').value === ''")
    assert ids(board) == [name for name, verdict, _ in rows(board)] and len(rows(board)) == COUNTS["reproduced"]
    assert ids(board) == sorted(ids(board), key=list(CLAIMS).index, reverse=True)
    visit.open("about:blank")
    visit.open((html / "index.html").as_uri() + "#verdict=splendid&sort=toString&paper=")  # nonsense is left out
    assert ids(board) == list(CLAIMS)
    visit.open("about:blank")
    visit.open((html / "index.html").as_uri() + "#how-to-read-this-book")  # an anchor stays one
    assert ids(board) == list(CLAIMS) and fragment(board) == "#how-to-read-this-book"


def test_by_keyboard(board: Any) -> None:
    button(board, "Li et al.").focus()
    board.keyboard.press("Space")
    assert ids(board) == LI
    for _ in range(4):  # the other paper, open questions, not reproduced, partly
        board.keyboard.press("Tab")
    board.keyboard.press("Enter")
    assert {verdict for _, verdict, _ in rows(board)} == {"partly"}
    assert board.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    board.locator("th button", has_text="verdict").focus()
    board.keyboard.press("Enter")
    assert board.locator("th[aria-sort]").inner_text() == "verdict"
    assert board.evaluate("document.activeElement.textContent") == "verdict"  # the focus stays


def test_the_whole_table_is_in_view_on_a_screen(board: Any) -> None:
    box = board.locator(".scoreboard table").evaluate(
        "table => [table.scrollWidth, table.closest('.output').clientWidth]"
    )
    assert box[0] <= box[1]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone(html: Path, visit: Visit, theme: str) -> None:
    page = shown(visit, html / "index.html", 400, theme)
    button(page, "partly").click()
    assert len(rows(page)) == COUNTS["partly"]
    wide = "() => [...document.querySelectorAll('.scoreboard *')].filter(e => e.checkVisibility() && e.getBoundingClientRect().right > 400).length"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400 and page.evaluate(wide) == 0
    assert page.locator("th button").count() == 3 and page.locator("th button").first.is_visible()
    if theme == "dark":  # test_access.py asks about the page as it opens, this is about a pressed button
        assert violations(page) == []


def test_complete_without_javascript(html: Path, visit: Visit) -> None:
    context = visit.page.context.browser.new_context(java_script_enabled=False, offline=True)  # type: ignore[union-attr]
    page = context.new_page()
    page.goto((html / "index.html").as_uri())
    found = page.locator(".scoreboard tbody tr")
    assert found.count() == len(CLAIMS) and all(row.is_visible() for row in found.all())
    assert page.locator(".scoreboard :is(button, input, [role=status])").count() == 0  # nothing that does nothing
    context.close()


def test_a_verdict_is_one_click_from_figure_data_and_command(html: Path) -> None:
    soup = BeautifulSoup((html / "index.html").read_text(), "html.parser")
    recorded = [claim for claim in CLAIMS.values() if Path(f"figures/{claim.id}/result.json").is_file()]
    rows = soup.select('.scoreboard tbody tr:not([data-verdict="not yet measured"])')
    for row, claim in zip(rows, recorded, strict=True):
        links = {link.text: link["href"] for link in row.find_all("a")}
        assert links.keys() >= {"figure", "data", "result.json"}
        page, anchor = urldefrag(str(links["figure"]))
        figure = re.search(rf'<figure [^>]*id="{anchor}">.*?</figure>', (html / page).read_text(), flags=re.S)
        # The figure says that it was drawn from this data, and the copy is what is recorded.
        assert figure and "<img" in figure[0] and str(links["data"]) in figure[0], anchor
        for name in ("data", "result.json"):
            assert (html / str(links[name])).read_bytes() == Path(str(links[name])).read_bytes()
        assert row.find("pre").text == f"make book CHAPTER={Path(claim.chapter).name}"  # type: ignore[union-attr]
    copied = {str(p.relative_to(html / "figures")) for p in (html / "figures").rglob("*") if p.is_file()}
    assert Counter(Path(name).parts[0] for name in copied) == {claim.id: 2 for claim in recorded}  # these files alone
