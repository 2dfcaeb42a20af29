"""Trained ensembles on disk: trained once, shared by chapters, found by a hash of all that decides them."""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from icl_lib.lineage import lineage
from icl_lib.locks import locked
from icl_lib.paths import cache_dir
from icl_lib.provenance import moving
from icl_lib.softmax.descent import Ensemble, State, stacked_patterns
from icl_lib.softmax.model import Params
from icl_lib.softmax.train import TrainConfig, config_json, train
from icl_lib.store import load_tensors, save_tensors

TRAINER = "icl_lib.softmax.train.train"


def ensemble_key(configs: Sequence[Any], trainer: str = TRAINER) -> str:
    """Hash of the configs, of the lineage of what is trained by `trainer`, and of the versions that move it.

    Raises:
        icl_lib.source.CodeChanged: if the code of the trainer was written since this process began.
    """
    content = json.dumps([[config_json(c) for c in configs], lineage(trainer), moving()])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def save_state(path: Path, state: Any, key: str) -> None:
    """Write a training state (step, params, losses), atomically."""
    save_tensors(path, {**state.params._asdict(), "losses": state.losses}, key, str(state.step))


def load_state(path: Path, key: str, params: Any = Params) -> State | None:
    """The state that was saved under this key, or None if there is none that can be trusted (see ``store.py``).

    ``params`` is the named tuple that holds the network's weights.
    """
    found = load_tensors(path, key, (*params._fields, "losses"))
    if found is None:
        return None
    tensors, step = found
    losses = tensors.pop("losses")
    return State(int(step), params(**tensors), losses)


def trained(configs: Sequence[TrainConfig], folder: Path | None = None, save_every: int = 500) -> Ensemble:
    """The trained ensemble: from the cache, or trained now, going on from where an interrupted run stopped.

    Two processes that ask for the same ensemble at the same time train it once.

    Raises:
        icl_lib.source.CodeChanged: if the code of the trainer was written since this process began; nothing is saved then.
    """
    key = ensemble_key(configs)
    folder = cache_dir() if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.safetensors"
    with locked(folder / f"{key}.lock"):
        state = load_state(path, key)
        if state is None or state.step < configs[0].n_steps:
            start = state.step if state else 0
            with tqdm(total=configs[0].n_steps, initial=start, disable=not sys.stderr.isatty()) as bar:

                def on_progress(now: State) -> None:
                    bar.update(now.step - bar.n)
                    lineage(TRAINER)  # still the code that runs
                    save_state(path, now, key)

                return train(configs, state, save_every, on_progress)
        return Ensemble(tuple(configs), stacked_patterns(configs), state.params, state.losses)
