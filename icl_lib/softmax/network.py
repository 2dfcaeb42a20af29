"""A network as a value: what training and measuring need of it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from icl_lib.twin import twinned

Init = Callable[..., Any]  # (its config, PatternConfig, seed) -> weights of one member (E = 1), a named tuple


class Network(NamedTuple):
    """The functions of a network.

    Attributes:
        params: the named tuple of its weights, (E, ...) each.
        init: (config, PatternConfig, seed) -> initial weights of one member, E = 1.
        forward: (params, patterns, prompts) -> activations, with ``output`` (E, B) and ``attention`` (E, B, l).
        backward: (params, patterns, prompts) -> activations and the gradient of the mean hinge loss in every weight.
    """

    params: type
    init: Init
    forward: Callable[..., Any]
    backward: Callable[..., tuple[Any, Any]]


def initialised(init: Init, configs: Sequence[Any]) -> Any:
    """Initial weights of an ensemble, (E, ...) each; configs of one network, alike in sizes."""
    members = [init(c.model, c.patterns, c.seed) for c in configs]
    twins = [[twinned(weight, c.seed) for weight in params] for params, c in zip(members, configs, strict=True)]
    return type(members[0])(*(torch.cat(parts) for parts in zip(*twins, strict=True)))
