"""The prompt on the front page as it stands before anything is moved; ``_static/hero.js`` lets readers move it.

Its attention is that of the library's one-layer model with weights set by hand: W_Q = W_K = sqrt(g) I, so that an example with the
query's letter scores g and any other 0, and two neurons, +q and -q, whose difference is the vote of the labels.
"""

from typing import NamedTuple

import torch

from icl_lib.softmax.model import Params, forward
from icl_lib.softmax.patterns import build_patterns, stack_patterns
from icl_lib.softmax.prompts import Prompts

CARDS, QUERY, TASK = "ACBAD", "A", "AB"  # of the task, A means + and B means -; C and D carry a random label
LABELS = (1, 1, -1, 1, -1)
START = 2.0  # g as the page opens


class Attended(NamedTuple):
    """Weights of the cards, and the answer, between -1 and 1."""

    weights: list[float]
    answer: float


def labels(swapped: bool) -> list[int]:
    """Labels of the cards; ``swapped``: A means - and B means +.

    >>> labels(True)
    [-1, 1, 1, -1, -1]
    """
    return [-y if swapped and card in TASK else y for card, y in zip(CARDS, LABELS, strict=True)]


def attend(g: float, swapped: bool = False) -> Attended:
    """What the model does with the prompt.

    >>> attend(0.0)
    Attended(weights=[0.2, 0.2, 0.2, 0.2, 0.2], answer=0.2)
    >>> round(attend(8.0).answer, 2), round(attend(8.0, swapped=True).answer, 2)
    (1.0, -1.0)
    """
    letters = sorted(set(CARDS))
    n = len(letters)
    x = torch.eye(n + 1, dtype=torch.float64)  # a pattern each, and one that is irrelevant, of size 0 in every input
    patterns = stack_patterns([build_patterns(x[:n], x[n:], x.new_ones(1))])
    on_inputs = torch.eye(n + 2, dtype=torch.float64) * g**0.5
    on_inputs[-1, -1] = 0  # labels are no part of the score
    w_qkv = torch.cat([on_inputs, on_inputs, torch.eye(n + 2, dtype=torch.float64)])[None]
    w_o = x.new_zeros(1, 2, n + 2)
    w_o[0, :, -1] = torch.tensor([1.0, -1.0])
    codes = [letters.index(card) for card in CARDS]
    prompt = Prompts(
        parts=torch.tensor([[[codes, [n] * len(codes)]]]),
        kappa=x.new_zeros(1, 1, len(codes)),
        label=torch.tensor([[labels(swapped)]], dtype=torch.float64),
        query_parts=torch.tensor([[[letters.index(QUERY), n]]]),
        query_kappa=x.new_zeros(1, 1),
        target=x.new_ones(1, 1),
    )
    done = forward(Params(w_qkv, w_o, torch.tensor([[1.0, -1.0]], dtype=torch.float64)), patterns, prompt)
    return Attended([round(w, 9) for w in done.attention[0, 0].tolist()], round(done.output.item(), 9))


def hero() -> str:
    """The prompt as HTML: cards with their weights, the query, the answer. Controls are the script's."""
    found = attend(START)
    cards = "".join(
        f'<li class="hero-card" data-letter="{card}" data-label="{y}">{_face(card, y)}'
        f'<span class="hero-weight">{w * 100:.0f}\N{NO-BREAK SPACE}%</span><span class="hero-bar"><span style="--w: {w:.6f}"></span></span></li>'
        for card, y, w in zip(CARDS, LABELS, found.weights, strict=True)
    )
    said = f'<span class="hero-number">{_number(found.answer)}</span>'
    return (
        f'<div class="hero" data-query="{QUERY}" data-task="{TASK}" data-g="{START:g}">'
        f'<div class="hero-prompt"><ol class="hero-cards" aria-label="Five examples, each with its share of attention">{cards}</ol>'
        '<span class="hero-arrow" aria-hidden="true">→</span>'
        f'<div class="hero-query"><span class="hero-face"><b>{QUERY}</b><span class="hero-sign">{_sign(found.answer)}</span></span>'
        '<span class="hero-ask">the query, and its answer</span></div></div>'
        f'<div class="hero-scale"><span>−1</span><span class="hero-axis"><i style="left: {(1 + found.answer) / 2:.2%}"></i></span>'
        f"<span>+1</span></div>"
        f'<p class="hero-said">The examples vote with their signs, each with its share of attention: {said}</p>'
        f'<p class="hero-note">Here {TASK[0]} means + and {TASK[1]} means −; the other letters tell nothing. '
        "Swap them and the answer flips: the prompt has changed, the model has not.</p>"
        '<noscript><p class="hero-still">With JavaScript a slider moves the attention. Here it stands at '
        f"g = {START:g}: an example with the query's letter scores g, any other 0.</p></noscript></div>"
    )


def _face(card: str, label: int) -> str:
    return f'<span class="hero-face"><b>{card}</b><span class="hero-sign">{_sign(label)}</span></span>'


def _sign(value: float) -> str:
    return "+" if value > 0 else "−"


def _number(value: float) -> str:
    return f"{_sign(value)}{abs(value):.2f}"
