"""Links and anchors inside the book resolve, search leads to a page, and no page is heavy."""

from functools import cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup

from book.claims import load_claims
from tests.pages.conftest import Visit
from tests.pages.test_pages import LOADS, PAGES, is_remote

HEAVIEST = 1_500_000  # bytes of a page beyond the files that all pages share


@cache
def soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(), "html.parser")


@cache
def anchors(page: Path) -> set[str]:
    return {element[name] for name in ("id", "name") for element in soup(page).find_all(attrs={name: True})} | {""}


def target(page: Path, address: str) -> tuple[Path, str]:
    path, anchor = urldefrag(address)
    file = unquote(urlsplit(path).path)
    return (page.parent / file).resolve() if file else page, unquote(anchor)


def test_links_and_anchors_resolve(html: Path) -> None:
    broken = []
    for page in (html / name for name in [*PAGES, "genindex.html", "search.html"]):
        for address in {link["href"] for link in soup(page).find_all("a", href=True)}:
            if is_remote(address) or urlsplit(address).scheme:
                continue
            file, anchor = target(page, address)
            if not file.is_file() or (file.suffix == ".html" and anchor not in anchors(file)):
                broken.append((page.name, address))
    assert broken == []


def test_names_in_code_lead_to_the_library(html: Path) -> None:
    """Where they are imported, and as methods of what an earlier cell has made."""
    for notebook in sorted(Path("chapters").glob("*/[KL]*_*.ipynb")):
        page = soup(html / notebook.with_suffix(".html"))
        found = {
            (link.text, link["title"], urldefrag(link["href"])[1])
            for link in page.select("pre a.sphinx-codeautolink-a[title]")
        }
        assert ("Chapter", "book.chapter.Chapter", "book.chapter.Chapter") in found, notebook
        assert ("chapter.record", "book.chapter.Chapter.record", "book.chapter.Chapter.record") in found, notebook
        assert all(anchor in (title, f"module-{title}") for _, title, anchor in found)


def test_search_leads_to_a_page(html: Path, visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    visit.open((html / "search.html").as_uri() + "?q=hinge")
    visit.page.wait_for_selector("#search-results li a", timeout=20_000)
    found = visit.page.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert found and visit.remote == []
    visit.page.wait_for_load_state(
        "networkidle"
    )  # it reads the pages that it found; left alone, the next test sees that fail
    for address in found:
        file, anchor = target(html / "search.html", address)
        assert file.is_file() and anchor in anchors(file), address


def loaded(page: Path) -> set[Path]:
    """A page and the files that it loads, without MathJax, which all pages share, and the pages before and after it."""
    addresses = (e.get(attribute) for tag, attribute in LOADS.items() for e in soup(page).find_all(tag))
    files = {target(page, a)[0] for a in addresses if a and not urlsplit(a).scheme}
    return {page} | {f for f in files if f.is_file() and f.suffix != ".html" and "_mathjax" not in f.parts}


def test_no_page_is_heavy(html: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs = {name: loaded(html / name) for name in PAGES}
    shared = set.intersection(*needs.values())
    weight = {name: sum(file.stat().st_size for file in files - shared) for name, files in needs.items()}
    total = sum(file.stat().st_size for file in html.rglob("*") if file.is_file())
    heaviest = max(weight, key=lambda name: weight[name])
    with capsys.disabled():  # a report, also when it passes
        print(f"\nthe book: {total / 1e6:.1f} MB; the heaviest page: {heaviest}, {weight[heaviest] / 1e6:.2f} MB")
    assert weight[heaviest] <= HEAVIEST


def test_chapters_name_each_other_in_short(html: Path) -> None:
    """In a sentence a chapter is L5, with its title to hover over; the openers of the parts keep the titles."""
    claims = load_claims().values()
    names = {(html / f"{claim.chapter}.html").resolve(): claim for claim in claims}
    short = 0
    for page in (file for file in names if file.is_file()):
        for link in soup(page).select("article p a.reference.internal[href$='.html']"):
            claim = names.get(target(page, link["href"])[0])
            if claim:
                assert claim.title not in link.get_text()
                short += link.get_text() == claim.id and link.get("title") == claim.title
    assert short > 20
    opener = soup(html / "chapters/softmax/part.html").select_one("article dd a.reference.internal")
    assert opener and any(opener.get_text() == f"{claim.id} · {claim.title}" for claim in claims)
