"""Networks of several layers, GPTs (``gpt.py``) or residual stacks (``stack.py``): ensembles trained, and what each layer does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from icl_lib.rng import generator
from icl_lib.softmax import gpt, stack
from icl_lib.softmax.cache import found_or_trained
from icl_lib.softmax.descent import Batches, Ensemble, State, Written, descend, stacked_patterns
from icl_lib.softmax.network import Network, initialised
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks
from icl_lib.softmax.training import check_run
from icl_lib.validate import require, require_choice, require_integer, require_members

TRAINER = "icl_lib.softmax.deep.train_deep"


@dataclass(frozen=True)
class DeepConfig:
    """Everything that determines one training run on fresh prompts; a member of an ensemble is one of these.

    Attributes:
        tasks, seed, patterns, prompts, batch_size, n_steps, train_attention, require_cover: as in
            ``TrainConfig``. Without train_attention the maps to queries and keys stay as they are.
        model: which network. The defaults below are those for GPT; a stack learns by SGD with step size 1.
        optimiser: "adam" (its usual constants) or "sgd".
        step_size: one number for all weights and steps.
        min_context: the context length of a step is uniform on min_context .. prompts.n_context, the
            same for all prompts of the step and all members; equal numbers fix it.
    """

    tasks: Tasks
    seed: int = 0
    patterns: PatternConfig = field(default_factory=PatternConfig)
    prompts: PromptConfig = field(default_factory=PromptConfig)
    model: gpt.GPTConfig | stack.StackConfig = field(default_factory=gpt.GPTConfig)
    optimiser: str = "adam"
    step_size: float = 3e-4
    batch_size: int = 128
    n_steps: int = 600
    min_context: int = 2
    train_attention: bool = True
    require_cover: bool = True

    def __post_init__(self) -> None:
        check_run(self)
        known = isinstance(self.model, gpt.GPTConfig | stack.StackConfig)
        require(known, "model", self.model, "a GPTConfig or a StackConfig")
        require_choice("optimiser", self.optimiser, ("adam", "sgd"))
        require_integer("min_context", self.min_context, 1, self.prompts.n_context)
        if isinstance(self.model, gpt.GPTConfig):
            longest = self.model.max_context
            allowed = f"at most model.max_context = {longest}, as every position has its own embedding"
            require(self.prompts.n_context <= longest, "prompts.n_context", self.prompts.n_context, allowed)
            why = '"independent" (in "exact" prompts same-pattern contexts come first, and GPT sees positions)'
            require(self.prompts.reading == "independent", "prompts.reading", self.prompts.reading, why)

    def common(self) -> tuple[object, ...]:
        """What must agree over an ensemble: sizes of arrays, and what is decided once a step for all members."""
        p = self.patterns
        sizes = [getattr(self.model, name, None) for name in ("depth", "heads", "width", "max_context", "m")]
        patterns = (p.n_idr, p.n_idi, p.d_x, p.d_y)
        steps = (self.prompts.n_context, self.prompts.reading, self.min_context, self.batch_size, self.n_steps)
        return (type(self.model), *sizes, *patterns, *steps, self.optimiser)


def network(config: DeepConfig) -> Network:
    """The functions of the config's network."""
    return gpt.GPT if isinstance(config.model, gpt.GPTConfig) else stack.STACK


def initial_params(configs: Sequence[DeepConfig]) -> Any:
    """Untrained weights of every member."""
    return initialised(network(configs[0]).init, configs)


def untrained(configs: Sequence[DeepConfig]) -> Ensemble:
    """The ensemble before its first step."""
    return Ensemble(tuple(configs), stacked_patterns(configs), initial_params(configs), torch.empty(len(configs), 0))


def _batches(configs: Sequence[DeepConfig]) -> Batches:
    """The training prompts, those of a step of one context length."""
    first, tasks, seeds = configs[0], task_table([c.tasks for c in configs]), [c.seed for c in configs]
    counts = first.patterns.n_idr, first.patterns.n_idi
    lengths = (first.min_context, first.prompts.n_context + 1)

    def of_step(step: int, n_steps: int) -> Prompts:
        l = int(torch.randint(*lengths, (), generator=generator(0, "context length", step)))
        rules = [replace(c.prompts, n_context=l) for c in configs]
        return sample_prompts(rules, tasks, seeds, counts, first.batch_size, "train", step)

    return of_step


def _optimiser(configs: Sequence[DeepConfig], start: Any) -> tuple[Any, Callable[[Any], None]]:
    """Adam or SGD of torch, for ``descend``."""
    # One row of numbers a member, of which the weights are views: the optimiser sees E tensors and not 14 E.
    rows = torch.cat([weight.flatten(1) for weight in start], dim=1)
    parts = rows.split([weight[0].numel() for weight in start], dim=1)
    params = type(start)(*(part.unflatten(1, weight.shape[1:]) for part, weight in zip(parts, start, strict=True)))
    members = [row.requires_grad_() for row in rows.detach().unbind()]
    groups = [{"params": [row], "lr": c.step_size} for row, c in zip(members, configs, strict=True)]
    optimiser = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[configs[0].optimiser](groups, fused=True)
    frozen = [i for i, c in enumerate(configs) if not c.train_attention]

    def update(gradients: Any) -> None:
        for i in frozen:
            for gradient in gradients.queries_and_keys():
                gradient[i] = 0
        for row, gradient in zip(members, torch.cat([part.flatten(1) for part in gradients], dim=1), strict=True):
            row.grad = gradient
        optimiser.step()

    return params, update


def train_deep(
    configs: Sequence[DeepConfig],
    on_progress: Callable[[int, Any], object] | None = None,
    start: Any = None,
    device: torch.device | str | None = None,
) -> Ensemble:
    """Train all members, each on fresh prompts from the streams (seed, "train", step).

    Args:
        on_progress: as ``on_step`` of ``descend``.
        start: weights to begin with instead of the initial ones; the optimiser begins anew in any case.
        device: as of ``descend``.

    Raises:
        icl_lib.errors.Diverged: as ``descend``.

    >>> from icl_lib.softmax.gpt import GPTConfig
    >>> from icl_lib.softmax.tasks import uniform_cover
    >>> model, tasks = GPTConfig(depth=1, heads=1, width=8), uniform_cover(6, 3, seed=0)
    >>> train_deep([DeepConfig(tasks=tasks, model=model, n_steps=2, batch_size=16)]).step
    2
    """
    require_members("configs", configs)
    require(len({c.common() for c in configs}) == 1, "configs", "ensemble", "alike in sizes, lengths and optimiser")
    first, patterns = configs[0], stacked_patterns(configs)
    begun = State(0, initial_params(configs) if start is None else start, torch.zeros(len(configs), 0))
    learner = partial(Written, network(first).backward, _optimiser)
    done = descend(configs, begun, first.n_steps, patterns, _batches(configs), learner, on_progress, device)
    return Ensemble(tuple(configs), patterns, done.params, done.losses)


def trained_deep(configs: Sequence[DeepConfig], folder: Path | None = None) -> Ensemble:
    """The trained ensemble: from the cache of ``cache.py``, or trained now. Two processes train it once.

    Raises:
        icl_lib.source.CodeChanged: if the code of the trainer was written since this process began; nothing is saved then.
    """

    def run(state: State | None, report: Callable[[int], object], save: Callable[[Ensemble], None]) -> Ensemble:
        done = train_deep(configs, lambda steps, _: report(steps))
        save(done)
        return done

    return found_or_trained(configs, TRAINER, network(configs[0]).params, run, folder)
