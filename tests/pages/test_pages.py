"""The rendered pages, read with the network off: as text, and in a browser."""

import re
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup

from tests.pages.axe import violations
from tests.pages.conftest import Visit

TOC = yaml.safe_load(Path("_toc.yml").read_text())
PAGES = ["index.html"]
TOP = [entry for part in TOC["parts"] for entry in part["chapters"]]
for entry in [below for top in TOP for below in (top, *top.get("sections", []))]:
    found = sorted(Path().glob(entry["glob"])) if "glob" in entry else [Path(entry["file"])]
    PAGES += [str(file.with_suffix(".html")) for file in found if not file.is_dir()]
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "link": "href",
    "object": "data",
}
VISIBLE_TEXT = """() => {
    const body = document.body.cloneNode(true);
    body.querySelectorAll('code, pre, script, style, mjx-container, .highlight, noscript').forEach(e => e.remove());
    return body.textContent;
}"""
BROKEN_PICTURES = """async () => {
    const all = [...document.images];
    all.forEach(i => i.loading = 'eager');
    await Promise.all(all.map(i => i.decode().catch(() => null)));
    return all.filter(i => i.naturalWidth === 0).map(i => i.src);
}"""
TOO_WIDE = """() => [...document.querySelectorAll('article *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5)
    .map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40))"""

# Code wraps; what cells print scrolls in its own box.
CUT_CODE = """() => [...document.querySelectorAll('article pre')]
    .filter(e => e.querySelector('.code-line') && e.clientWidth && e.closest('.cell_input'))
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 80))"""

# A formula within a line has no room for a scroll bar.
BARS_IN_LINES = """() => [...document.querySelectorAll('mjx-container:not([display="true"])')]
    .filter(e => getComputedStyle(e).overflowX !== 'visible' || getComputedStyle(e).overflowY !== 'visible').length"""


def is_remote(address: str) -> bool:
    return address.startswith(("http:", "https:", "//"))


def test_every_page_is_there(html: Path) -> None:
    built = {str(p.relative_to(html)) for p in html.rglob("*.html")} - {
        "genindex.html",
        "search.html",
        "py-modindex.html",
    }
    assert {p for p in built if not p.startswith("_")} == set(PAGES)


def test_pages_load_nothing_remote(html: Path) -> None:
    for page in html.rglob("*.html"):
        soup = BeautifulSoup(page.read_text(), "html.parser")
        for tag, attribute in LOADS.items():
            for element in soup.find_all(tag):
                assert not is_remote(element.get(attribute) or ""), f"{page}: {element}"
        for element in soup.find_all("script", src=False):
            assert not re.search(r"""['"](https?:)?//\w""", element.text), f"{page}: {element.text[:200]}"
        for element in soup.find_all("style"):
            assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", element.text), page
    for sheet in html.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def test_pages_say_where_they_come_from(html: Path) -> None:
    for page in PAGES:
        assert "Rendered from the committed outputs at commit" in (html / page).read_text()


@pytest.mark.parametrize("name", PAGES)
def test_page_in_browser(html: Path, visit: Visit, name: str) -> None:
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    visit.open((html / name).as_uri())
    assert visit.page.locator("mjx-merror").count() == 0, visit.page.locator("mjx-merror").first.inner_text()
    formulas = visit.page.locator(".math").count()
    assert visit.page.locator("mjx-container").count() >= formulas
    text = visit.page.evaluate(VISIBLE_TEXT)
    raw = re.search(r".{0,40}(\$\$|\\\(|\\\[|\\[a-zA-Z]{2,}|\$[^$\n]{1,60}[_^\\][^$\n]{1,60}\$).{0,40}", text)
    assert raw is None, f"raw TeX: {raw.group()!r}"
    assert visit.page.evaluate(BARS_IN_LINES) == 0
    assert visit.page.evaluate(BROKEN_PICTURES) == []
    assert visit.page.locator("article img:not([alt])").count() == 0
    assert visit.page.evaluate(CUT_CODE) == []
    visit.page.set_viewport_size({"width": 390, "height": 800})
    width, room = visit.page.evaluate("(e => [e.scrollWidth, e.clientWidth])(document.documentElement)")
    assert width <= room, f"{width} px wide on a phone: {visit.page.evaluate(TOO_WIDE)}"
    assert visit.page.evaluate(CUT_CODE) == []
    assert visit.remote == []
    assert visit.errors == []
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    assert violations(visit.page) == []
