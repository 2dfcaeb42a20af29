"""What a call adds to the memory of a fresh process at its highest, all it works on included, against its size."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import epoch, particles, training
from benchmarks.case import Row, Size, sizes
from benchmarks.learners import stack, vmap_run
from icl_lib.mean_field.training import Trainer
from icl_lib.mean_field.transformer import step
from icl_lib.softmax.training import CHUNK, initial_state, train_steps

Call = Callable[[Size], object]
REFS = Path("/proc/self/clear_refs")
# What is called before memory is read, so that code and libraries are loaded.
WARM_UP = {"training step": Size("models", 1, 1), "velocity": Size("N", 100, 1), "epoch": Size("n", 10, 1)}


def ensemble(size: Size) -> object:
    """``CHUNK`` steps of the one-layer learner, sampling included."""
    configs = training.configs_of(size)
    return train_steps(configs, initial_state(configs), CHUNK)


def stacked(size: Size) -> object:
    """One step by torch.func vmap on dense tokens."""
    given = training.Given(training.configs_of(size), 1)
    return vmap_run(given.params, [stack(given.dense.pop())], given.step_size)()


def velocity(size: Size) -> object:
    """One velocity."""
    return particles.gradient(*particles.setting(int(size.value)))


def velocity_autograd(size: Size) -> object:
    """The same by autograd through the exact loss."""
    return particles.autograd_exact(*particles.setting(int(size.value)))


def _trainer(size: Size) -> Trainer:
    return Trainer(epoch.config(int(size.value)) if size.axis == "n" else epoch.config(width=int(size.value)))


def transformer(size: Size) -> object:
    """Gradients of one batch of 50 prompts, which are drawn."""
    trainer = _trainer(size)
    return step("sigmoid", trainer.initial().model, [trainer.source.draw(50, "prompts")])


def transformer_module(size: Size) -> None:
    """The same by modules and autograd, four prompts at a time."""
    trainer = _trainer(size)
    module, prompts = epoch.Module(trainer.initial().model), trainer.source.draw(50, "prompts")
    for i in range(0, 50, 4):
        epoch.gradient(module, type(prompts)(*(part[i : i + 4] for part in prompts)))


def _mebibytes(field: str) -> float:
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split(f"{field}:")[1].split()[0]) / 1024


def _measure(call: Call, warm_up: Size, size: Size) -> float:
    torch.set_num_threads(1)
    call(warm_up)
    REFS.write_text("5", encoding="utf-8")  # Linux: forget the highest size so far
    before = _mebibytes("VmRSS")
    call(size)
    return _mebibytes("VmHWM") - before


def added(call: Call, warm_up: Size, size: Size) -> float:
    """Mebibytes that the call adds at the highest, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (call, warm_up, size))


def measured() -> list[Row]:
    """Ours at all sizes; an alternative at the smallest, the published and the largest."""
    wanted: list[tuple[str, str, Call, list[Size]]] = [
        ("training step", "ours", ensemble, [s for s in training.AXES if s.axis in ("models", "m", "l")]),
        ("training step", "torch.func vmap", stacked, sizes("models", training.MEMBERS)[::3]),
        ("velocity", "ours", velocity, particles.WIDTHS),
        ("velocity", "autograd, exact loss", velocity_autograd, particles.WIDTHS[::3]),
        ("epoch", "ours", transformer, epoch.AXES),
        ("epoch", "torch.nn, batch 4", transformer_module, sizes("n", epoch.LENGTH)[::3]),
    ]
    rows: list[Row] = []
    for benchmark, variant, call, points in tqdm(wanted, "memory", disable=None):
        for size in points:
            highest = added(call, WARM_UP[benchmark], size)
            rows.append((benchmark, variant, *size, float(f"{highest:.4g}"), "MiB added", 0))
    return rows
