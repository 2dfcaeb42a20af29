"""Training and sweeps killed (SIGKILL) at random moments and taken up again: the end is that of a run left alone.

A forked child trains; the parent kills it after a random share of the time that the whole takes. A flag in shared memory says
whether that was in the middle of a save. What is compared are all bytes of weights, losses and history in the saved file.
"""

import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import torch

from icl_lib.mean_field import runs
from icl_lib.mean_field.changes import BirthDeath, births
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.integrate import Change, State
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig
from icl_lib.mean_field.prompts import PromptConfig
from icl_lib.mean_field.training import TrainConfig
from icl_lib.softmax import cache, deep
from icl_lib.softmax.gpt import GPTConfig
from icl_lib.store import load_tensors, save_tensors
from reliability.outcome import Row
from reliability.solvers import KERNEL, MU, ONE_LAYER, TEACHER

KIND = "kill and resume"
FORK = multiprocessing.get_context("fork")


def ensemble(folder: Path) -> None:
    """Part I: two members, saved after every fifth step."""
    one = replace(ONE_LAYER, n_steps=900)
    cache.trained([one, replace(one, seed=1, step_size=2.0)], folder, save_every=5)


def deep_ensemble(folder: Path) -> None:
    """Part I: a small GPT-2, saved at the end only, so that a killed one begins again."""
    model, patterns = GPTConfig(depth=1, heads=1, width=8), ONE_LAYER.patterns
    deep.trained_deep([deep.DeepConfig(ONE_LAYER.tasks, patterns=patterns, model=model, n_steps=150)], folder)


def transformer(mode: str, folder: Path) -> None:
    """Part II: one member, saved after every epoch of four steps."""
    teacher, start = TeacherConfig("nonlinear", n=8, d=4, k=2), InitConfig(n=12, d=4, k=2)
    rules: dict[str, Any] = {"n_prompts": 32, "batch": 8, "plateau": 40, "patience": 40, "max_epochs": 40}
    prompts = PromptConfig(n_context=12, n_query=4)
    runs.trained_one(TrainConfig(mode, teacher, start, prompts=prompts, **rules), 2, folder)


def save_flow(path: Path, state: State, history: pd.DataFrame) -> None:
    """A flow between two steps, and its history."""
    values = {"history": torch.from_numpy(history.to_numpy(float))}
    tensors = {**state.mu._asdict(), "time": state.time, "dissipated": state.dissipated}
    save_tensors(path, tensors | values, path.stem, json.dumps([state.step, state.clock]))


def load_flow(path: Path) -> tuple[State, pd.DataFrame]:
    """What was saved there, or the start."""
    found = load_tensors(path, path.stem)
    if found is None:
        return start(MU), pd.DataFrame()
    tensors, step = found
    mu = Particles(*(tensors[name] for name in Particles._fields))
    return State(mu, tensors["time"], tensors["dissipated"], *json.loads(step)), pd.DataFrame(
        tensors["history"].numpy()
    )


def particles(config: FlowConfig, change: Change | None, folder: Path) -> None:
    """Part II's flow: the library goes on from any state, which is saved here after every fourth step."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "flow.safetensors"
    state, history = load_flow(path)
    while state.step < 800:
        until = float(state.time.max()) + 4 * config.dt
        state, rows = flow(KERNEL, TEACHER, state, replace(config, t_end=until), change)
        history = pd.concat([history, rows.set_axis(range(len(rows.columns)), axis=1)], ignore_index=True)
        save_flow(path, state, history)


HERE = sys.modules[__name__]
RK4, CAPPED = FlowConfig("rk4", dt=0.02, every=0.04), FlowConfig("euler", dt=0.05, every=0.1, cap=0.02)
VICTIMS: dict[str, tuple[Callable[[Path], None], ModuleType, str, int]] = {
    "one-layer ensemble": (ensemble, cache, "save_state", 40),
    "GPT-2": (deep_ensemble, cache, "save_state", 10),
    "Transformer of Part II, joint": (partial(transformer, "joint"), runs, "save_run", 20),
    "Transformer of Part II, static": (partial(transformer, "static"), runs, "save_run", 20),
    "particle flow": (partial(particles, RK4, None), HERE, "save_flow", 20),
    "birth-death flow, step capped": (partial(particles, CAPPED, births(BirthDeath(), [0])), HERE, "save_flow", 20),
}


def child(train: Callable[[Path], None], folder: Path, module: ModuleType, save: str, saving: Any) -> None:
    """Train, with a flag up during each save."""
    real = getattr(module, save)

    def flagged(*args: Any) -> None:
        saving.value = 1
        real(*args)
        saving.value = 0

    setattr(module, save, flagged)
    train(folder)


def killed_run(name: str, folder: Path, moments: random.Random, seconds: float, most: int) -> tuple[int, int]:
    """Train to the end through at most so many kills; returns how many there were, and how many fell in a save."""
    train, module, save, _ = VICTIMS[name]
    kills = in_save = 0
    while True:
        saving = FORK.RawValue("b", 0)
        process = FORK.Process(target=child, args=(train, folder, module, save, saving))
        process.start()
        process.join(moments.uniform(0, 0.6) * seconds if kills < most else None)
        if not process.is_alive():
            if process.exitcode:
                raise RuntimeError(f"{name}: the training process ended with exit code {process.exitcode}")
            return kills, in_save
        process.kill()
        process.join()
        kills, in_save = kills + 1, in_save + saving.value


def saved(folder: Path) -> dict[str, object]:
    """What was trained, by file name: bytes of all tensors, and the line about them. The file's own bytes vary in order."""
    found: dict[str, object] = {}
    for path in folder.glob("*.safetensors"):
        tensors, state = load_tensors(path, path.stem) or ({}, "damaged")
        found[path.name] = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, state
    return found


def rows_of(name: str) -> Iterator[Row]:
    """Run after run of one victim, until enough kills have been made."""
    train, _, _, wanted = VICTIMS[name]
    moments, kills, in_save, equal, n_runs, left = random.Random(f"0/{name}"), 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        alone = Path(place) / "alone"
        train(alone)  # the first run loads code
        expected = saved(alone)
        shutil.rmtree(alone)
        start = time.monotonic()
        train(alone)
        seconds = time.monotonic() - start
        while kills < wanted:
            folder = Path(place) / str(n_runs)
            more, inside = killed_run(name, folder, moments, seconds, most=8)
            kills, in_save, n_runs = kills + more, in_save + inside, n_runs + 1
            equal += saved(folder) == expected == saved(alone)
            left += len(list(folder.glob("*.tmp")))
    yield Row(KIND, name, "killed outside a save", kills - in_save, True)
    yield Row(KIND, name, "killed in a save", in_save, True)
    yield Row(KIND, name, "half-written temporary files left behind", left, True)
    yield Row(KIND, name, "ends bit-equal", equal, True)
    yield Row(KIND, name, "ends that differ", n_runs - equal, n_runs == equal)


def sweep_rows(kills: int = 8) -> Iterator[Row]:
    """``icl sweep`` of 12 points of half a second each: the same table, no point lost or doubled."""
    from tests.book.kills import check
    from tests.book.toy import icl, make_book

    grid = ("--grid", "alpha=0:1:4", "--grid", "beta=1:5:3", "-p", "pause=0.5")
    with tempfile.TemporaryDirectory() as folder:
        book = make_book(Path(folder) / "book")
        done = icl(book, "sweep", "T1", *grid, "--jobs", 2, "--out", book / "plain")
        if done.returncode:
            raise RuntimeError(done.stderr)
        try:
            running = check(book, book / "killed", grid, kills, (book / "plain/table.csv").read_text(encoding="utf-8"))
        except AssertionError as error:
            yield Row(KIND, "icl sweep", "ends that differ", 1, False, str(error).partition("\n")[0])
            return
    yield Row(KIND, "icl sweep", "killed while it ran", running, True)
    yield Row(KIND, "icl sweep", "killed when done", kills - running, True)
    yield Row(KIND, "icl sweep", "ends bit-equal", 1, True)
    yield Row(KIND, "icl sweep", "ends that differ", 0, True)


def rows() -> Iterator[Row]:
    for name in VICTIMS:
        yield from rows_of(name)
    yield from sweep_rows()
