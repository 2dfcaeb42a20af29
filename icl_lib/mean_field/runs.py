"""Training runs on disk: each member is trained once, shared by chapters, and found by a hash of all that decides it.

A member is saved after every epoch, so that an interrupted run goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from icl_lib.lineage import lineage
from icl_lib.mean_field.measure import Particles
from icl_lib.mean_field.training import COLUMNS, State, TrainConfig, Trained, collected, train_one
from icl_lib.mean_field.transformer import Transformer
from icl_lib.paths import cache_dir
from icl_lib.provenance import moving
from icl_lib.store import kept, load_tensors, save_tensors
from icl_lib.validate import require, require_integer

Run = tuple[State, pd.DataFrame]
TRAINER = f"{train_one.__module__}.{train_one.__name__}"
WHOLE = ("epoch", "step", "shortened")  # columns of the history that are integers


def run_key(config: TrainConfig, every: int) -> str:
    """Hash of the config, of how often the history is kept, of the trainer's lineage, and of the versions that move it.

    Raises:
        icl_lib.source.CodeChanged: if the code of the trainer was written since this process began.
    """
    parts = [asdict(config), every, lineage(TRAINER), moving()]
    content = json.dumps(parts, default=np.generic.item)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def save_run(path: Path, run: Run, key: str) -> None:
    """Write state and history, atomically."""
    state, history = run
    values = torch.from_numpy(history.to_numpy(np.float64))
    tensors = {**state.model.mu._asdict(), "attention": state.model.attention, "history": values}
    rest = state._replace(model=None)._asdict()  # type: ignore[arg-type]
    save_tensors(path, tensors, key, json.dumps(rest, default=np.generic.item))


def load_run(path: Path, key: str) -> Run | None:
    """The run that was saved under this key, or None if there is none that can be trusted (see ``store.py``)."""
    found = load_tensors(path, key, (*Particles._fields, "attention", "history"))
    if found is None:
        return None
    tensors, state = found
    history = pd.DataFrame(tensors.pop("history").numpy(), columns=COLUMNS).astype(dict.fromkeys(WHOLE, int))
    attention = tensors.pop("attention")
    return State(**json.loads(state) | {"model": Transformer(Particles(**tensors), attention)}), history


def trained_one(config: TrainConfig, every: int, folder: Path) -> Run:
    """One member: from its file, or trained now, going on from where an interrupted run stopped."""
    key = run_key(config, every)
    path = folder / f"{key}.safetensors"

    def complete(run: Run) -> bool:
        return run[0].converged or run[0].epoch >= config.max_epochs

    def go_on(run: Run | None) -> Run:
        while run is None or not complete(run):
            state, rows = train_one(config, run[0] if run else None, every, n_epochs=1)
            run = state, pd.concat([run[1], rows], ignore_index=True) if run else rows
            lineage(TRAINER)  # still the code that runs
            save_run(path, run, key)
        return run

    return kept(path, lambda: load_run(path, key), complete, go_on)


def trained(configs: Sequence[TrainConfig], every: int = 20, jobs: int = 2, folder: Path | None = None) -> Trained:
    """All members, `jobs` at a time: as ``train`` would return them, whatever `jobs` is.

    Two processes that ask for the same member at the same time train it once.

    Args:
        every: steps between two rows of the history.
        jobs: processes, of one thread each; 1 for none beside this one.
        folder: of the files; by default the book's cache.

    Raises:
        icl_lib.errors.Diverged: as ``train_one``.
    """
    require(len(configs) > 0, "configs", len(configs), "at least one")
    require_integer("jobs", jobs, 1)
    folder = cache_dir() if folder is None else folder
    work = Parallel(n_jobs=min(jobs, len(configs)))
    return collected(configs, work(delayed(trained_one)(config, every, folder) for config in configs))
