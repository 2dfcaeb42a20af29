"""Trained ensembles on disk: what comes back is what was trained, and when in doubt it is trained again."""

import dataclasses
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import icl_lib.softmax.cache as cache_module
from icl_lib import store
from icl_lib.softmax.cache import ensemble_key, load_state, save_state, trained
from icl_lib.softmax.descent import Ensemble, State
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, initial_state, train, train_steps

CONFIG = TrainConfig(
    tasks=uniform_cover(4, 1, 0),
    patterns=PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3),
    prompts=PromptConfig(n_context=6),
    model=ModelConfig(m=10),
    batch_size=16,
    n_steps=21,
)
CONFIGS = [CONFIG, dataclasses.replace(CONFIG, seed=1, step_size=2.0)]


def assert_same(one: Ensemble, two: Ensemble) -> None:
    pairs = zip(
        (*one.params, one.losses, one.patterns.basis), (*two.params, two.losses, two.patterns.basis), strict=True
    )
    assert all(torch.equal(x, y) for x, y in pairs)
    assert one.configs == two.configs and one.patterns[1:] == two.patterns[1:]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The step from which each training that took place went on."""
    seen: list[int] = []
    real = cache_module.train

    def spy(configs, start=None, *more):  # type: ignore[no-untyped-def]
        seen.append(start.step if start else 0)
        return real(configs, start, *more)

    monkeypatch.setattr(cache_module, "train", spy)
    return seen


def the_file(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def test_trained_once(tmp_path: Path, starts: list[int]) -> None:
    first, second = trained(CONFIGS, tmp_path), trained(CONFIGS, tmp_path)
    assert starts == [0]
    assert_same(first, second)
    assert_same(first, train(CONFIGS))
    assert not list(tmp_path.glob("*.tmp"))
    trained([CONFIGS[1], CONFIGS[0]], tmp_path)  # another order is another ensemble
    assert starts == [0, 0]


def spoilt(file: Path, how: str) -> None:
    data = file.read_bytes()
    if how == "empty":
        file.write_bytes(b"")
    elif how == "garbage":
        file.write_bytes(b"\x93 not a safetensors file" * 100)
    elif how == "cut off":
        file.write_bytes(data[: len(data) // 2])
    elif how == "one bit":
        file.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    elif how == "other tensors":
        save_file({"x": torch.zeros(2)}, file)
    elif how == "not finite":
        key = file.stem
        state = load_state(file, key)
        assert state is not None
        state.params.w_o[0, 0, 0] = float("nan")
        save_file({**state.params._asdict(), "losses": state.losses}, file, {"key": key, "state": str(state.step)})


def test_a_folder_that_can_only_be_read(tmp_path: Path, starts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is complete there is read, without a lock; what is not cannot be trained."""
    first = trained(CONFIGS, tmp_path)

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(store, "locked", refused)
    assert_same(first, trained(CONFIGS, tmp_path))
    assert starts == [0]
    with pytest.raises(PermissionError):
        trained(CONFIGS[:1], tmp_path)


@pytest.mark.parametrize("how", ["empty", "garbage", "cut off", "one bit", "other tensors", "not finite"])
def test_spoilt_file_is_trained_again(tmp_path: Path, starts: list[int], how: str) -> None:
    first = trained(CONFIGS, tmp_path)
    file = the_file(tmp_path)
    good = file.read_bytes()
    spoilt(file, how)
    assert file.read_bytes() != good
    with pytest.warns(UserWarning, match=f"{file.name} is damaged or not what its name says: training again") as said:
        again = trained(CONFIGS, tmp_path)
    assert len(said) == 1
    assert_same(first, again)
    assert starts == [0, 0] and load_state(file, file.stem) is not None


def test_key_is_checked(tmp_path: Path, starts: list[int]) -> None:
    """A file under the right name with another ensemble in it is not believed."""
    trained(CONFIGS, tmp_path)
    file = the_file(tmp_path)
    other = [dataclasses.replace(CONFIG, step_size=9.0), CONFIGS[1]]
    file.rename(tmp_path / f"{ensemble_key(other)}.safetensors")
    assert load_state(tmp_path / f"{ensemble_key(other)}.safetensors", ensemble_key(CONFIGS)) is not None
    with pytest.warns(UserWarning, match="not what its name says"):
        assert_same(trained(other, tmp_path), train(other))
    assert starts == [0, 0]
    assert load_state(tmp_path / "missing.safetensors", "key") is None


def test_key_changes_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {ensemble_key(CONFIGS), ensemble_key(CONFIGS[:1]), ensemble_key(CONFIGS[::-1])}
    for change in (
        {"seed": 7}, {"step_size": 5.5}, {"n_steps": 22}, {"batch_size": 17}, {"fixed_prompts": 8},
        {"train_attention": False}, {"prompts": PromptConfig(alpha=0.7, n_context=6)}, {"tasks": uniform_cover(4, 2, 0)},
        {"patterns": PatternConfig(4, 3, 2.5, 8, 3)}, {"model": ModelConfig(m=12)},
    ):  # fmt: skip
        keys.add(ensemble_key([dataclasses.replace(CONFIG, **change), CONFIGS[1]]))  # type: ignore[arg-type]
    assert len(keys) == 13
    now = ensemble_key(CONFIGS)
    with monkeypatch.context() as changed:
        changed.setattr(cache_module, "lineage", lambda trainer: "other code")
        keys.add(ensemble_key(CONFIGS))
    with monkeypatch.context() as changed:
        changed.setattr(cache_module, "moving", lambda: {"torch": "0"})
        keys.add(ensemble_key(CONFIGS))
    assert len(keys) == 15 and ensemble_key(list(CONFIGS)) == now
    numpys = [dataclasses.replace(CONFIG, batch_size=np.int64(CONFIG.batch_size)), CONFIGS[1]]
    assert ensemble_key(numpys) == now


@pytest.mark.parametrize("saves", [1, 2])
def test_interrupted_training_goes_on(
    tmp_path: Path, starts: list[int], monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    """Killed after some checkpoints; the result is that of an uninterrupted run."""
    done: list[int] = []

    def save_and_stop(path: Path, state: State, key: str) -> None:
        save_state(path, state, key)
        done.append(state.step)
        if len(done) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as stop:
        stop.setattr(cache_module, "save_state", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            trained(CONFIGS, tmp_path, save_every=8)
    assert done[-1] == 8 * saves
    assert_same(trained(CONFIGS, tmp_path, save_every=8), train(CONFIGS))
    assert starts == [0, 8 * saves]
    assert_same(trained(CONFIGS, tmp_path), train(CONFIGS))
    assert starts == [0, 8 * saves]


def test_state_round_trip(tmp_path: Path) -> None:
    state = train_steps(CONFIGS, initial_state(CONFIGS), 3)
    save_state(tmp_path / "a", state, "key")
    loaded = load_state(tmp_path / "a", "key")
    assert loaded is not None and loaded.step == 3
    assert all(
        torch.equal(x, y) for x, y in zip((*state.params, state.losses), (*loaded.params, loaded.losses), strict=True)
    )
    with pytest.warns(UserWarning, match="not what its name says"):
        assert load_state(tmp_path / "a", "other") is None


def test_no_steps(tmp_path: Path) -> None:
    config = [dataclasses.replace(CONFIG, n_steps=0)]
    assert_same(trained(config, tmp_path), train(config))


def test_two_processes_train_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = multiprocessing.get_context("fork")  # no second import of torch
    together = fork.Barrier(2)

    def slow_train(*arguments: Any) -> Ensemble:
        with (tmp_path / "log").open("a") as log:
            log.write("trained\n")
        time.sleep(0.3)
        return train(*arguments)

    def ask(name: str) -> None:
        together.wait(30)
        save_state(tmp_path / name, State(0, trained(CONFIGS, tmp_path / "cache").params, torch.zeros(2, 0)), "key")

    monkeypatch.setattr(cache_module, "train", slow_train)
    running = [fork.Process(target=ask, args=(name,)) for name in "ab"]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert [process.exitcode for process in running] == [0, 0]
    assert (tmp_path / "log").read_text() == "trained\n"
    expected = train(CONFIGS).params
    for name in "ab":
        found = load_state(tmp_path / name, "key")
        assert found is not None and all(torch.equal(x, y) for x, y in zip(found.params, expected, strict=True))
