"""The first screen of a chapter says what the ledger says, and shows the figure before a reader has to scroll."""

import json
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from book.claims import load_claims
from book.scoreboard import label
from icl_lib.paths import read_yaml, root
from icl_lib.validate import ConfigError
from tests.pages.conftest import Visit


def plain(text: str) -> str:
    """A text whatever its spaces and quotation marks."""
    return re.sub(r"\s+", " ", re.sub('[‘’“”"]', "'", text)).strip()


RECORDED = [claim for claim in load_claims().values() if Path(f"figures/{claim.id}/result.json").is_file()]


@pytest.mark.parametrize("claim", RECORDED, ids=lambda claim: claim.id)
def test_the_ledger_has_what_the_first_screen_needs(claim):
    assert claim.first and Path(f"figures/{claim.id}/{claim.first.figure}.csv").is_file()
    assert len(re.findall(r"[.?!](?= [A-Z]|$)", claim.first.did.strip())) <= 2
    assert max(len((claim.first.claim or claim.statement).split()), len(claim.first.did.split())) <= 70


@pytest.mark.parametrize("claim", RECORDED, ids=lambda claim: claim.id)
def test_a_chapter_begins_with_claim_deed_figure_verdict_and_what_would_refute(html, claim):
    page = BeautifulSoup((html / f"{claim.chapter}.html").read_text(), "html.parser")
    (screen,) = page.select(".first-screen")
    said = plain(screen.get_text())
    verdict = json.loads(Path(f"figures/{claim.id}/result.json").read_text())["verdict"]
    assert label(verdict, claim.paper) in screen.select_one(".chip").get_text()
    texts = (claim.first.claim or claim.statement, claim.first.did, claim.first.refuted, claim.finding.says)
    assert [text for text in texts if plain(text) not in said] == []
    (image,) = screen.select(".key-figure img")
    own = page.select_one(screen.select_one(".key-figure a")["href"]).find("img")
    assert (image["src"], image["alt"]) == (own["src"], own["alt"])


@pytest.mark.parametrize("claim", RECORDED, ids=lambda claim: claim.id)
def test_a_visitor_sees_the_figure_before_scrolling(html: Path, visit: Visit, claim) -> None:
    visit.page.set_viewport_size({"width": 1400, "height": 900})
    visit.open((html / f"{claim.chapter}.html").as_uri())
    box = visit.page.locator(".key-figure img").bounding_box()
    assert box and box["y"] + box["height"] / 2 < 900 and box["width"] > 200


@pytest.mark.parametrize("first", ["a text", {"did": "x", "figure": "y"}, {"did": "x", "figure": "y", "refuted": ""}])
def test_a_first_screen_that_says_too_little_is_refused(tmp_path: Path, first: object) -> None:
    ledger = {"L1": {**read_yaml(root() / "claims.yml")["L1"], "first": first}}
    (tmp_path / "claims.yml").write_text(json.dumps(ledger), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^L1\.first="):
        load_claims(tmp_path)
