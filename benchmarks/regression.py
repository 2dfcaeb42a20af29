"""One epoch of Paper K's Transformer at the published scale, against a module trained by autograd and a bound by resources.

``python -m benchmarks.regression`` writes regression.csv beside this file. An epoch is 10 000 prompts of 1 000 tokens, d = 20, k = 5,
N = 500 sigmoid neurons, in float32; ``PROMPTS`` of them are timed and scaled. Drawing the prompts is part of it. All that is
compared takes turns in one process on one core.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from benchmarks.measure import memory, take_turns
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.regression import PromptConfig, Prompts
from icl_lib.mean_field.train_features import Trainer
from icl_lib.mean_field.training import TrainConfig
from icl_lib.mean_field.transformer import CACHE, Transformer, step
from icl_lib.paths import write_atomic

FILE = Path(__file__).with_name("regression.csv")
EPOCH, PROMPTS, REPETITIONS = 10_000, 200, 7
N, D, K, LENGTH, QUERIES = 500, 20, 5, 1000, 8


def config(mode: str = "joint", batch: int = 50) -> TrainConfig:
    return TrainConfig(
        mode=mode,
        teacher=TeacherConfig("nonlinear", 40, D, K, 4.0, (1.0,) * K, 1000),
        start=InitConfig("aligned", N, D, K, 2.0, 1000),
        prompts=PromptConfig(n_context=LENGTH, n_query=QUERIES),
        seed=1000,
        batch=batch,
        n_prompts=EPOCH,
    )


class Module(nn.Module):
    """The same learner as one usually writes it: features of all tokens of a batch, then attention."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(D, N, bias=False), nn.Linear(N, K, bias=False)
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


def ours(trainer: Trainer, model: Transformer, batch: int) -> Callable[[], object]:
    """Draw and differentiate ``PROMPTS`` prompts in batches."""
    return lambda: [step("sigmoid", model, [trainer.source.draw(batch, "prompts", i)]) for i in range(PROMPTS // batch)]


def theirs(trainer: Trainer, module: Module, batch: int) -> Callable[[], object]:
    """The same prompts from the same fast sampler, in the batches that suit autograd best."""
    return lambda: [gradient(module, trainer.source.draw(batch, "prompts", i)) for i in range(PROMPTS // batch)]


def training(trainer: Trainer, n_steps: int) -> Callable[[], object]:
    """Whole training steps, W and what is exact included."""

    def steps() -> None:
        state = trainer.initial()
        for number in range(n_steps):
            state, _ = trainer.stepped(state, number)

    return steps


def resources() -> dict[str, tuple[Callable[[], object], float]]:
    """What an epoch needs at the least: (a call, how many of them an epoch needs)."""
    rows, rng = CACHE // N, np.random.default_rng(0)
    x, z = rng.standard_normal((rows, D), np.float32), rng.standard_normal((rows, N), np.float32)
    inner, y, out = rng.standard_normal((D, N), np.float32), x[:, 0].copy(), np.empty_like(z)
    tall, gen = np.empty((D, N), np.float32), torch.Generator()
    many, known = torch.empty(rows * 100, D), rng.standard_normal((rows, 40), np.float32)
    blocks = EPOCH * (LENGTH + QUERIES) / rows
    small = known.copy()
    return {
        "product, X w": (lambda: np.matmul(x, inner, out=z), blocks),
        "product, slopes and X": (lambda: np.matmul(x.T, z, out=tall), blocks),
        "product, labels and values": (lambda: y @ z, blocks),
        "sigmoid (as tanh)": (lambda: np.tanh(z, out=out), blocks),
        "slope, memory traffic in cache": (lambda: np.multiply(z, z, out=out), blocks),
        "inputs, random numbers": (lambda: many.normal_(generator=gen), blocks / 100),
        "teacher, sigmoid": (lambda: np.tanh(known, out=small), blocks),
        "teacher, product": (lambda: np.matmul(x, inner[:, :40], out=small), blocks),
    }


def repeated(call: Callable[[], object], times: int = 50) -> Callable[[], object]:
    return lambda: [call() for _ in range(times)]


def epochs() -> list[dict[str, object]]:
    """Times of an epoch, ours, the module's, and the least that each resource takes."""
    trainer = Trainer(config())
    model = trainer.initial().model
    module = Module(model)
    both = trainer.source.draw(20, "prompts")
    exact = step("sigmoid", model, [both])
    loss = gradient(module, both)
    assert module.inner.weight.grad is not None
    off = float((module.inner.weight.grad + exact.w[0] / N).norm() / module.inner.weight.grad.norm())
    print(f"loss {loss:.6f} and {float(exact.losses.mean()):.6f}; gradients differ by {off:.1e}")
    needs = resources()
    cases = {f"ours, batch {b}": ours(trainer, model, b) for b in (50, 200)}
    cases |= {f"module, batch {b}": theirs(trainer, module, b) for b in (1, 4, 20, 50)}
    cases |= {
        f"training step, {m}": training(Trainer(config(m)), PROMPTS // 50) for m in ("joint", "static", "static_finite")
    }
    found = take_turns(
        cases | {name: repeated(call) for name, (call, _) in needs.items()},
        REPETITIONS,
    )
    rows = [{"kind": "epoch", "method": name, "seconds": found[name] * EPOCH / PROMPTS} for name in cases]
    rows += [{"kind": "resource", "method": name, "seconds": found[name] / 50 * n} for name, (_, n) in needs.items()]
    least = sum(float(str(row["seconds"])) for row in rows if row["kind"] == "resource")
    fastest = {kind: min(v for k, v in found.items() if k.startswith(kind)) for kind in ("ours", "module")}
    ratio, share = fastest["module"] / fastest["ours"], least / (fastest["ours"] * EPOCH / PROMPTS)
    rows += [{"kind": "ratio", "method": "module over ours, each at its best batch", "ratio": ratio}]
    return [*rows, {"kind": "ratio", "method": "share of the bound", "seconds": least, "ratio": share}]


def three_steps(mode: str) -> Callable[[], object]:
    """Three whole training steps."""
    return training(Trainer(config(mode)), 3)


def main() -> None:
    torch.set_num_threads(1)
    with threadpool_limits(1):
        rows = epochs()
    rows += [
        {"kind": "memory", "method": mode, "mebibytes": memory(three_steps, mode)[1]} for mode in ("joint", "static")
    ]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    write_atomic(FILE, table.to_csv(index=False, float_format="%.4g").encode())


if __name__ == "__main__":
    main()
