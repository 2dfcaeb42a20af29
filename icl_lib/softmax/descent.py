"""The training loop of all networks: draw a batch, pass it forward and backward, update the weights, look at the loss.

What differs comes in as functions: the backward pass, the batches, the optimiser.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.device import check_device, compute_device, moved
from icl_lib.errors import Diverged
from icl_lib.softmax.model import hinge
from icl_lib.softmax.patterns import Patterns, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.validate import require_members

EXPLODED = 1e3  # the hinge loss starts at 1 or below; a mean above this is divergence

Batches = Callable[
    [int, int], Prompts
]  # the prompts of a step and of at most n - 1 that follow, one batch after the other


class State(NamedTuple):
    """A training run between two steps. Everything else follows from the configs."""

    step: int
    params: Any  # named tuple of weights: Params, or a deep network's
    losses: Float[Tensor, "E T"]  # mean hinge loss of the steps taken


class Ensemble(NamedTuple):
    """Configs of the members with their stacked patterns and weights, and the mean hinge loss of every step."""

    configs: tuple[Any, ...]  # TrainConfig, or DeepConfig of a deep network
    patterns: Patterns
    params: Any  # named tuple of weights: Params, or a deep network's
    losses: Float[Tensor, "E T"]

    @property
    def seeds(self) -> list[int]:
        """One seed per member."""
        return [c.seed for c in self.configs]

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.losses.shape[1]

    def members(self, rows: slice) -> "Ensemble":
        """Some of the members, as an ensemble."""
        params = type(self.params)(*(weight[rows] for weight in self.params))
        patterns = self.patterns._replace(basis=self.patterns.basis[rows])
        return Ensemble(self.configs[rows], patterns, params, self.losses[rows])


def stacked_patterns(configs: Sequence[Any]) -> Patterns:
    """Each member's own frame of patterns, (E, ...); configs of any network."""
    require_members("configs", configs)
    return stack_patterns([draw_patterns(c.patterns, c.seed) for c in configs])


def check_losses(configs: Sequence[Any], loss: Float[Tensor, " E"], step: int) -> None:
    """Raise Diverged, naming the first of the members whose loss is not below ``EXPLODED``."""
    members = (~(loss < EXPLODED)).nonzero().flatten().tolist()
    if members:
        worst, c = members[0], configs[members[0]]
        where = f"step {step} with step_size={c.step_size} (member {worst}, seed {c.seed})"
        raise Diverged(f"loss {loss[worst]:.3g} at {where}", members, step)


class Learner(Protocol):
    """Networks in training, on one device."""

    at_once: int  # steps that it takes in one call, where it may

    def advance(self, prompts: Prompts, step: int, n_steps: int) -> Float[Tensor, "E k"]:
        """Take the steps from number ``step`` on, each on its batch of the prompts; returns their losses."""

    def weights(self) -> Any:
        """As they are now, on the device; the next step may change them in place."""


class Written:
    """A learner made of a backward pass and an optimiser.

    Args:
        backward: (params, patterns, prompts) -> activations and gradients, as of a ``Network``.
        optimiser: (configs, weights) -> weights of its own, and a function that moves these by gradients, in place.
    """

    at_once = 1

    def __init__(
        self,
        backward: Callable[..., tuple[Any, Any]],
        optimiser: Callable[[Sequence[Any], Any], tuple[Any, Callable[[Any], None]]],
        configs: Sequence[Any],
        params: Any,
        patterns: Patterns,
    ) -> None:
        self.backward, self.patterns = backward, patterns
        self.params, self.update = optimiser(configs, params)

    def advance(self, prompts: Prompts, step: int, n_steps: int) -> Float[Tensor, "E k"]:
        """As of ``Learner``, one step at a time."""
        act, gradient = self.backward(self.params, self.patterns, prompts)
        self.update(gradient)
        return hinge(act, prompts).mean(1)[:, None]

    def weights(self) -> Any:
        """As of ``Learner``."""
        return self.params


def descend(
    configs: Sequence[Any],
    state: State,
    n_steps: int,
    patterns: Patterns,
    batches: Batches,
    learner: Callable[[Sequence[Any], Any, Patterns], Learner],
    on_step: Callable[[int, Any], object] | None = None,
    device: torch.device | str | None = None,
) -> State:
    """Take ``n_steps`` steps from ``state``, which is not changed.

    Args:
        batches: prompts of one step or more, on the CPU; each batch depends on the seeds and its step alone.
        learner: made of configs, weights and patterns on the device.
        on_step: sees the number of steps taken and the weights after each step; they change in the next one.
        device: where the steps are taken, by default ``compute_device()``. What comes in, what ``on_step`` sees and
            what is returned is on the CPU all the same.

    Raises:
        icl_lib.errors.Diverged: at the first step at which a member's loss is not finite or exceeds ``EXPLODED``, and after the
            last one if a weight is not finite.
    """
    if device is not None:
        check_device(str(device))
    device = compute_device() if device is None else torch.device(device)
    there = patterns._replace(basis=patterns.basis.to(device))
    running = learner(configs, moved(state.params, device), there)
    size, most = configs[0].batch_size, 1 if on_step else running.at_once
    step, end, losses = state.step, state.step + n_steps, [state.losses[:, :0].to(device)]
    while step < end:
        prompts = moved(batches(step, min(most, end - step)), device)
        losses.append(running.advance(prompts, step, prompts.target.shape[1] // size))
        for loss in losses[-1].unbind(1):
            check_losses(configs, loss, step)
            step += 1
        if on_step:
            on_step(step, moved(running.weights(), "cpu"))
    params = running.weights()
    if n_steps > 0:  # the last step has to leave finite weights too
        check_losses(configs, losses[-1][:, -1] + 0 * sum(weight.flatten(1).sum(1) for weight in params), step)
    weights = type(params)(*(weight.contiguous() for weight in moved(params, "cpu")))
    return State(step, weights, torch.cat([state.losses, torch.cat(losses, dim=1).cpu()], dim=1))
