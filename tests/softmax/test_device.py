"""Training on another device: nothing is left behind on the way there and back, and a missing device is refused."""

import dataclasses
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from icl_lib.device import VARIABLE, compute_device
from icl_lib.provenance import moving, versions
from icl_lib.softmax import cache, curves, deep, descent, fused, model, network, training
from icl_lib.softmax.assumptions import Assumptions, train_under
from icl_lib.softmax.cache import ensemble_key, trained
from icl_lib.softmax.curves import steps_to_reach
from icl_lib.softmax.deep import DeepConfig, train_deep, trained_deep
from icl_lib.softmax.descent import Written
from icl_lib.softmax.gpt import GPTConfig
from icl_lib.softmax.model import ModelConfig, Params
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, Prompts
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig, initial_state, train_steps
from icl_lib.validate import ConfigError
from studies import Q4 as linear_attention
from studies.L9 import mass_history
from tests.softmax.pretend import GPU, MixedDevices, OnGpu, pretend_gpu

BASE = TrainConfig(
    tasks=uniform_cover(4, 1, 0),
    patterns=PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3),
    prompts=PromptConfig(n_context=6),
    model=ModelConfig(m=10, xi=0.3, a_scale=0.3),
    batch_size=16,
    n_steps=11,
)
CONFIGS = [dataclasses.replace(BASE, seed=s, step_size=1.0 + s, train_attention=s != 1) for s in range(3)]
OLD = [dataclasses.replace(c, fixed_prompts=30) for c in CONFIGS]  # drawn once
DEEP = DeepConfig(BASE.tasks, 0, BASE.patterns, BASE.prompts, GPTConfig(2, 2, 8, 6), batch_size=140, n_steps=2)
STACK = dataclasses.replace(DEEP, model=StackConfig(2, 10, 0.5, 0.3, 0.3), optimiser="sgd", step_size=0.3)
GPTS, STACKS = (
    [dataclasses.replace(c, seed=s, train_attention=s != 1) for s in range(2)] for c in (DEEP, STACK)
)  # two slices of prompts


def numbers(ensemble: Any) -> list[torch.Tensor]:
    return [*ensemble.params, ensemble.losses, *([ensemble.patterns.basis] if hasattr(ensemble, "patterns") else [])]


def assert_same(one: Any, two: Any) -> None:
    """The same numbers to the last bit, all of them on the CPU."""
    for x, y in zip(numbers(one), numbers(two), strict=True):
        assert type(y) is torch.Tensor and y.device.type == "cpu" and torch.equal(x, y)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """The pretended GPU as the device on which everything trains by default."""
    fused = importlib.import_module("torch.optim.optimizer")
    monkeypatch.setattr(fused, "_get_fused_kernels_supported_devices", lambda: ["cpu", GPU.type])

    @contextmanager
    def use() -> Iterator[list[str]]:
        with monkeypatch.context() as patch, pretend_gpu() as done:
            patch.setattr(descent, "compute_device", lambda: GPU)
            yield done

    return use


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU, too, trains by what a GPU would: the written-out backward pass."""
    monkeypatch.setattr(fused, "Learner", partial(Written, model.backward, training.sgd))


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("configs", [CONFIGS, OLD], ids=["fresh prompts", "fixed prompts"])
def test_the_model(configs: list[TrainConfig], gpu: Callable[[], Any]) -> None:
    here, states, weights = training.train(configs), [], []
    with gpu() as done:
        assert_same(here, training.train(configs, every=4, on_progress=states.append))
    assert len([name for name in done if "bmm" in name]) >= 10 * BASE.n_steps  # it did compute there
    assert [s.step for s in states] == [4, 8, 11]
    assert_same(train_steps(configs, initial_state(configs), 4), states[0])
    with gpu():  # resumed, with the weights of every step seen
        rest = train_steps(configs, states[0], 7, on_step=lambda params: weights.append(params.w_o.clone()))
    assert_same(states[-1], rest)
    assert all(type(w) is torch.Tensor for w in weights) and torch.equal(weights[-1], here.params.w_o)


@pytest.mark.parametrize("configs", [GPTS, STACKS], ids=["gpt", "stack"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_several_layers(configs: list[DeepConfig], optimiser: str, gpu: Callable[[], Any]) -> None:
    configs = [dataclasses.replace(c, optimiser=optimiser, step_size=0.01) for c in configs]
    here, seen = train_deep(configs), []
    with gpu() as done:
        there = train_deep(configs, lambda step, params: seen.append((step, type(params[0]))))
    assert_same(here, there)
    assert seen == [(1, torch.Tensor), (2, torch.Tensor)] and f"aten._fused_{optimiser}_.default" in done
    with gpu():
        assert_same(train_deep(configs, start=here.params), train_deep(configs, start=there.params, device="cpu"))


@pytest.mark.parametrize("backward", [model.backward, linear_attention.backward, linear_attention.backward_mean])
def test_changed_data(backward: Callable[..., Any], gpu: Callable[[], Any]) -> None:
    assumed = [Assumptions(0.3, 1.0, 0.2), Assumptions(), Assumptions(0.0, 0.5, 0.1)]
    here = train_under(CONFIGS, assumed, backward)
    with gpu() as done:
        assert_same(here, train_under(CONFIGS, assumed, backward))
    assert len([name for name in done if "bmm" in name]) >= 5 * BASE.n_steps


@pytest.mark.usefixtures("written")
def test_what_measures_while_training(gpu: Callable[[], Any]) -> None:
    """Learning curves, steps to a loss, attention layer by layer: all that trains without the cache, too."""
    tasks = [all_tasks(4)] * 3

    def measured() -> list[pd.DataFrame]:
        reach = [dataclasses.replace(c, n_steps=24, train_attention=True) for c in CONFIGS]
        return [
            curves.learning_curve(CONFIGS, tasks, BASE.prompts, 4, 50),
            steps_to_reach(reach, tasks, BASE.prompts, [0.9, 0.01]),
            mass_history(GPTS, tasks[:2], BASE.prompts, 1)[0],
        ]

    here = measured()
    assert here[1]["steps"].notna().any()
    with gpu():
        there = measured()
    for one, two in zip(here, there, strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.usefixtures("written")
def test_the_cache(tmp_path: Path, gpu: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained elsewhere has a name of its own, and is read like everything else."""
    here, here_deep = trained(CONFIGS, tmp_path), trained_deep(STACKS, tmp_path)
    names = {file.name for file in tmp_path.glob("*.safetensors")}
    monkeypatch.setenv(VARIABLE, "cuda")
    with gpu() as done:
        assert_same(here, trained(CONFIGS, tmp_path, save_every=5))
        assert_same(here_deep, trained_deep(STACKS, tmp_path))
    assert done and len(names) == 2 and len(list(tmp_path.glob("*.safetensors"))) == 4
    with gpu() as done:
        assert_same(here, trained(CONFIGS, tmp_path))
        assert_same(here_deep, trained_deep(STACKS, tmp_path))
    assert not done  # read


@pytest.mark.parametrize("left", [Prompts, Params, "patterns", "tables", "result"])
def test_what_is_left_behind_is_found(left: Any, gpu: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: each of the moves left out is seen."""
    real, tables = descent.moved, model._tables

    def forgetful(tensors: Any, device: Any) -> Any:
        forgets = device == "cpu" if left == "result" else device == GPU and type(tensors) is left
        return tensors if forgets else real(tensors, device)

    def with_patterns_of_the_cpu(params: Any, patterns: Any, prompts: Any) -> Any:
        return tables(params, descent.stacked_patterns(CONFIGS), prompts)

    def with_a_table_of_the_cpu(params: Any, patterns: Any, prompts: Any) -> Any:
        found = tables(params, patterns, prompts)
        return found._replace(asked=torch.zeros(found.asked.shape).scatter_(2, prompts.query_parts, 1.0))

    monkeypatch.setattr(descent, "moved", forgetful)
    if left in ("patterns", "tables"):
        wrong = with_patterns_of_the_cpu if left == "patterns" else with_a_table_of_the_cpu
        monkeypatch.setattr(model, "_tables", wrong)
    with gpu():
        if left == "result":
            assert isinstance(train_steps(CONFIGS, initial_state(CONFIGS), 1).params.w_o, OnGpu)
        else:
            with pytest.raises(MixedDevices):
                train_steps(CONFIGS, initial_state(CONFIGS), 1)


@pytest.mark.parametrize("configs", [GPTS, STACKS])
def test_a_forgotten_table_of_several_layers_is_found(
    configs: list[DeepConfig], gpu: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "codes_of", lambda prompts, n: torch.zeros(*prompts.label.shape, n))
    with gpu(), pytest.raises(MixedDevices):
        train_deep(configs)


def test_random_numbers_of_the_gpu_are_refused_by_the_pretended_one() -> None:
    with pretend_gpu(), pytest.raises(MixedDevices):
        torch.zeros(3).to(GPU).random_(generator=torch.Generator())


@pytest.mark.parametrize(
    ("name", "gpus", "allowed"),
    [
        ("gpu", 1, "'cpu', 'cuda' or 'cuda:N'"),
        ("", 1, "'cpu', 'cuda' or 'cuda:N'"),
        ("cuda:-1", 1, "'cpu', 'cuda' or 'cuda:N'"),
        ("cuda", 0, "'cpu', torch sees no GPU here"),
        ("cuda:2", 2, "'cpu' or 'cuda' or 'cuda:0' or 'cuda:1'"),
    ],
)
def test_what_is_no_device(name: str, gpus: int, allowed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    for train_one in (lambda: training.train(CONFIGS), lambda: train_deep(GPTS)):
        with pytest.raises(ConfigError) as error:
            train_one()
        assert str(error.value) == f"device={name!r}: must be {allowed}"


def test_which_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    plain, keys = versions(), set()
    for name, device in ((None, "cpu"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1")):
        if name:
            monkeypatch.setenv(VARIABLE, name)
        else:
            monkeypatch.delenv(VARIABLE, raising=False)
        assert str(compute_device()) == device
        assert versions() == (plain if device == "cpu" else {**plain, "device": device})
        keys |= {ensemble_key(CONFIGS), ensemble_key(GPTS, deep.TRAINER)}
    assert len(keys) == 2 * 3 and "device" not in plain and cache.moving is moving
