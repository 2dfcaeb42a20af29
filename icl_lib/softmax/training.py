"""Training an ensemble: seeds and settings as one batched run of plain mini-batch SGD on the hinge loss."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from icl_lib.rng import generator
from icl_lib.softmax import fused
from icl_lib.softmax.descent import Batches, Ensemble, Learner, State, Written, descend, stacked_patterns
from icl_lib.softmax.model import ModelConfig, Params, backward, init_params
from icl_lib.softmax.network import initialised
from icl_lib.softmax.patterns import PatternConfig, Patterns
from icl_lib.softmax.prompts import CHUNK, PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks, check_tasks
from icl_lib.validate import require, require_integer, require_members, require_number


def check_run(config: Any) -> None:
    """Refuse what no run can be trained with: the checks that the configs of all networks share."""
    for name, kind in (("patterns", PatternConfig), ("prompts", PromptConfig)):
        require(isinstance(getattr(config, name), kind), name, getattr(config, name), f"a {kind.__name__}")
    for name in ("train_attention", "require_cover"):
        require(isinstance(getattr(config, name), bool), name, getattr(config, name), "True or False")
    check_tasks(config.tasks, config.patterns.n_idr, config.require_cover)
    require_number("step_size", config.step_size, low=1e-9, allowed="a finite number above 0")
    for name, low in (("seed", 0), ("batch_size", 1), ("n_steps", 0)):
        require_integer(name, getattr(config, name), low)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines one training run; a member of an ensemble is one of these.

    Attributes:
        seed: decides patterns, initial weights and training prompts, through separate streams.
        tasks: T_tr, pairs of pattern numbers.
        batch_size: B, prompts a step.
        step_size: eta.
        n_steps: T.
        fixed_prompts: size of a dataset drawn once, or None for fresh prompts at every step.
        train_attention: False freezes W_Q and W_K at their initial values (a control).
        require_cover: refuse a T_tr that misses a (pattern, label) pair.

    >>> TrainConfig(tasks=((0, 1), (1, 2), (2, 0)), patterns=PatternConfig(n_idr=3)).n_steps
    300
    """

    tasks: Tasks
    seed: int = 0
    patterns: PatternConfig = field(default_factory=PatternConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    batch_size: int = 128
    step_size: float = 5.0
    n_steps: int = 300
    fixed_prompts: int | None = None
    train_attention: bool = True
    require_cover: bool = True

    def __post_init__(self) -> None:
        check_run(self)
        require(isinstance(self.model, ModelConfig), "model", self.model, "a ModelConfig")
        if self.fixed_prompts is not None:
            require_integer("fixed_prompts", self.fixed_prompts, 1)

    def shape(self) -> tuple[object, ...]:
        """What must agree over an ensemble, because it decides the shapes of its arrays."""
        p = self.patterns
        sizes = (p.n_idr, p.n_idi, p.d_x, p.d_y, self.model.m, self.prompts.n_context, self.prompts.reading)
        return (*sizes, self.batch_size, self.fixed_prompts)


def initial_state(configs: Sequence[TrainConfig]) -> State:
    """Untrained weights of every member."""
    require_members("configs", configs)
    sizes = {(c.model.m, c.patterns.d_x + c.patterns.d_y) for c in configs}
    require(len(sizes) == 1, "configs", sizes, "alike in m and in the length of tokens")
    return State(0, initialised(init_params, configs), torch.zeros(len(configs), 0))


def batches(configs: Sequence[TrainConfig], change: Callable[[Prompts, int], Prompts] | None = None) -> Batches:
    """The training prompts, for ``descend``. Batch t depends on (seed, t) alone.

    Args:
        change: what to make of fresh prompts, ``CHUNK`` batches of them and the number of the chunk.
    """
    size, n_fixed, p = configs[0].batch_size, configs[0].fixed_prompts, configs[0].patterns
    tasks, rules, seeds = (
        task_table([c.tasks for c in configs]),
        [c.prompts for c in configs],
        [c.seed for c in configs],
    )
    draw = partial(sample_prompts, rules, tasks, seeds, (p.n_idr, p.n_idi))
    dataset, member = draw(n_fixed, "dataset") if n_fixed else None, torch.arange(len(configs))[:, None]
    pool: dict[int, Prompts] = {}  # of the chunk that was asked for last

    def some(step: int, n_steps: int) -> Prompts:
        chunk, place = divmod(step, CHUNK)
        if chunk not in pool:
            pool.clear()
            if dataset is None:
                fresh = draw(CHUNK * size, "train", chunk)
                pool[chunk] = change(fresh, chunk) if change else fresh
            else:
                gens = [generator(seed, "minibatch", chunk) for seed in seeds]
                rows = torch.stack([torch.randint(n_fixed or 1, (CHUNK * size,), generator=g) for g in gens])
                pool[chunk] = Prompts(*(part[member, rows] for part in dataset))
        return Prompts(*(part[:, place * size : (place + n_steps) * size] for part in pool[chunk]))

    return some


def sgd(configs: Sequence[TrainConfig], start: Params) -> tuple[Params, Callable[[Params], None]]:
    """Plain gradient descent, an optimiser for ``descend``: each member with its step size, frozen attention with none."""
    params, device = Params(*(weight.clone() for weight in start)), start.w_o.device
    rate = torch.tensor([c.step_size for c in configs]).to(device)[:, None, None]
    of_block = torch.tensor([[c.train_attention] * 2 + [True] for c in configs]).to(device)  # W_Q, W_K, W_V
    rate_qkv = rate * of_block.repeat_interleave(params.w_q.shape[1], dim=1)[..., None]

    def update(gradient: Params) -> None:
        params.w_qkv.addcmul_(gradient.w_qkv, rate_qkv, value=-1)
        params.w_o.addcmul_(gradient.w_o, rate, value=-1)

    return params, update


def learner(configs: Sequence[TrainConfig], params: Params, patterns: Patterns) -> Learner:
    """The compiled one; on a device that is no CPU, or in another precision, ``model.backward`` and SGD."""
    if patterns.basis.device.type == "cpu" and params.w_o.dtype == torch.float32:
        return fused.Learner(configs, params, patterns)
    return Written(backward, sgd, configs, params, patterns)


def train_steps(
    configs: Sequence[TrainConfig],
    state: State,
    n_steps: int,
    patterns: Patterns | None = None,
    on_step: Callable[[Params], None] | None = None,
    device: torch.device | str | None = None,
) -> State:
    """Take ``n_steps`` steps from ``state``.

    A run that is resumed at a multiple of ``CHUNK`` steps ends where an uninterrupted one does; elsewhere, up to rounding.

    Args:
        on_step: sees the weights after each step; they change in the next one, so it must not keep them.
        device: as of ``descend``, whose errors are raised.
    """
    alike = len({c.shape() for c in configs}) == 1
    require(alike, "configs", "ensemble", "alike in shape: sizes, n_context, batch_size")
    patterns = stacked_patterns(configs) if patterns is None else patterns
    seen = None if on_step is None else lambda step, params: on_step(params)
    return descend(configs, state, n_steps, patterns, batches(configs), learner, seen, device)


def train(
    configs: Sequence[TrainConfig],
    start: State | None = None,
    every: int = 6 * CHUNK,
    on_progress: Callable[[State], None] | None = None,
    device: torch.device | str | None = None,
) -> Ensemble:
    """Train all members to their common ``n_steps``.

    Args:
        start: a saved state to go on from; by default the initial one.
        every: steps between two calls of ``on_progress``, which may report or save the state.
        device: where the steps are taken, by default ``compute_device()``; the result is on the CPU.

    >>> from icl_lib.softmax.tasks import uniform_cover
    >>> ensemble = train([TrainConfig(uniform_cover(6, 3, s), seed=s, n_steps=2) for s in range(3)])
    >>> ensemble.seeds, ensemble.losses.shape
    ([0, 1, 2], torch.Size([3, 2]))
    """
    require_members("configs", configs)
    require(len({c.n_steps for c in configs}) == 1, "n_steps", {c.n_steps for c in configs}, "the same for all members")
    patterns, state = stacked_patterns(configs), start or initial_state(configs)
    total = configs[0].n_steps
    require_integer("every", every, 1)
    require_integer("start.step", state.step, 0, total)
    taken, needed = tuple(state.losses.shape), (len(configs), state.step)
    require(taken == needed, "start.losses", taken, f"one of each member and step, {needed}")
    require(len(state.params.a) == len(configs), "start.params", len(state.params.a), f"of {len(configs)} members")
    while state.step < total:
        state = train_steps(configs, state, min(every, total - state.step), patterns, device=device)
        if on_progress:
            on_progress(state)
    return Ensemble(tuple(configs), patterns, state.params, state.losses)


def config_json(config: Any) -> str:
    """A config as canonical JSON: the text whose hash is the name of the file with the trained weights."""
    return json.dumps(asdict(config), sort_keys=True, default=np.generic.item)
