"""A twin starts 1e-7 of its size elsewhere, is marked as one, and is never taken for the run itself."""

import json
from pathlib import Path

import pytest
import torch

from book import words
from book.execute import variables
from icl_lib import provenance
from icl_lib.mean_field.changes import displace, isotropic
from icl_lib.mean_field.measure import InitConfig, initial_particles
from icl_lib.softmax.cache import ensemble_key
from icl_lib.softmax.deep import DeepConfig, initial_params
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, initial_state, train
from icl_lib.twin import SIZE, VARIABLE, twinned
from reliability import twins

RUNS = [TrainConfig(uniform_cover(6, 3, seed), seed=seed, n_steps=2) for seed in range(2)]
DEEP = [DeepConfig(run.tasks, run.seed, model=StackConfig(m=10, depth=2)) for run in RUNS]
POINTS = [InitConfig(n=20, d=4, k=2, seed=seed) for seed in range(2)]


def starts() -> dict[str, tuple[torch.Tensor, ...]]:
    mu = initial_particles(POINTS)
    moved = displace(mu._replace(a=0 * mu.a, w=0 * mu.w), isotropic(mu, [0, 1]), 0.1)
    return {
        "one layer": tuple(initial_state(RUNS).params),
        "deep": tuple(initial_params(DEEP)),
        "particles": (mu.a, mu.w),
        "displacement": (moved.a, moved.w),
    }


def test_every_start_moves_by_its_size_and_what_is_zero_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = starts()
    monkeypatch.setenv(VARIABLE, "1")
    for name, parts in starts().items():
        for before, after in zip(plain[name], parts, strict=True):
            relative = ((after - before) / before)[before != 0]
            assert before.dtype == after.dtype and torch.equal(before == 0, after == 0)
            assert 0.3 * SIZE < relative.square().mean().sqrt() < 2 * SIZE, name
    assert all(map(torch.equal, *(starts()["one layer"] for _ in range(2))))


def test_a_member_of_a_twin_is_the_twin_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    both, alone = train(RUNS), train(RUNS[1:])
    assert torch.equal(both.params.w_qkv[1:], alone.params.w_qkv) and torch.equal(both.losses[1:], alone.losses)
    assert torch.equal(initial_particles(POINTS).w[1:], initial_particles(POINTS[1:]).w)


def test_a_twin_is_marked_and_has_its_own_place_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ensemble_key(RUNS)
    assert "twin" not in provenance.versions() and twinned(torch.ones(1), 0) == 1
    monkeypatch.setenv(VARIABLE, "1")
    assert provenance.versions()["twin"] == "1e-07" and ensemble_key(RUNS) != plain


def test_a_kernel_is_a_twin_only_when_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "1")  # left over in somebody's shell
    assert not variables(tmp_path, tmp_path, None)[VARIABLE]
    assert variables(tmp_path, tmp_path, None, twin=True)[VARIABLE]


def result(estimate: float, verdict: str = "reproduced") -> dict[str, object]:
    value = {"estimate": estimate, "low": estimate - 0.2, "high": estimate + 0.2, "n": 10}
    exact = {"estimate": 1.0, "low": 1.0, "high": 1.0, "n": 10}
    return {"claim": "L1", "clauses": {"a": {"value": value, "control": exact, "verdict": verdict}}}


def test_moves_are_in_half_widths_and_verdicts_side_by_side() -> None:
    value, control = twins.moves(result(0.5), result(0.6, "partly"), "recorded")
    assert value.moved == pytest.approx(0.5) and (value.verdict, value.twin_verdict) == ("reproduced", "partly")
    assert control.moved == 0


def test_the_recorded_table_has_every_clause_of_its_claims() -> None:
    for file in Path("figures").glob("*/result.json"):
        clauses = json.loads(file.read_text(encoding="utf-8"))["clauses"]
        found = words.moves(Path.cwd(), file.parent.name)
        assert not found or found.keys() == clauses.keys(), file
