"""Tiny trainings that take a trainer through all that it can do: what comes out is its behaviour, to the bit.

Two versions of the code between which no probe differs, on one machine, train the same. Bits are those of a processor, so
they are compared where both versions have run (`tools.vouch`) and are not kept.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from icl_lib.mean_field.changes import BirthDeath, Modification
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.prompts import PromptConfig as Regression
from icl_lib.mean_field.training import TrainConfig as FeatureConfig
from icl_lib.mean_field.training import Trainer as FeatureTrainer
from icl_lib.mean_field.training import train_one
from icl_lib.softmax import training
from icl_lib.softmax.deep import DeepConfig, train_deep
from icl_lib.softmax.descent import Written, descend
from icl_lib.softmax.gpt import GPTConfig
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.tasks import uniform_cover

Probe = Iterator[tuple[str, list[Tensor]]]


class Trainer(NamedTuple):
    """Something that trains and whose results are kept.

    Attributes:
        entry: the function whose lineage they have.
        probe: names of its probes, and what each gives.
    """

    entry: str
    probe: Callable[[], Probe]


SMALL = PatternConfig(5, 4, 2.0, d_x=11, d_y=3)
ONE = training.TrainConfig(
    uniform_cover(5, 2, 0), 3, SMALL, PromptConfig(), ModelConfig(10, a_scale=0.1), 9, n_steps=11
)


def one_layer() -> Probe:
    """The one-layer Transformer, compiled and written out; 11 steps are one chunk of prompts and a part of another."""
    written = partial(Written, training.backward, training.sgd)

    def ends(*configs: training.TrainConfig) -> list[Tensor]:
        done, start = training.train(configs), training.initial_state(configs)
        also = descend(configs, start, configs[0].n_steps, done.patterns, training.batches(configs), written)
        return [*done.params, done.losses, done.patterns.basis, *also.params, also.losses]

    other = replace(ONE, seed=4, step_size=2.0, tasks=uniform_cover(5, 3, 1), prompts=PromptConfig(1.0, 20, 0.0))
    yield "two members", ends(ONE, replace(other, model=ModelConfig(10, 0.1, 0.3, 0.02)))
    few = PromptConfig(0.4, 6, 2.0)
    yield "few contexts", ends(replace(ONE, prompts=few))
    for l, alpha in ((1, 0.6), (7, 0.5), (25, 0.56), (20, 0.05)):
        yield f"exact counts, {l}", ends(replace(ONE, prompts=PromptConfig(alpha, l, reading="exact")))
    for reading in ("independent", "exact"):
        yield f"no context of the task, {reading}", ends(replace(ONE, prompts=PromptConfig(0.0, 8, reading=reading)))
    yield "fixed prompts", ends(replace(ONE, fixed_prompts=13), replace(other, prompts=ONE.prompts, fixed_prompts=13))
    yield "attention frozen", ends(replace(ONE, train_attention=False), ONE)
    yield "large batch", ends(replace(ONE, batch_size=300, n_steps=3, patterns=PatternConfig(5)))
    seen: list[Tensor] = []
    begun = training.train_steps([ONE], training.initial_state([ONE]), 5, on_step=lambda p: seen.append(p.w_o.clone()))
    yield "on every step", seen
    done = training.train([ONE], begun, every=2, on_progress=lambda state: seen.append(state.params.w_qkv.clone()))
    yield "resumed", [*seen, *done.params, done.losses]


def deep() -> Probe:
    """Stacks and GPTs."""
    stack = DeepConfig(
        ONE.tasks, 3, SMALL, PromptConfig(n_context=18), StackConfig(2, 10), "sgd", 1.0, 9, 4, min_context=3
    )
    gpt = replace(stack, model=GPTConfig(2, 2, 8), optimiser="adam", step_size=3e-3)

    def ends(*configs: DeepConfig, start: object = None) -> list[Tensor]:
        seen: list[Tensor] = []
        done = train_deep(configs, lambda step, params: seen.append(params[0].clone()), start)
        return [*seen, *done.params, done.losses, done.patterns.basis]

    other = replace(stack, seed=5, step_size=0.3, prompts=PromptConfig(1.0, 18, 0.0))
    yield "stacks", ends(stack, replace(other, train_attention=False, model=StackConfig(2, 10, 0.1, 0.3, 0.1)))
    yield "one layer", ends(replace(stack, model=StackConfig(1, 10), min_context=18))
    exact = PromptConfig(0.6, 18, reading="exact")
    yield "exact counts, Adam", ends(replace(stack, prompts=exact, optimiser="adam", step_size=1e-2, batch_size=150))
    # Weights so large that some prompts are beyond the margin and pass nothing back.
    deeper = replace(stack, model=StackConfig(3, 10), batch_size=20, step_size=1e-4)
    large = train_deep([replace(deeper, n_steps=0)]).params
    yield "large outputs of a stack", ends(deeper, start=large._replace(a=3000 * large.a))
    large = train_deep([replace(gpt, n_steps=0)]).params
    yield "large outputs of a GPT", ends(gpt, start=large._replace(read_out=30 * large.read_out))
    yield "GPTs", ends(gpt, replace(gpt, seed=5, train_attention=False))
    one = replace(gpt, model=GPTConfig(1, 1, 8, 18), optimiser="sgd", step_size=0.1, batch_size=150)
    yield "a GPT of one block", ends(one)
    yield "from other weights", ends(gpt, start=train_deep([replace(gpt, seed=6)]).params)


def features() -> Probe:
    """Paper K's Transformer."""
    start = InitConfig("aligned", 12, 3, 2, 2.0, 1)
    base = FeatureConfig(
        teacher=TeacherConfig("nonlinear", 8, 3, 2, 3.0, (1.0, 0.5), 1),
        start=start,
        prompts=Regression(n_context=20, n_query=4),
        seed=1,
        n_prompts=60,
        batch=20,
        max_epochs=2,
    )

    def ends(config: FeatureConfig, **changes: Any) -> list[Tensor]:
        state, history = train_one(replace(config, **changes), every=2)
        numbers = torch.tensor(history.to_numpy(float))
        return [*state.model.mu, state.model.attention, torch.tensor([*state[1:]], dtype=torch.float64), numbers]

    for mode in ("static", "joint", "joint_plain", "static_finite", "softmax", "attention"):
        yield mode, ends(base, mode=mode, activation="sigmoid")
    for mode in ("static", "joint", "static_finite", "softmax"):
        yield f"{mode}, without the constant", ends(base, mode=mode, constant=False)
    lines = TeacherConfig("axes", 2, 3, 2, 2.0, seed=1)
    yield "attention, axes", ends(base, mode="attention", teacher=lines, activation="erf", w_start=0.0)
    yield "identity", ends(base, teacher=lines, activation="identity", prompts=replace(base.prompts, centred=True))
    many = replace(start, n=170)  # a prompt's contexts then pass in several blocks
    long = Regression(n_context=900, n_query=3)
    for mode in ("static", "softmax"):
        yield (
            f"many contexts, {mode}",
            ends(base, mode=mode, start=many, prompts=long, n_prompts=4, batch=2, max_epochs=1),
        )
    noisy = Regression("max", 30, 3, 0.2, "sphere", centred=True)
    yield "maximum, noise, fresh", ends(base, mode="static_finite", prompts=noisy, fresh=True, activation="tanh")
    signs = Regression("squared_norm", 20, 4, 0.0, "sign", centred=True)
    yield "squared norm, relu", ends(base, mode="joint", prompts=signs, activation="relu", constant=False)
    axes = TeacherConfig("axes", 2, 3, 2, 2.0, seed=1)
    bad = InitConfig("independent", 70, 3, 2, 2.0, 1, axes=(0, 1))
    yield "axes, bad support", ends(base, teacher=axes, start=bad, activation="erf")
    drawn = TeacherConfig("random", 4, 3, 2, 1.0, seed=2)
    yield (
        "shortened to the end",
        ends(base, teacher=drawn, patience=1, plateau=1, improvement=0.9, n_shorten=1, max_epochs=6),
    )
    born = Modification(BirthDeath(0.5, start, 20.0), "isotropic", 0.1, 0.5, 30.0)
    yield "births, isotropic", ends(base, modification=born)
    for n in (12, 70, 170):  # done member by member from 65 on, and block by block from 161 on
        process = Modification(BirthDeath(0.5, start), "gaussian_process", 0.1, 0.01)
        yield f"births, process, {n}", ends(base, start=replace(start, n=n), modification=process)
    for name in ("relu", "erf", "tanh", "identity"):
        teacher = lines if name == "identity" else base.teacher
        yield f"{name}, process", ends(base, activation=name, teacher=teacher, modification=process)
    for mode in ("joint", "static_finite", "softmax"):
        alone = Modification(None, "isotropic", 0.1, 0.01)
        yield f"{mode}, isotropic alone", ends(base, mode=mode, modification=alone)
    heavy = FeatureTrainer(replace(base, modification=born)).initial()
    masses = torch.arange(1.0, 13.0, dtype=torch.float64)[None] / 78
    uneven = heavy._replace(model=heavy.model._replace(mu=heavy.model.mu._replace(p=masses)))
    state, history = train_one(replace(base, modification=born), uneven, every=2)
    yield "unequal masses", [*state.model.mu, state.model.attention, torch.tensor(history.to_numpy(float))]
    half, _ = train_one(replace(base, mode="joint", fresh=True), n_epochs=1)
    state, history = train_one(replace(base, mode="joint", fresh=True), half, every=3)
    yield "resumed", [*state.model.mu, state.model.attention, torch.tensor(history.to_numpy(float))]


TRAINERS = {
    "one layer": Trainer("icl_lib.softmax.training.train", one_layer),
    "deep": Trainer("icl_lib.softmax.deep.train_deep", deep),
    "features": Trainer("icl_lib.mean_field.training.train_one", features),
}


def digests(name: str) -> dict[str, str]:
    """Of each probe of a trainer, the hash of all bits; takes a second or two."""
    torch.set_num_threads(1)
    found = {}
    for probe, tensors in TRAINERS[name].probe():
        parts = [f"{tuple(t.shape)}{t.dtype}".encode() + t.contiguous().numpy().tobytes() for t in tensors]
        found[probe] = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    return found


def main() -> int:
    """Print the digests of the named trainers, by default of all, as JSON."""
    print(json.dumps({name: digests(name) for name in sys.argv[1:] or TRAINERS}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
