"""Trained ensembles on disk: trained once, shared by chapters, found by a hash of all that decides them."""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from icl_lib.lineage import lineage
from icl_lib.paths import cache_dir
from icl_lib.provenance import moving
from icl_lib.softmax.descent import Ensemble, State, stacked_patterns
from icl_lib.softmax.model import Params
from icl_lib.softmax.prompts import CHUNK
from icl_lib.softmax.training import TrainConfig, config_json, train
from icl_lib.store import kept, load_tensors, save_tensors

TRAINER = f"{train.__module__}.{train.__name__}"


def ensemble_key(configs: Sequence[Any], trainer: str = TRAINER) -> str:
    """Hash of the configs, of the lineage of what is trained by `trainer`, and of the versions that move it."""
    content = json.dumps([[config_json(c) for c in configs], lineage(trainer), moving()])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def save_state(path: Path, state: Any, key: str) -> None:
    """Write a training state (step, params, losses), atomically."""
    save_tensors(path, {**state.params._asdict(), "losses": state.losses}, key, str(state.step))


def load_state(path: Path, key: str, params: Any = Params) -> State | None:
    """The state saved under this key, with its weights as a ``params``; None if there is none to be believed (``store.py``)."""
    found = load_tensors(path, key, (*params._fields, "losses"))
    if found is None:
        return None
    tensors, step = found
    return State(int(step), params(*(tensors[name] for name in params._fields)), tensors["losses"])


def found_or_trained(
    configs: Sequence[Any], trainer: str, params: type, run: Callable[..., State | Ensemble], folder: Path | None
) -> Ensemble:
    """The trained ensemble from the cache; what is not there yet is trained by one process, while others wait.

    Args:
        trainer: whose lineage is part of the name.
        params: the named tuple of the network's weights.
        run: (saved state or None, report, save) -> trained; tells ``report`` the steps taken, and ``save`` a state to keep.
        folder: of the files; by default the book's cache.

    Raises:
        icl_lib.source.CodeChanged: if the code of the trainer was written since this process began; nothing is saved then.
    """
    key, n_steps = ensemble_key(configs, trainer), configs[0].n_steps
    path = (cache_dir() if folder is None else folder) / f"{key}.safetensors"

    def save(now: State | Ensemble) -> None:
        lineage(trainer)  # still the code that runs
        save_state(path, now, key)

    def go_on(state: State | None) -> Any:
        with tqdm(total=n_steps, initial=state.step if state else 0, disable=not sys.stderr.isatty()) as bar:
            return run(state, lambda step: bar.update(step - bar.n), save)

    done = kept(path, lambda: load_state(path, key, params), lambda state: state.step >= n_steps, go_on)
    return Ensemble(tuple(configs), stacked_patterns(configs), done.params, done.losses)


def trained(configs: Sequence[TrainConfig], folder: Path | None = None, save_every: int = 512) -> Ensemble:
    """The trained ensemble: from the cache, or trained now, going on from where an interrupted run stopped.

    Two processes that ask for the same ensemble at the same time train it once.

    Raises:
        icl_lib.source.CodeChanged: if the code of the trainer was written since this process began; nothing is saved then.
    """

    def run(state: State | None, report: Callable[[int], object], save: Callable[[State], None]) -> Ensemble:
        def on_progress(now: State) -> None:
            report(now.step)
            save(now)

        return train(configs, state, -(-save_every // CHUNK) * CHUNK, on_progress)  # where a resumed run ends the same

    return found_or_trained(configs, TRAINER, Params, run, folder)
