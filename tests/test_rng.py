"""Random streams: one for every (seed, purpose, step), whatever the order in which they are asked for."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl_lib import rng
from icl_lib.rng import generator, stream_seed, wide_state


def draw(*stream: object, n: int = 4) -> list[float]:
    return torch.rand(n, generator=generator(*stream)).tolist()  # type: ignore[arg-type]


def test_known_seeds() -> None:
    """Recorded: a change here moves every recorded number of the book."""
    assert [stream_seed(0, "train"), stream_seed(1, "eval", 7)] == [1136622892, 3976739141]


def test_order_does_not_matter() -> None:
    first = [draw(3, "train", step) for step in range(5)]
    assert [draw(3, "train", step) for step in reversed(range(5))] == first[::-1]


def test_a_stream_continues_itself_only() -> None:
    gen = generator(3, "train")
    assert torch.rand(2, generator=gen).tolist() + torch.rand(2, generator=gen).tolist() == draw(3, "train")
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    draw(3, "train")
    assert torch.equal(before, torch.random.get_rng_state())  # the global generator is left alone


def test_streams_differ() -> None:
    purposes = ("train", "eval", "init", "patterns", "dataset")
    streams = list(itertools.product(range(10), purposes, range(40)))
    assert len({tuple(draw(*stream)) for stream in streams}) == len(streams)


@given(
    st.integers(0, 2**40), st.integers(0, 10**9), st.sampled_from(["train", "dataset", "minibatch", "init", "patterns"])
)
@settings(max_examples=100)
def test_training_and_evaluation_are_disjoint_by_construction(seed: int, step: int, purpose: str) -> None:
    assert stream_seed(seed, purpose, step) < 2**31 <= min(stream_seed(seed, held, step) for held in ("eval", "check"))


@given(st.integers(0, 2**40), st.text(max_size=10), st.integers(0, 10**9))
@settings(max_examples=30)
def test_seed_is_what_torch_reads(seed: int, purpose: str, step: int) -> None:
    """torch drops all but 32 bits of a seed: two seeds that differ above them would hide one and the same stream."""
    assert 0 <= stream_seed(seed, purpose, step) < 2**32


def test_torch_reads_32_bits() -> None:
    low, high = (torch.Generator().manual_seed(5 + (k << 32)) for k in (0, 1234))
    assert torch.equal(torch.rand(5, generator=low), torch.rand(5, generator=high))


def test_neighbouring_streams_are_uncorrelated() -> None:
    n = 20_000
    for other in ((0, "train", 1), (1, "train", 0), (0, "eval", 0)):
        pair = torch.tensor([draw(0, "train", 0, n=n), draw(*other, n=n)])
        assert abs(torch.corrcoef(pair)[0, 1]) < 4.5 / n**0.5
    assert torch.tensor(draw(0, "train", n=n)).mean() == pytest.approx(0.5, abs=4.5 / (12 * n) ** 0.5)


def test_wide_streams_are_those_of_a_mersenne_twister_with_all_its_words() -> None:
    twister = np.random.MT19937(0)
    key = np.frombuffer(hashlib.shake_256(b"3/train/5").digest(4 * 624), dtype="<u4")
    twister.state = {**twister.state, "state": {"key": key.astype(np.uint32), "pos": 624}}
    drawn = torch.empty(1000, dtype=torch.int64)
    drawn.random_(0, 2**31, generator=torch.Generator().set_state(wide_state(3, "train", 5)))
    assert (
        drawn.tolist() == (twister.random_raw(2000)[1::2] % 2**31).tolist()
    )  # 64 bits a number, of which the low ones


def test_wide_streams_are_switched_on_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = draw(3, "train", 5)
    monkeypatch.setattr(rng, "WIDE", True)
    streams = [("train", 5), ("train", 6), ("eval", 5)]
    assert len({tuple(draw(3, *stream)) for stream in streams} | {tuple(narrow)}) == 4
    assert draw(3, "train", 5) == draw(3, "train", 5)
    assert abs(torch.randn(10_000, generator=generator(0, "init")).mean()) < 0.05
