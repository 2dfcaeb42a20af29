"""Paper K's Transformer: drawing and differentiating prompts, against the same network as one usually writes it, by autograd.

The published size is 10 000 prompts of 1 000 tokens an epoch, d = 20, k = 5, N = 500 sigmoid neurons, float32. A few prompts are timed;
times are scaled to an epoch. The module runs at three batches, and is compared at the one that suits it best.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import Case, Size, along, relative, sizes
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.prompts import PromptConfig, Prompts
from icl_lib.mean_field.training import TrainConfig, Trainer
from icl_lib.mean_field.transformer import Transformer, step

EPOCH, D, K, LENGTH, WIDTH, QUERIES, TEACHER = 10_000, 20, 5, 1000, 500, 8, 40  # TEACHER: its neurons
AXES = [*sizes("n", LENGTH), *sizes("N", WIDTH)]
BATCHES, OURS = (1, 4, 20), 20  # of the module; of ours, within which it goes prompt by prompt
UNIT = "s per epoch"


def config(n: int = LENGTH, width: int = WIDTH, mode: str = "joint") -> TrainConfig:
    return TrainConfig(
        mode=mode,
        teacher=TeacherConfig("nonlinear", TEACHER, D, K, 4.0, (1.0,) * K, 1000),
        start=InitConfig("aligned", width, D, K, 2.0, 1000),
        prompts=PromptConfig(n_context=n, n_query=QUERIES),
        seed=1000,
        batch=50,
        n_prompts=EPOCH,
    )


class Module(nn.Module):
    """The same learner as one usually writes it: features of all tokens of a batch, then attention."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        width, (d, k) = model.mu.w.shape[1], (model.mu.w.shape[2], model.mu.a.shape[2])
        self.inner, self.outer = nn.Linear(d, width, bias=False), nn.Linear(width, k, bias=False)
        self.attention = nn.Parameter(model.attention[0].float())
        with torch.no_grad():
            self.inner.weight.copy_(model.mu.w[0])
            self.outer.weight.copy_((model.mu.a * model.mu.p[..., None])[0].T)

    def features(self, x: Tensor) -> Tensor:
        h = self.outer(torch.sigmoid(self.inner(x)))
        return torch.cat([h, torch.ones_like(h[..., :1])], -1)

    def forward(self, prompts: Prompts) -> Tensor:
        g = (prompts.y[..., None] * self.features(prompts.x)).mean(1)
        return torch.einsum("pi,ij,pqj->pq", g, self.attention, self.features(prompts.x_query))


def gradient(module: Module, prompts: Prompts) -> float:
    """Loss; gradients are left in the parameters."""
    module.zero_grad()
    loss = (module(prompts) - prompts.y_query).square().mean() / 2
    loss.backward()
    return float(loss.detach())


def gradients_differ(model: Transformer, module: Module, prompts: Prompts) -> float:
    """Relative difference of the gradients in w, a and W, and of the loss; the worst."""
    exact, loss = step("sigmoid", model, [prompts]), gradient(module, prompts)
    n = model.mu.w.shape[1]
    pairs = [
        (-exact.w[0] / n, module.inner.weight.grad),
        (-exact.a[0].T, module.outer.weight.grad),  # the module's output weights have the masses in them
        (-exact.attention[0], module.attention.grad),
        (exact.losses.mean(), loss),
    ]
    return max(relative(ours, theirs) for ours, theirs in pairs)


def flops(n: int, width: int) -> int:
    """Products of one epoch: X w, labels and values, derivatives and X, over contexts; queries cost the same each; and the teacher's."""
    tokens = EPOCH * (n + QUERIES)
    return tokens * (4 * D * width + 2 * width + 2 * TEACHER * (D + K))


def at(size: Size) -> list[Case]:
    """Ours, and the module at its batches."""
    n, width = (int(size.value), WIDTH) if size.axis == "n" else (LENGTH, int(size.value))
    trainer = Trainer(config(n, width))
    model = trainer.initial().model
    module, prompts = Module(model), trainer.source.draw(4, "prompts")
    timed = 40 if size.factor <= 2 else 20

    def epoch(batch: int, call: Callable[[Prompts], object]) -> Callable[[], object]:
        return lambda: [call(trainer.source.draw(batch, "prompts", i)) for i in range(timed // batch)]

    def case(variant: str, call: Callable[[], object], **known: Any) -> Case:
        return Case("epoch", variant, size, UNIT, call, timed / EPOCH, **known)

    differs = {"differs": lambda: gradients_differ(model, module, prompts), "tolerance": 1e-3}
    theirs = {f"torch.nn, batch {batch}": epoch(batch, lambda p: gradient(module, p)) for batch in BATCHES}
    ours = case("ours", epoch(OURS, lambda p: step("sigmoid", model, [p])), flop=flops(n, width))
    return [ours, *(case(name, call, **differs) for name, call in theirs.items())]


def whole_steps(mode: str) -> Case:
    """Training steps of 50 prompts, W and what is exact included."""
    trainer = Trainer(config(mode=mode))

    def call() -> None:
        state = trainer.initial()
        for number in range(2):
            state, _ = trainer.stepped(state, number)

    return Case("epoch, training steps", mode, Size("n", LENGTH, 1), UNIT, call, 100 / EPOCH)


def cases() -> list[Case]:
    return along(AXES, at) + [whole_steps(mode) for mode in ("joint", "static", "static_finite")]
