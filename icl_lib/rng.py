"""Random streams: every draw comes from a generator that (seed, purpose, step) determines."""

import hashlib

import torch

# Streams for testing lie in the upper half of all streams and those for training in the lower half,
# so no seed, step or accident of hashing can make a model be tested on what it was trained on.
HELD_OUT = frozenset({"eval", "check"})


def stream_seed(seed: int, purpose: str, step: int = 0) -> int:
    """The seed of a stream: 31 bits of SHA-256 of (seed, purpose, step), and one bit for held-out purposes.

    32 bits in all, since torch's CPU generator reads no more.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1 | (purpose in HELD_OUT) << 31


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A fresh CPU generator for one purpose of one seed.

    Streams do not depend on the order in which they are asked for, so a member of an ensemble,
    a solo run and a resumed run draw the same numbers.

    >>> first, again = (torch.rand(3, generator=generator(0, "train", 7)) for _ in range(2))
    >>> other = torch.rand(3, generator=generator(0, "eval", 7))
    >>> torch.equal(first, again), torch.equal(first, other)
    (True, False)
    """
    return torch.Generator().manual_seed(stream_seed(seed, purpose, step))
