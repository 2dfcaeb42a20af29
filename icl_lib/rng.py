"""Random streams: every draw comes from a generator that (seed, purpose, step) determines."""

import hashlib

import torch


def stream_seed(seed: int, purpose: str, step: int = 0) -> int:
    """The seed of a stream: 32 bits (torch's CPU generator reads no more) of SHA-256 of (seed, purpose, step)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return (int.from_bytes(digest[:8], "little") >> 1) % 2**32


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A fresh CPU generator for one purpose of one seed.

    Streams do not depend on the order in which they are asked for, so a member of an ensemble,
    a solo run and a resumed run draw the same numbers.
    """
    return torch.Generator().manual_seed(stream_seed(seed, purpose, step))
