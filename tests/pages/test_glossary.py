"""The first use of a glossary term on a page is a link to the glossary, and nothing else is."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag

CHAPTERS = ["chapters/softmax/L4_out_of_domain", "chapters/mean_field/K3_landscape", "chapters/introduction"]


def article(html: Path, name: str) -> Tag:
    found = BeautifulSoup((html / f"{name}.html").read_text(), "html.parser").select_one("article.bd-article")
    assert found is not None
    return found


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_term_is_linked_once_and_in_prose(html: Path, name: str) -> None:
    links = article(html, name).select("a.term-link")
    assert len(links) >= 3
    targets = [link["href"] for link in links]
    assert len(targets) == len(set(targets))
    assert all("notation.html#term-" in str(target) for target in targets)
    assert not any(link.find_parent(["h1", "h2", "h3", "pre", "code", "figcaption", "em", "strong"]) for link in links)


def test_it_is_the_first_use(html: Path) -> None:
    page = article(html, "chapters/softmax/L4_out_of_domain")
    link = next(a for a in page.select("a.term-link") if str(a["href"]).endswith("#term-hinge-loss"))
    before = [str(text) for text in link.find_all_previous(string=True) if text.find_parent("p") in page.select("p")]
    assert link.get_text() == "hinge loss" and not any("hinge loss" in text.lower() for text in before)


def test_terms_that_the_text_links_itself_are_not_linked_again(html: Path) -> None:
    page = article(html, "chapters/softmax/part")
    own = {str(a["href"]) for a in page.select("a[href*='#term-']:not(.term-link)")}
    assert "../notation.html#term-hinge-loss" in own
    assert not own & {str(a["href"]) for a in page.select("a.term-link")}
