"""The scoreboard in a browser: filters, orders, keyboard, an address for every view, and complete without JavaScript."""

import re
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
ROW = re.compile(r'<tr data-verdict="([^"]*)" data-clauses="([^"]*)".*?<b>(\w+)</b>')
FOUND = {name: (verdict, clauses.split(",")) for verdict, clauses, name in ROW.findall(scoreboard()[0])}
WORST_FIRST = ["not reproduced", "partly", "not yet measured", "theory only", "reproduced"]
LI = [name for name, claim in CLAIMS.items() if claim.paper == "li2024"]
PAGE = "chapters/scoreboard.html"
ROWS = """() => [...document.querySelectorAll('.scoreboard tr[data-verdict]')].filter(row => row.checkVisibility())
    .map(row => [row.querySelector('b').textContent, row.dataset.verdict])"""


def carrying(verdict: str) -> list[str]:
    """Claims with a verdict of their own or of a clause; as reproduced those that are it wholly."""
    return [n for n, (own, of) in FOUND.items() if own == verdict or (verdict in of and verdict != "reproduced")]


def rows(page: Any) -> list[list[Any]]:
    return list(page.evaluate(ROWS))


def ids(page: Any) -> list[str]:
    return [row[0] for row in rows(page)]


def fragment(page: Any) -> str:
    return str(page.evaluate("location.hash"))


@pytest.fixture
def board(html: Path, visit: Visit) -> Iterator[Any]:
    yield shown(visit, html / PAGE)
    assert visit.errors == [] and visit.remote == []


def button(page: Any, name: str) -> Any:
    return page.locator(".board-controls").get_by_role("button", name=name)


def test_the_script_is_loaded_here_alone(html: Path) -> None:
    found = {str(p.relative_to(html)) for p in html.rglob("*.html") if "board.js" in p.read_text()}
    assert found == {PAGE}


def test_filters_find_what_clauses_say(board: Any) -> None:
    assert ids(board) == list(CLAIMS)
    status = board.get_by_role("status")
    assert status.inner_text() == f"All {len(CLAIMS)} entries are shown."
    for verdict, name in (("not reproduced", "✘ not reproduced"), ("partly", "◐ partly"), ("reproduced", "✔ wholly")):
        control = button(board, name)
        expected = carrying(verdict)
        assert expected and control.inner_text().endswith(f" {len(expected)}")
        control.click()
        assert ids(board) == expected and control.get_attribute("aria-pressed") == "true"
        assert status.inner_text() == f"{len(expected)} of {len(CLAIMS)} entries are shown."
        control.click()
    button(board, "Li et al.").click()
    button(board, "◐ partly").click()
    found = ids(board)
    assert found and found == [name for name in carrying("partly") if name in LI]
    # A count says what pressing its button would add, given the other filters.
    kim = [name for name in carrying("partly") if CLAIMS[name].paper == "kim2024"]
    assert button(board, "Kim").inner_text().endswith(f" {len(kim)}")
    assert board.locator(".scoreboard .group").filter(visible=True).count() == 1
    button(board, "Show all").click()
    assert ids(board) == list(CLAIMS) and fragment(board) == "" and button(board, "Show all").is_disabled()
    assert board.evaluate("document.activeElement.id") == "board-search"


def test_no_button_finds_nothing(board: Any) -> None:
    def counts() -> list[int]:
        shown = board.locator(".board-controls button:not([hidden])").filter(has=board.locator(".board-count"))
        return [int(text.split()[-1]) for text in shown.all_inner_texts()]

    assert counts() and 0 not in counts()
    board.get_by_label("Search claims").fill("L1 unseen")
    assert counts() and 0 not in counts()


@pytest.mark.parametrize(
    ("text", "found", "others"),
    [
        ("l5", {"L5"}, {"L1"}),
        ("  CONCENTRATES query ", {"L5"}, {"L2", "K1"}),  # all words, in titles, findings or measures
        ("pruning", {"L7", "Q3"}, {"L1", "K8"}),
        ("finite width", {"K8", "Q6"}, {"L1", "K5"}),  # also where it is written finite-width
        ("few_tasks", {"L1"}, {"L2"}),  # the name of a clause
        ("one cycle", {"L1"}, {"L2"}),  # what a clause measures
        ("magnitude pruning theorem", {"L7"}, {"Q5"}),  # its source
    ],
)
def test_search(board: Any, text: str, found: set[str], others: set[str]) -> None:
    board.get_by_label("Search claims").fill(text)
    shown = set(ids(board))
    assert found <= shown and not others & shown
    assert board.get_by_role("status").inner_text().startswith(f"{len(shown)} of ")


def test_orders_within_each_paper(board: Any) -> None:
    def press(name: str) -> list[list[Any]]:
        board.locator("th button", has_text=name).click()
        sorted_by = board.locator("th[aria-sort]")
        assert sorted_by.count() == 1 and sorted_by.inner_text().startswith(name)
        return rows(board)

    def key(row: list[Any], sign: int) -> tuple[int, int, int]:
        return "LKQ".index(row[0][0]), sign * WORST_FIRST.index(row[1]), list(CLAIMS).index(row[0])

    by_verdict = press("verdict")
    assert board.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    assert by_verdict == sorted(by_verdict, key=lambda row: key(row, 1))
    turned = press("verdict")
    assert board.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert turned == sorted(turned, key=lambda row: key(row, -1)) and turned != by_verdict
    press("claim")
    assert ids(board) == list(CLAIMS)


def test_a_view_has_an_address(html: Path, board: Any, visit: Visit) -> None:
    button(board, "Kim").click()
    button(board, "◐ partly").click()
    board.locator("th button", has_text="verdict").click()
    board.get_by_label("Search claims").fill("births")
    view, address = rows(board), board.url
    assert view and len(view) < len(carrying("partly"))
    visit.open("about:blank")
    visit.open(address)
    assert rows(board) == view and board.get_by_label("Search claims").input_value() == "births"
    assert button(board, "◐ partly").get_attribute("aria-pressed") == "true"
    board.evaluate("location.hash = 'verdict=reproduced&sort=-claim'")
    board.wait_for_function("document.querySelector('#board-search').value === ''")
    assert sorted(ids(board)) == sorted(carrying("reproduced"))
    visit.open("about:blank")
    visit.open((html / PAGE).as_uri() + "#verdict=splendid&sort=toString&paper=")  # nonsense is left out
    assert ids(board) == list(CLAIMS)
    visit.open("about:blank")
    visit.open((html / PAGE).as_uri() + "#main-content")  # an anchor stays one
    assert ids(board) == list(CLAIMS) and fragment(board) == "#main-content"


def test_by_keyboard(board: Any) -> None:
    board.get_by_label("Search claims").focus()
    board.keyboard.press("Tab")  # "Show all" is switched off
    assert board.evaluate("document.activeElement.textContent").startswith("✘ not reproduced")
    board.keyboard.press("Space")
    assert ids(board) == carrying("not reproduced")
    assert board.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    board.locator("th button", has_text="verdict").focus()
    board.keyboard.press("Enter")
    assert board.locator("th[aria-sort]").inner_text().startswith("verdict")
    assert board.evaluate("document.activeElement.textContent").startswith("verdict")  # the focus stays
    row = board.locator(".scoreboard tr[data-verdict]").filter(visible=True).first
    row.locator("summary").focus()
    board.keyboard.press("Enter")
    assert row.locator(".clause").first.is_visible() and row.locator(".links a").first.is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone(html: Path, visit: Visit, theme: str) -> None:
    page = shown(visit, html / PAGE, 390, theme)
    button(page, "◐ partly").click()
    assert ids(page) == carrying("partly")
    page.evaluate("document.querySelectorAll('.scoreboard details').forEach(d => (d.open = true))")
    wide = "() => [...document.querySelectorAll('.scoreboard *')].filter(e => e.checkVisibility() && e.getBoundingClientRect().right > 390).length"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and page.evaluate(wide) == 0
    assert page.locator("th button").count() == 2 and page.locator("th button").first.is_visible()
    assert violations(page) == []  # as the page opens: test_front_page.py; here with a pressed button and all unfolded


def test_complete_without_javascript(html: Path, visit: Visit) -> None:
    context = visit.page.context.browser.new_context(java_script_enabled=False, offline=True)  # type: ignore[union-attr]
    page = context.new_page()
    page.goto((html / PAGE).as_uri())
    found = page.locator(".scoreboard tr[data-verdict]")
    assert found.count() == len(CLAIMS) and all(row.is_visible() for row in found.all())
    assert page.locator(".scoreboard :is(button, input, [role=status])").count() == 0  # nothing that does nothing
    context.close()


def test_a_verdict_is_one_click_from_figure_data_and_command(html: Path) -> None:
    soup = BeautifulSoup((html / PAGE).read_text(), "html.parser")
    recorded = [claim for claim in CLAIMS.values() if Path(f"figures/{claim.id}/result.json").is_file()]
    rows = soup.select('.scoreboard tr[data-verdict]:not([data-verdict="not yet measured"])')
    for row, claim in zip(rows, recorded, strict=True):
        links = {link.text: link["href"] for link in row.find_all("a")}
        assert links.keys() >= {"figure", "data", "result.json"}
        page, anchor = urldefrag(str(links["figure"]))
        figure = re.search(
            rf'<figure [^>]*id="{anchor}">.*?</figure>', (html / "chapters" / page).read_text(), flags=re.S
        )
        # The figure says that it was drawn from this data, and the copy is what is recorded.
        assert figure and "<img" in figure[0] and str(links["data"]).removeprefix("../") in figure[0], anchor
        for name in ("data", "result.json"):
            file = str(links[name]).removeprefix("../")
            assert (html / file).read_bytes() == Path(file).read_bytes()
        assert row.find("pre").text == f"make book CHAPTER={Path(claim.chapter).name}"  # type: ignore[union-attr]
    copied = {str(p.relative_to(html / "figures")) for p in (html / "figures").rglob("*") if p.is_file()}
    linked = re.compile(r'href="(?:\.\./)*figures/([\w./-]+)"')
    assert copied == {
        name for page in html.rglob("*.html") for name in linked.findall(page.read_text())
    }  # these files alone
    assert copied >= {f"{claim.id}/result.json" for claim in recorded}
    assert all((html / "figures" / name).read_bytes() == (Path("figures") / name).read_bytes() for name in copied)
