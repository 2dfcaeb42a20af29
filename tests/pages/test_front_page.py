"""The front page in a browser: the live prompt, the picture of all entries, and what every page says of itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from book.claims import COLUMNS, load_claims
from book.hero import CARDS, START, attend, labels
from book.scoreboard import standing
from tests.pages.axe import violations
from tests.pages.conftest import Visit
from tests.pages.test_access import shown
from tests.pages.test_links import target
from tests.pages.test_pages import PAGES, is_remote

CLAIMS = load_claims()
WEIGHTS = "[...document.querySelectorAll('.hero-bar span')].map(bar => Number(bar.style.getPropertyValue('--w')))"
PLACE = "parseFloat(document.querySelector('.hero-axis i').style.left) / 50 - 1"
WIDTHS = "(e => [e.scrollWidth, e.clientWidth])(document.documentElement)"


@pytest.fixture
def front(html: Path, visit: Visit) -> Iterator[Any]:
    yield shown(visit, html / "index.html")
    assert visit.errors == [] and visit.remote == []


def agrees(page: Any, g: float, swapped: bool) -> None:
    """What is drawn is what the library computes."""
    expected = attend(g, swapped)
    assert page.evaluate(WEIGHTS) == pytest.approx(expected.weights, abs=1e-5)
    assert page.evaluate(PLACE) == pytest.approx(expected.answer, abs=1e-5)
    signs = page.locator(".hero-card .hero-sign").all_inner_texts()
    assert signs == ["+" if y > 0 else "−" for y in labels(swapped)] and len(signs) == len(CARDS)
    assert page.locator(".hero-query .hero-sign").inner_text() == ("+" if expected.answer > 0 else "−")
    assert page.locator(".hero-number").inner_text() == f"{expected.answer:+.2f}".replace("-", "−")


def test_the_prompt_works_by_keyboard_and_shows_the_librarys_numbers(front: Any) -> None:
    agrees(front, START, False)
    slider, swap = front.get_by_role("slider"), front.get_by_role("button", name="Swap what A and B mean")
    slider.focus()
    front.keyboard.press("ArrowRight")
    agrees(front, START + 0.1, False)
    assert slider.get_attribute("aria-valuetext").startswith("g = 2.1: 84")
    front.keyboard.press("End")
    agrees(front, 8.0, False)
    front.keyboard.press("Tab")
    assert swap.evaluate("button => button === document.activeElement")
    front.keyboard.press("Space")
    agrees(front, 8.0, True)
    assert (
        swap.get_attribute("aria-pressed") == "true"
        and "answer −1.00" in front.locator(".hero [role=status]").inner_text()
    )
    slider.focus()
    front.keyboard.press("Home")
    agrees(front, 0.0, True)


def test_tiles_are_the_ledger(front: Any) -> None:
    for column, title in COLUMNS.items():
        found = front.locator(".tile-column", has=front.get_by_role("heading", name=title)).locator(".tile")
        seen = found.evaluate_all("tiles => tiles.map(t => [t.dataset.claim, t.dataset.verdict])")
        expected = [[n, standing(c)[0]] for n, c in CLAIMS.items() if c.tile and c.tile.column == column]
        assert sorted(seen) == sorted(expected)


def test_three_doors(html: Path) -> None:
    doors = BeautifulSoup((html / "index.html").read_text(), "html.parser").select(".doors a")
    assert [door.strong.text for door in doors if door.strong] == [
        "Ten minutes",
        "Read the argument",
        "Check the numbers",
    ]
    assert str(doors[-1]["href"]) == "chapters/scoreboard.html"


@pytest.mark.parametrize("name", ["index.html", "chapters/scoreboard.html"])
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_axe_and_width(html: Path, visit: Visit, name: str, width: int, theme: str) -> None:
    page = shown(visit, html / name, width, theme)
    width, room = page.evaluate(WIDTHS)
    assert width <= room
    assert violations(page) == []


@pytest.mark.parametrize("name", ["genindex.html", "py-modindex.html", "chapters/softmax/L4_out_of_domain.html"])
def test_nothing_leaves_a_phone(html: Path, visit: Visit, name: str) -> None:
    page = shown(visit, html / name, 390)
    width, room = page.evaluate(WIDTHS)
    assert width <= room


def test_formulas_are_no_tab_stops(html: Path, visit: Visit) -> None:
    page = shown(visit, html / "chapters/softmax/L4_out_of_domain.html")
    assert page.locator("mjx-container").count() > 50 and page.locator("mjx-container[tabindex]").count() == 0
    assert page.locator("mjx-assistive-mml").count() > 50  # for screen readers


def test_without_javascript(html: Path, visit: Visit) -> None:
    """The prompt stands still, all tiles are there, and no formula is raw TeX."""
    context = visit.page.context.browser.new_context(java_script_enabled=False, offline=True)  # type: ignore[union-attr]
    page = context.new_page()
    page.goto((html / "index.html").as_uri())
    assert page.locator(".hero-card").count() == len(CARDS) and page.locator(".hero-still").is_visible()
    assert page.locator(".tile").count() == len(CLAIMS) and page.locator(".bd-article :is(button, input)").count() == 0
    page.goto((html / "chapters/softmax/L4_out_of_domain.html").as_uri())
    assert page.locator("noscript.mathml math").count() > 100
    assert "\\(" not in page.locator("article").inner_text()
    context.close()


def test_what_the_tests_need_is_not_shown(html: Path) -> None:
    assert [name for name in PAGES if "NBVAL_CHECK_OUTPUT" in (html / name).read_text()] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_is(html: Path, name: str) -> None:
    """Its description, picture, sign and address, all of them there with the network off."""
    page = BeautifulSoup((html / name).read_text(), "html.parser")
    described = page.select('meta[name="description"]')
    assert len(described) == 1 and 20 < len(str(described[0]["content"])) <= 200, name
    needed = [str(link["href"]) for link in page.select("link[rel=canonical], link[rel=icon]")]
    needed += [str(meta["content"]) for meta in page.select('meta[property="og:image"]')]
    assert len(needed) == 3
    files = [target(html / name, address)[0] for address in needed if not is_remote(address)]
    assert all(file.is_file() for file in files) and (html / name).resolve() in files
