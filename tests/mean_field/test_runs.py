"""Runs on disk: what comes back is what was trained, and when in doubt it is trained again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import icl_lib.mean_field.runs as runs_module
from icl_lib import store
from icl_lib.errors import Diverged
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.prompts import PromptConfig
from icl_lib.mean_field.runs import load_run, run_key, save_run, trained, trained_one
from icl_lib.mean_field.training import TrainConfig, Trained, train, train_one
from icl_lib.validate import ConfigError

D, K = 3, 2
BASE = TrainConfig(
    mode="joint",
    teacher=TeacherConfig("nonlinear", 8, D, K, 3.0, (1.0, 0.5), 1000),
    start=InitConfig("aligned", 12, D, K, 2.0, 1000),
    prompts=PromptConfig(n_context=20, n_query=4),
    seed=1000,
    n_prompts=60,
    batch=20,
    max_epochs=3,
)
CONFIGS = [BASE, replace(BASE, seed=1001, mode="static")]


def assert_same(one: Trained, two: Trained) -> None:
    assert one.configs == two.configs and one.converged == two.converged
    assert all(torch.equal(x, y) for x, y in zip(one.model.mu, two.model.mu, strict=True))
    assert torch.equal(one.model.attention, two.model.attention)
    pd.testing.assert_frame_equal(one.history, two.history)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epoch from which each piece of training that took place went on."""
    seen: list[int] = []
    real = runs_module.train_one

    def spy(config, start=None, *more, **options):  # type: ignore[no-untyped-def]
        seen.append(start.epoch if start else 0)
        return real(config, start, *more, **options)

    monkeypatch.setattr(runs_module, "train_one", spy)
    return seen


@pytest.mark.parametrize("jobs", [1, 2])
def test_equals_training_without_files(tmp_path: Path, jobs: int) -> None:
    assert_same(trained(CONFIGS, 2, jobs, tmp_path), train(CONFIGS, 2))


def test_trained_once(tmp_path: Path, epochs: list[int]) -> None:
    first = trained(CONFIGS, 2, 1, tmp_path)
    assert epochs == [0, 1, 2] * 2
    assert_same(trained(CONFIGS, 2, 1, tmp_path), first)
    assert epochs == [0, 1, 2] * 2


def test_a_folder_that_can_only_be_read_serves_what_is_complete(
    tmp_path: Path, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(CONFIGS, 2, 1, tmp_path)

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(store, "locked", refused)
    assert_same(trained(CONFIGS, 2, 1, tmp_path), first)
    assert epochs == [0, 1, 2] * 2
    with pytest.raises(PermissionError):
        trained([replace(BASE, seed=7)], 2, 1, tmp_path)


def test_interrupted_run_goes_on(tmp_path: Path, epochs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def stop(path: Path, run: runs_module.Run, key: str) -> None:
        save_run(path, run, key)
        if run[0].epoch == 2:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(runs_module, "save_run", stop)
        with pytest.raises(Stop):
            trained([BASE], 2, 1, tmp_path)
    assert_same(trained([BASE], 2, 1, tmp_path), train([BASE], 2))
    assert epochs == [0, 1, 2]


@pytest.mark.parametrize(
    "change",
    [{"seed": 7}, {"dt": 0.25}, {"mode": "attention"}, {"prompts": replace(BASE.prompts, noise=0.1)}],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_a_run_decides_its_file(change: dict) -> None:
    assert run_key(BASE, 2) != run_key(replace(BASE, **change), 2)
    assert run_key(BASE, 2) == run_key(replace(BASE), 2) != run_key(BASE, 3)
    assert run_key(replace(BASE, seed=np.int64(BASE.seed)), 2) == run_key(BASE, 2)


def test_library_code_decides_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_key(BASE, 2)
    monkeypatch.setattr(runs_module, "lineage", lambda trainer: "other")
    assert run_key(BASE, 2) != before


def tampered(path: Path) -> None:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors["a"][0, 0, 0] += 1e-9
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "damage", [tampered, lambda p: p.write_bytes(p.read_bytes()[:-9]), lambda p: p.write_bytes(b"")]
)
def test_damaged_file_is_not_believed(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    run = trained_one(BASE, 2, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    damage(file)
    with pytest.warns(UserWarning, match="damaged"):
        again = trained_one(BASE, 2, tmp_path)
    assert torch.equal(again[0].model.mu.w, run[0].model.mu.w)
    assert load_run(file, run_key(BASE, 2)) is not None


def test_a_file_under_a_wrong_name_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    assert load_run(file, "one") is None
    save_run(file, train_one(BASE, every=2), "one")
    with pytest.warns(UserWarning, match="not what its name says"):
        assert load_run(file, "two") is None


def test_divergence_is_named(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="w_rate=10000"):
        trained([replace(BASE, w_rate=1e4)], 2, 1, tmp_path)


def test_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jobs=0"):
        trained([BASE], 2, 0, tmp_path)
    with pytest.raises(ConfigError, match="configs=0"):
        trained([], 2, 1, tmp_path)
