"""The twin of a run: every initial weight and particle moved by 1e-7 of its size, to see which numbers rounding decides.

A float32 number is rounded by up to 6e-8 of its size, so two processors, or two orders of one sum, start at least that far
apart. What a twin moves as much as another seed would is chance, however many digits of it are printed. ``make twins`` runs
every chapter's twin and compares it, clause by clause, with the chapter.
"""

import os

import torch
from torch import Tensor

from icl_lib.rng import generator

VARIABLE = "ICL_TWIN"  # set to anything, all that starts in this process is a twin
SIZE = 1e-7


def is_twin() -> bool:
    """Whether this process runs a twin."""
    return bool(os.environ.get(VARIABLE))


def twinned(start: Tensor, seed: int) -> Tensor:
    """Initial values as they are; in a twin each is multiplied by 1 + 1e-7 z, z standard normal from (seed, "twin").

    >>> twinned(torch.ones(2), seed=0)
    tensor([1., 1.])
    """
    if not is_twin():
        return start
    z = torch.randn(start.shape, generator=generator(seed, "twin"), dtype=torch.float64)
    return (start * (1 + SIZE * z)).to(start.dtype)
