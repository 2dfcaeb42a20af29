"""The prompt on the front page: the library's model with weights set by hand is a vote of the labels."""

import math

import pytest
from bs4 import BeautifulSoup

from book.hero import CARDS, LABELS, QUERY, START, attend, hero, labels


@pytest.mark.parametrize("g", [0.0, 0.7, 2.0, 8.0])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_model_is_the_vote_written_out(g: float, swapped: bool) -> None:
    powers = [math.exp(g * (card == QUERY)) for card in CARDS]
    found = attend(g, swapped)
    assert found.weights == pytest.approx([power / sum(powers) for power in powers], abs=1e-8)
    vote = sum(power * y for power, y in zip(powers, labels(swapped), strict=True)) / sum(powers)
    assert found.answer == pytest.approx(vote, abs=1e-8)


def test_swapping_turns_the_answer_and_no_weight() -> None:
    before, after = attend(START), attend(START, swapped=True)
    assert before.weights == after.weights and before.answer == -after.answer > 0.5
    changed = [card for card, y, z in zip(CARDS, LABELS, labels(True), strict=True) if y != z]
    assert set(changed) == {"A", "B"}


def test_the_still_picture_shows_the_start() -> None:
    page = BeautifulSoup(hero(), "html.parser")
    shown = [weight.text for weight in page.select(".hero-weight")]
    assert shown == [f"{100 * w:.0f}\N{NO-BREAK SPACE}%" for w in attend(START).weights]
    assert page.select_one(".hero-number").text == f"+{attend(START).answer:.2f}"  # type: ignore[union-attr]
    assert not page.select("button, input")  # nothing that does nothing
