"""Tensors on disk with a line of text about them; a file is believed only if it is whole and belongs to its key."""

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from icl_lib.locks import locked
from icl_lib.paths import write_atomic
from icl_lib.source import Stamp, stamp
from icl_lib.validate import require

State = TypeVar("State")


def _digest(tensors: dict[str, Tensor], state: str) -> str:
    """Hash of names, kinds, shapes and contents; safetensors itself would not notice a changed number."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        values = tensors[name].contiguous().numpy()
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], key: str, state: str) -> None:
    """Write tensors as safetensors, atomically.

    Args:
        key: hash of all that decides the tensors.
        state: what else is needed to go on from them, as text.
    """
    data = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(data, metadata={"key": key, "state": state, "digest": _digest(data, state)}))


def load_tensors(path: Path, key: str, names: Collection[str] | None = None) -> tuple[dict[str, Tensor], str] | None:
    """The tensors and the state saved under this key; None without a file and, with a warning, if it is not to be believed.

    Args:
        names: of the tensors, where they are known: a file with others is not believed.

    Raises:
        ConfigError: if there is a folder of that name: what is trained now could not be kept there.
    """
    require(not path.is_dir(), "path", str(path), "a file, to keep what is trained in: this is a folder")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        return None
    except SafetensorError:
        metadata, tensors = {}, {}
    state = metadata.get("state", "")
    ours = metadata.get("key") == key and (names is None or set(tensors) == set(names))
    if not ours or metadata.get("digest") != _digest(tensors, state):
        warnings.warn(f"{path.name} is damaged or not what its name says: training again", stacklevel=3)
        return None
    return tensors, state


def _written(path: Path) -> Stamp | None:
    with contextlib.suppress(OSError):
        return stamp(path)
    return None


def kept(
    path: Path,
    load: Callable[[], State | None],
    complete: Callable[[State], bool],
    train: Callable[[State | None], State],
) -> State:
    """What a file holds if training is complete, or else what ``train`` makes of it, while other processes wait.

    Of a complete file nothing but the file is needed: its folder may be one that can only be read.

    Args:
        load: the state in the file, None if there is none to be believed.
        train: goes on from a state, or begins; saves what it wants to be found.

    Raises:
        OSError: if there is something to train, and the lock beside the file cannot be written.
    """
    before = _written(path)
    state = load()
    if state is not None and complete(state):
        return state
    with locked(path.with_suffix(".lock")):
        if state is not None or _written(path) != before:  # another process may have gone on meanwhile
            state = load()
        return state if state is not None and complete(state) else train(state)
