"""Accessibility on a phone, in the dark and by keyboard; test_pages.py asks axe-core about every page in its usual look."""

from pathlib import Path
from typing import Any

import nbformat
import pytest

from book.render import html_page
from tests.pages.axe import violations
from tests.pages.conftest import Visit

THREE = ["chapters/scoreboard.html", "chapters/softmax/L1_in_domain.html", "chapters/play_transformer.html"]
KEYBOARD = ["index.html", *THREE]
SAMPLE = [*THREE[1:], "chapters/compare.html", "chapters/all_results.html", "chapters/api/softmax_data.html"]
LOOKS = [(1280, "dark"), (390, "light"), (390, "dark")]
CALM = "*, ::before, ::after { transition: none !important; animation: none !important; }"

# Of a group of radio buttons, Tab reaches one; the arrow keys reach the others.
NOT_REACHED = """() => [...document.querySelectorAll('a[href], button, input:not([type=radio]), select, summary')]
    .filter(e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && !e.disabled)
    .filter(e => e.getClientRects().length && !window.reached.has(e)).map(e => e.outerHTML.slice(0, 200))"""
WATCH = """() => {
    window.reached = new Set();
    window.unseen = [];
    document.addEventListener('focusin', event => {
        const style = getComputedStyle(event.target);
        const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
        if (!outlined && style.boxShadow === 'none') window.unseen.push(event.target.outerHTML.slice(0, 200));
        window.reached.add(event.target);
    });
}"""


def shown(visit: Visit, page: Path, width: int = 1280, theme: str = "light") -> Any:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(page.as_uri())
    visit.page.add_style_tag(content=CALM)
    visit.page.evaluate("theme => Object.assign(document.documentElement.dataset, {mode: theme, theme})", theme)
    return visit.page


@pytest.mark.parametrize("name", ["search.html", "genindex.html"])
def test_axe_on_pages_that_sphinx_adds(html: Path, visit: Visit, name: str) -> None:
    assert violations(shown(visit, html / name)) == []


@pytest.mark.parametrize(("width", "theme"), LOOKS)
@pytest.mark.parametrize("name", SAMPLE)
def test_axe_on_a_phone_and_in_the_dark(html: Path, visit: Visit, name: str, width: int, theme: str) -> None:
    assert violations(shown(visit, html / name, width, theme)) == []


@pytest.mark.parametrize("width", [1280, 400])
def test_axe_on_the_page_of_a_run(visit: Visit, tmp_path: Path, width: int) -> None:
    page = tmp_path / "run.html"
    page.write_text(html_page(nbformat.read("chapters/softmax/L4_out_of_domain.ipynb", as_version=4)))
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(page.as_uri())
    assert violations(visit.page) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_axe_would_find_something(html: Path, visit: Visit) -> None:
    page = shown(visit, html / "chapters/references.html")
    page.evaluate("document.querySelector('article h1').outerHTML += '<p style=\"color: #ccc\">pale</p><img src=\"\">'")
    assert {"color-contrast", "image-alt"} <= {found[0] for found in violations(page)}


def test_figures_scroll_on_a_phone_by_keyboard_and_only_there(html: Path, visit: Visit) -> None:
    page = shown(visit, html / "chapters/softmax/L4_out_of_domain.html", 400)
    boxes = page.locator(".figure-box")
    assert boxes.count() == 5
    for box in boxes.all():
        assert box.get_attribute("role") == "region" and "Fig." in (box.get_attribute("aria-label") or "")
        assert box.locator("img").bounding_box()["width"] > 500
        box.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function("() => !document.querySelector('.figure-box[tabindex]')")


@pytest.mark.parametrize("name", KEYBOARD)
def test_tab_reaches_everything_and_shows_where_it_is(html: Path, visit: Visit, name: str) -> None:
    page = shown(visit, html / name)
    page.evaluate(WATCH)
    for _ in range(600):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
    assert page.evaluate(NOT_REACHED) == []
    assert page.evaluate("window.unseen") == []
