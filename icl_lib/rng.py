"""Random streams: every draw comes from a generator that (seed, purpose, step) determines."""

import hashlib

import torch

from icl_lib.validate import require_integer

# Streams for testing lie in the upper half of all streams and those for training in the lower half,
# so no seed, step or accident of hashing can make a model be tested on what it was trained on.
HELD_OUT = frozenset({"eval", "check"})
# Of 31 bits, about nine pairs among 100 seeds x 2000 steps are equal. Wide streams have no such pairs, and other numbers: to be
# switched on when all trained tables are recorded anew.
WIDE = False
WORDS, AT = 624, 24  # of the Mersenne Twister, and where they begin in the state of torch's CPU generator


def stream_seed(seed: int, purpose: str, step: int = 0) -> int:
    """The seed of a stream: 31 bits of SHA-256 of (seed, purpose, step), and one bit for held-out purposes.

    32 bits in all, since torch's CPU generator reads no more.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1 | (purpose in HELD_OUT) << 31


def wide_state(seed: int, purpose: str, step: int = 0) -> torch.Tensor:
    """State of a CPU generator whose 624 words are SHAKE-256 of (seed, purpose, step): with 19 937 bits no two streams are equal."""
    digest = hashlib.shake_256(f"{seed}/{purpose}/{step}".encode()).digest(4 * WORDS)
    state = torch.Generator().manual_seed(0).get_state()  # at its beginning: no normal number is left from before
    words = torch.frombuffer(bytearray(digest), dtype=torch.int32).to(torch.int64) & 0xFFFFFFFF
    state[AT : AT + 8 * WORDS] = words.view(torch.uint8)
    return state


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A fresh CPU generator for one purpose of one seed.

    It does not matter in which order streams are asked for: a member of an ensemble, a solo run and a resumed run draw the same.

    >>> first, again = (torch.rand(3, generator=generator(0, "train", 7)) for _ in range(2))
    >>> other = torch.rand(3, generator=generator(0, "eval", 7))
    >>> torch.equal(first, again), torch.equal(first, other)
    (True, False)
    """
    require_integer("seed", seed)
    if WIDE:
        return torch.Generator().set_state(wide_state(seed, purpose, step))
    return torch.Generator().manual_seed(stream_seed(seed, purpose, step))
