"""Where a coefficient sum of at least 1 is enough: new patterns of any sum and norm, and one law for their margin.

Our derivation. A new pattern mu' = sum_i c_i mu_i of coefficient sum S1 and norm r beta is read by attention and by the neurons.
Attention: with scores s between equal trained patterns and o between others, mu'_j and mu'_k score
(s - o) <c_j, c_k> + o S1^2, so that a context with the query's pattern leads by r^2 (s - o), for orthogonal new patterns: the
gap in domain times r^2, whatever S1. It says which ``mass`` lies on the n contexts with the query's pattern.
Neurons: large ones read S1 f, whatever r, and a label y as rho f y (chapter L4). Their margin is therefore proportional to
sign(y) (max(0, S1 + rho |y|) - max(0, S1 - rho |y|)), with y = mass - (1 - mass) n_partner / (l - n), as in Q1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.evaluation import evaluate_params, select
from icl_lib.softmax.mechanism import mass_of_gap
from icl_lib.softmax.ood import FRAMES, frames, pool_frames
from icl_lib.softmax.patterns import Patterns, orthonormal
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.tasks import all_tasks
from icl_lib.validate import require, require_number

PerSeed = Float[ndarray, " E"]


def with_relevant(patterns: Patterns, relevant: Float[Tensor, "E R d_x"]) -> Patterns:
    """The same irrelevant patterns and label with other relevant patterns, as many as before."""
    basis = patterns.basis.clone()
    basis[..., : patterns.n_relevant, : patterns.d_x] = relevant
    return patterns._replace(basis=basis)


def feasible(s1: float, r: float, n_odr: int = 2, n_idr: int = 6) -> bool:
    """Whether n_odr orthogonal mixtures of n_idr patterns of coefficient sum s1 and norm r beta exist.

    >>> feasible(1.0, 0.58), feasible(1.0, 0.58, n_odr=3)
    (True, False)
    """
    require_number("r", r, 1e-9)
    return n_odr * (s1 / r) ** 2 <= n_idr


def mixtures(patterns: Patterns, seeds: Sequence[int], s1: float, r: float, n_frames: int, n_odr: int = 2) -> Patterns:
    """New patterns of coefficient sum ``s1`` and norm ``r`` beta, otherwise as ``icl_lib.softmax.ood.frames``.

    Raises:
        ConfigError: where none exist, see ``feasible``.
    """
    new = frames(patterns, seeds, s1 / r, n_frames, n_odr)
    return with_relevant(new, r * new.relevant)


def equal_parts(patterns: Patterns, seeds: Sequence[int], n_parts: int, n_frames: int) -> Patterns:
    """Two new patterns, each the mean of ``n_parts`` trained ones, none of which is in both: S1 = 1, norm beta / sqrt(n_parts)."""
    new, n_idr = frames(patterns, seeds, 0.0, n_frames, 2), patterns.n_relevant
    require(1 <= n_parts <= n_idr // 2, "n_parts", n_parts, f"between 1 and n_idr / 2 = {n_idr // 2}")
    means = []
    for i, seed in enumerate(seeds):
        for frame in range(n_frames):
            order = torch.randperm(n_idr, generator=generator(FRAMES * seed + frame, "ood parts"))
            rows = order[: 2 * n_parts].view(2, n_parts)
            means.append(patterns.relevant[i][rows].mean(1))
    return with_relevant(new, torch.stack(means))


def irrelevant_among_relevant(
    patterns: Patterns, seeds: Sequence[int], s1: float, n_frames: int, n_odr: int = 3
) -> Patterns:
    """``frames`` with nu' in the span of the mu, orthogonal to the mu' and as long as the nu; there are M1 - n_odr of them."""
    new = frames(patterns, seeds, s1, n_frames, n_odr)
    n_free, made = patterns.n_relevant - n_odr, []
    for row, basis in enumerate(new.basis):
        member, frame = divmod(row, n_frames)
        trained = patterns.relevant[member].double()
        inside = trained / trained.norm(dim=1, keepdim=True)
        used = new.relevant[row].double() @ inside.T
        free = torch.linalg.qr(used.T, mode="complete").Q.T[n_odr:] @ inside  # (n_free, d_x), orthonormal
        turned = orthonormal(n_free, n_free, generator(FRAMES * seeds[member] + frame, "ood among"), torch.float64)
        nu = torch.zeros(n_free, basis.shape[1])
        nu[:, : patterns.d_x] = (patterns.irrelevant[member].norm(dim=1).mean() * turned @ free).float()
        made.append(torch.cat([basis[:n_odr], nu, basis[-1:]]))
    return new._replace(basis=torch.stack(made))


def evaluate_on(ensemble: Any, new: Patterns, prompts: PromptConfig, n_prompts: int, **limits: Any) -> pd.DataFrame:
    """``icl_lib.softmax.ood.evaluate_ood`` on given patterns, the frames of a member together: one row per seed."""
    n_frames = len(new.basis) // len(ensemble.seeds)
    of_row = [i for i in range(len(ensemble.seeds)) for _ in range(n_frames)]
    streams = [FRAMES * seed + f for seed in ensemble.seeds for f in range(n_frames)]
    tasks = [all_tasks(new.n_relevant)] * len(of_row)
    params = select(ensemble.params, of_row)
    table = evaluate_params(params, new, streams, tasks, [prompts] * len(of_row), n_prompts, **limits)
    return pool_frames(table.assign(seed=[ensemble.seeds[i] for i in of_row]))


def mass_law(gap: PerSeed, r: float, n_same: int, n_context: int) -> PerSeed:
    """Attention on the contexts with the query's pattern at norm r beta, from the score gap in domain; kappa is left out."""
    return np.asarray(mass_of_gap(torch.as_tensor(np.asarray(gap) * r**2), n_same, n_context))


def _answer(rho: PerSeed, s1: float, y: PerSeed | float) -> PerSeed:
    reads = rho * np.abs(y)
    return np.asarray(np.sign(y) * (np.maximum(0, s1 + reads) - np.maximum(0, s1 - reads)))


def margin_law(
    f_in: PerSeed,
    rho: PerSeed,
    s1: float,
    mass: PerSeed | float = 1.0,
    mass_in: PerSeed | float = 1.0,
    counts: tuple[int, int, int] = (10, 10, 20),
) -> PerSeed:
    """Mean margin at any coefficient sum; nothing is fitted. As ``studies.Q1.margin_law`` with clean labels, and for S1 < 0 too.

    Args:
        f_in: margin in domain (S1 = 1), on prompts with the same ``counts``.
        mass, mass_in: attention on the contexts with the query's pattern, now and in domain.
        counts: contexts with the query's pattern, with its partner's, and all.

    >>> margin_law(np.array([1.2]), np.array([3.0]), 2.0).tolist()  # f_in (S1 + rho) / (1 + rho)
    [1.5]
    """
    n_same, n_partner, n_context = counts
    require(0 < n_same and n_same + n_partner <= n_context, "counts", counts, "at least 1 and any others, in all")
    against = n_partner / max(1, n_context - n_same)
    y, y_in = (np.asarray(m) - (1 - np.asarray(m)) * against for m in (mass, mass_in))
    return np.asarray(f_in * _answer(rho, s1, y) / _answer(rho, 1.0, y_in))
