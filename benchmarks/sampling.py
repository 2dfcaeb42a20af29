"""Prompt sampling: codes for a whole ensemble against dense tokens, one seed at a time, by our sampler and by plain torch."""

from functools import cache

import torch

from benchmarks.case import Case, Size, beside, distance, sizes
from benchmarks.learners import Dense, dense
from benchmarks.training import BATCH, MEMBERS, configs_of, draw, member
from icl_lib.rng import generator
from icl_lib.softmax.patterns import draw_patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.softmax.training import CHUNK, TrainConfig

AXES = [*sizes("models", MEMBERS), *sizes("prompts", CHUNK * BATCH)]
UNIT = "s per draw for all models"
TOLERANCE = 0.02  # of frequencies, over 100 000 contexts: four standard errors are below 0.01


def plain(config: TrainConfig, n: int) -> Dense:
    """The same law, as one writes it with torch's own distributions; dense tokens."""
    patterns, rule, gen = draw_patterns(config.patterns, config.seed), config.prompts, generator(0, "plain sampler")
    (n_idr, n_idi), l = patterns.counts, rule.n_context
    pair = torch.tensor(config.tasks)[torch.randint(len(config.tasks), (n,), generator=gen)]  # (n, 2)
    weights = torch.full((n, n_idr), (1 - rule.alpha) / (n_idr - 2)).scatter_(1, pair, rule.alpha / 2)
    relevant = torch.multinomial(weights, l, replacement=True, generator=gen)
    coin = torch.randint(2, (n, l), generator=gen) * 2.0 - 1
    label = torch.where(relevant == pair[:, :1], 1.0, torch.where(relevant == pair[:, 1:], -1.0, coin))
    side = torch.randint(2, (n,), generator=gen)
    basis, wide = patterns.basis, (n, l + 1)
    other = n_idr + torch.randint(n_idi, wide, generator=gen)
    kappa = (2 * torch.rand(wide, generator=gen) - 1) * rule.kappa_max
    relevant = torch.cat([relevant, pair.gather(1, side[:, None])], 1)
    tokens = basis[relevant] + kappa[..., None] * basis[other]
    tokens[:, :-1, patterns.d_x :] = label[..., None] * patterns.label
    return Dense(tokens[:, :-1].contiguous(), tokens[:, -1], 1.0 - 2 * side)


def frequencies(prompts: Dense, config: TrainConfig) -> torch.Tensor:
    """Mean over prompts of what the law fixes: labels, patterns by label, same-pattern contexts, size of the irrelevant part."""
    patterns = draw_patterns(config.patterns, config.seed)
    unit = patterns.basis[:-1] / patterns.basis[:-1].norm(dim=1, keepdim=True) ** 2
    parts = prompts.context @ unit.T  # (n, l, P)
    own, (n_idr, _) = prompts.query @ unit.T, patterns.counts
    label = prompts.context @ patterns.basis[-1]
    carries, asked = parts[..., :n_idr].round(), own[:, :n_idr].round()
    same = (carries @ asked[..., None])[..., 0]
    agree = same * label * prompts.target[:, None]
    return torch.cat(
        [
            (carries * label[..., None]).mean((0, 1)),
            carries.mean((0, 1)),
            torch.stack([label.mean(), same.mean(), agree.mean(), prompts.target.mean()]),
            parts[..., n_idr:].square().sum(-1).mean()[None],
        ]
    )


@cache
def differ(config: TrainConfig, n: int = 40_000) -> float:
    """Largest difference in these between our sampler and the plain one."""
    patterns = draw_patterns(config.patterns, config.seed)
    ours = dense(draw([config], n), patterns)
    return float((frequencies(ours, config) - frequencies(plain(config, n), config)).abs().max())


def traffic(config: TrainConfig) -> int:
    """Bytes of one prompt: its random numbers, read, and its codes, written: for each input two patterns of 8, kappa and label of 4."""
    l = config.prompts.n_context
    return 4 * (2 * l + 3) + 24 * (l + 1)


def at(size: Size) -> list[Case]:
    """All variants at one size."""
    configs = configs_of(size if size.axis == "models" else None)
    n = int(size.value) if size.axis == "prompts" else CHUNK * BATCH
    frames = [draw_patterns(c.patterns, c.seed) for c in configs]
    bytes_of = len(configs) * n * traffic(configs[0])

    def written_out() -> list[Dense]:
        return [dense(member(draw([c], n), 0), frame) for c, frame in zip(configs, frames, strict=True)]

    def targets_differ(ours: Prompts, theirs: list[Dense]) -> float:
        return distance(ours.target, torch.stack([part.target for part in theirs]))

    case = Case("prompt sampling", "ours", size, UNIT, lambda: draw(configs, n), traffic=bytes_of)
    others = {"torch, dense tokens": lambda: [plain(c, n) for c in configs]}
    by_law = beside(case, others, TOLERANCE, lambda *_: differ(configs[0]))
    return [*beside(case, {"our sampler, dense tokens": written_out}, 0, targets_differ), by_law[1]]
