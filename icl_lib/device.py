"""Where Part I's networks train: on the CPU, or on a GPU that ``$ICL_DEVICE`` names.

Only the steps of training move. Random numbers are drawn on the CPU, so that patterns, weights and prompts are the same
everywhere, and measuring, saving and drawing see tensors on the CPU.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, TypeVar

from icl_lib.validate import require

if TYPE_CHECKING:
    import torch

VARIABLE = "ICL_DEVICE"

Tensors = TypeVar("Tensors", bound=tuple[object, ...])


def check_device(name: str, prefix: str = "", here: bool = True) -> None:
    """Refuse a device that is none or, with ``here``, one that this machine lacks; torch is loaded only to look for a GPU.

    Raises:
        ConfigError: naming the device and what is allowed.
    """
    field = f"{prefix}device"
    require(re.fullmatch(r"cpu|cuda(:[0-9]+)?", name) is not None, field, name, "'cpu', 'cuda' or 'cuda:N'")
    if name == "cpu" or not here:
        return
    import torch

    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cuda", *(f"cuda:{i}" for i in range(n))] if n else []
    allowed = " or ".join(["'cpu'", *map(repr, known)]) if known else "'cpu', torch sees no GPU here"
    require(name in known, field, name, allowed)


def one_thread() -> None:
    """Compute on one thread, as every chapter does: sums in float32 depend on their number."""
    import torch

    torch.set_num_threads(1)


def compute_device() -> torch.device:
    """The device on which networks train, from ``$ICL_DEVICE``; without it the CPU.

    Raises:
        ConfigError: for a device that is none, or that this machine does not have.
    """
    import torch

    name = os.environ.get(VARIABLE, "cpu")
    check_device(name)
    return torch.device(name)


def moved(tensors: Tensors, device: torch.device | str) -> Tensors:
    """A named tuple of tensors with all of them on a device; one that is there already is not copied."""
    return type(tensors)(*(tensor.to(device) for tensor in tensors))  # type: ignore[attr-defined]
