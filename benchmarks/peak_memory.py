"""What a call adds to the memory of a fresh process at its highest, all it works on included, against its size."""

from collections.abc import Callable

import torch
from tqdm import tqdm

from benchmarks import epoch, training, velocity
from benchmarks.case import Row, Size, sizes
from benchmarks.exact_loss import setting
from benchmarks.measure import memory
from benchmarks.stacked import vmap_run
from icl_lib.mean_field.train_features import Trainer
from icl_lib.mean_field.transformer import step
from icl_lib.softmax.train import CHUNK, initial_state, train_steps

Prepare = Callable[[Size], Callable[[], object]]


def ensemble(size: Size) -> Callable[[], object]:
    """``CHUNK`` steps of the one-layer learner, sampling included."""
    torch.set_num_threads(1)

    def call(size: Size) -> object:
        configs = training.configs_of(size)
        return train_steps(configs, initial_state(configs), CHUNK)

    call(Size("models", 1, 1))
    return lambda: call(size)


def stacked(size: Size) -> Callable[[], object]:
    """Two steps by torch.func vmap on dense tokens."""
    torch.set_num_threads(1)

    def call(size: Size) -> object:
        given = training.Given(training.configs_of(size), 2)
        return vmap_run(given.params, [training.stack(members) for members in given.dense], given.step_size)()

    call(Size("models", 1, 1))
    return lambda: call(size)


def particles(size: Size) -> Callable[[], object]:
    """One velocity."""
    torch.set_num_threads(1)
    velocity.ours(*setting(100))
    return lambda: velocity.ours(*setting(int(size.value)))


def particles_autograd(size: Size) -> Callable[[], object]:
    """The same by autograd through the exact loss."""
    torch.set_num_threads(1)
    velocity.autograd_exact(*setting(100))
    return lambda: velocity.autograd_exact(*setting(int(size.value)))


def _trainer(size: Size) -> Trainer:
    return Trainer(epoch.config(int(size.value)) if size.axis == "n" else epoch.config(width=int(size.value)))


def transformer(size: Size) -> Callable[[], object]:
    """Gradients of one batch of 50 prompts, which are drawn."""
    torch.set_num_threads(1)

    def call(size: Size) -> object:
        trainer = _trainer(size)
        return step("sigmoid", trainer.initial().model, [trainer.source.draw(50, "prompts")])

    call(Size("n", 10, 1))
    return lambda: call(size)


def transformer_module(size: Size) -> Callable[[], object]:
    """The same by modules and autograd, four prompts at a time."""
    torch.set_num_threads(1)

    def call(size: Size) -> None:
        trainer = _trainer(size)
        module, prompts = epoch.Module(trainer.initial().model), trainer.source.draw(50, "prompts")
        for i in range(0, 50, 4):
            epoch.gradient(module, type(prompts)(*(part[i : i + 4] for part in prompts)))

    call(Size("n", 10, 1))
    return lambda: call(size)


def measured() -> list[Row]:
    """Ours at all sizes; an alternative at the smallest, the published and the largest."""
    wanted: list[tuple[str, str, Prepare, list[Size]]] = [
        *(
            ("training step", "ours", ensemble, [s for s in training.AXES if s.axis == axis])
            for axis in ("models", "m", "l")
        ),
        ("training step", "torch.func vmap", stacked, sizes("models", training.MEMBERS)[::3]),
        ("velocity", "ours", particles, sizes("N", 500)),
        ("velocity", "autograd, exact loss", particles_autograd, sizes("N", 500)[::3]),
        ("epoch", "ours", transformer, epoch.AXES),
        ("epoch", "torch.nn, batch 4", transformer_module, sizes("n", epoch.LENGTH)[::3]),
    ]
    rows: list[Row] = []
    for benchmark, variant, prepare, points in tqdm(wanted, "memory", disable=None):
        for size in points:
            before, highest = memory(prepare, size)
            rows.append((benchmark, variant, *size, float(f"{highest - before:.4g}"), "MiB added", 0))
    return rows
