"""A GPU that computes on the CPU but refuses what a real one refuses: an operation on tensors of two devices.

A tensor "on the GPU" is a shell around one on the CPU that holds its numbers. Every operation is done on the numbers, so results
can be compared bit by bit with those of the CPU; before that, every operation is checked for tensors that are elsewhere.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# torch without CUDA does not even index a tensor that says it is on "cuda", its own fake tensors included. "meta" is in every
# build; nothing is ever computed there.
GPU = torch.device("meta")
aten = torch.ops.aten
# These take one device's tensors and give another's.
COPIES = {aten._to_copy.default, aten.copy_.default}


class MixedDevices(AssertionError):
    """An operation that would fail on a GPU."""


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> "OnGpu":
        shell = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, numbers.shape, numbers.stride(), numbers.storage_offset(), dtype=numbers.dtype, device=GPU
        )
        shell.numbers = numbers
        return shell

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return run(func, args, dict(kwargs or {}))

    def tolist(self) -> Any:
        """As from a GPU: numbers of Python are the CPU's."""
        return self.numbers.tolist()


class Pretend(TorchDispatchMode):
    """Also sees the operations that make a tensor on a device out of nothing or out of the CPU's."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if any(isinstance(leaf, OnGpu) for leaf in tree_leaves((args, kwargs))):
            self.seen.append(str(func))
        return run(func, args, dict(kwargs or {}))


def run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """One operation on the numbers; its result is where its tensors are, or on the device it names."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_gpu = [t for t in tensors if isinstance(t, OnGpu)]
    # As on a real GPU, a single number may be on the CPU; index tensors might be, too, but here they are not to be.
    elsewhere = [t for t in tensors if not isinstance(t, OnGpu) and t.dim() > 0]
    if any(t.device == GPU for t in elsewhere):
        raise AssertionError(f"{func}: a tensor without numbers; torch.tensor(..., device=) makes one, .to does not")
    if on_gpu and elsewhere and func not in COPIES:
        shapes = [tuple(t.shape) for t in elsewhere]
        raise MixedDevices(f"{func}: tensors on the CPU {shapes} among those on the GPU")
    named = kwargs.get("device")
    to_gpu = bool(on_gpu) if named is None else torch.device(named).type == GPU.type
    if to_gpu and kwargs.get("generator") is not None:
        raise MixedDevices(f"{func}: a generator of the CPU for numbers on the GPU")
    if named is not None:
        kwargs["device"] = torch.device("cpu")
    shells = {id(t.numbers): t for t in on_gpu}

    def bare(x: Any) -> Any:
        return x.numbers if isinstance(x, OnGpu) else x

    def shell(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or isinstance(x, OnGpu) or not to_gpu:
            return x
        return shells[id(x)] if id(x) in shells else OnGpu(x)

    result = func(*tree_map(bare, args), **tree_map(bare, kwargs))
    if func is aten.copy_.default:  # goes to where the first tensor is
        return args[0]
    return tree_map(shell, result)


@contextlib.contextmanager
def pretend_gpu() -> Iterator[list[str]]:
    """While this lasts ``GPU`` is a device that computes. Yields the names of the operations done there."""
    seen: list[str] = []
    with Pretend(seen):
        yield seen
