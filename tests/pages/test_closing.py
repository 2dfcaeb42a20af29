"""The closing page: every sentence of its lists stands on a chapter."""

import re
from pathlib import Path

import pytest

PAGE = Path("chapters/open/closing.md")
SENTENCES = [
    sentence
    for line in PAGE.read_text().splitlines()
    if line.startswith("- ")
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", line[2:])
]


@pytest.mark.parametrize("sentence", SENTENCES, ids=range(len(SENTENCES)))
def test_every_sentence_links_to_its_evidence(sentence: str) -> None:
    pages = re.findall(r"\]\(([^)]+)\)", sentence)
    assert pages, sentence
    for page in pages:
        assert (PAGE.parent / page).is_file(), page


def test_no_number_stands_in_its_prose() -> None:
    """Numbers come from executed cells, and this page has none."""
    text = re.sub(r"\[[^\]]*\]\([^)]*\)", "", "\n".join(SENTENCES))
    assert not re.findall(r"(?<![\w-])\d+(?:\.\d+)?(?!-1)", text.replace("0-1 error", "error"))
