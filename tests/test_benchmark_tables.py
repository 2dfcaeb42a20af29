"""The runner, the tables of ratios and shares, fits and the report between releases, on made-up times."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import case as runner
from benchmarks import page, report, results, scaling
from benchmarks.case import COLUMNS, Case, Size, sizes

PUBLISHED = Size("n", 10, 1)


def table(*rows: tuple) -> pd.DataFrame:
    """Rows (benchmark, variant, factor, value, unit, repetition) with axis "n" and published size 10."""
    return pd.DataFrame([(b, v, "n", 10 * f, f, x, unit, r) for b, v, f, x, unit, r in rows], columns=COLUMNS)


def timed(benchmark: str, variant: str, *seconds: float, factor: float = 1) -> list[tuple]:
    return [(benchmark, variant, factor, s, "s per call", r) for r, s in enumerate(seconds)]


def test_cases_take_turns_and_long_ones_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case warms up; one that has used up its time pauses, but not before three repetitions; short calls come in pairs."""
    clock: list[float] = [0.0]
    calls: list[str] = []
    monkeypatch.setattr(runner.time, "process_time", lambda: clock[0])

    def case(name: str, seconds: float) -> Case:
        def call() -> None:
            clock[0] += seconds
            calls.append(name)

        return Case("path", name, PUBLISHED, "s per step", call, work=2)

    rows = runner.take_turns([case("short", 0.5), case("long", runner.BUDGET)], 5)
    assert calls == ["short", "long"] * 4 + ["short"] * 2
    assert [row[7] for row in rows if row[1] == "long"] == [0, 1, 2]
    assert {row[5] for row in rows if row[1] == "short"} == {0.25}  # per unit of work
    calls.clear()
    runner.take_turns([case("quick", runner.QUICK / 2), case("short", 0.5)], 1)
    assert calls == ["quick", "short", "quick", "quick", "short"]


def test_sizes_are_an_eighth_to_eight_times_the_published_one() -> None:
    assert [(s.value, s.factor) for s in sizes("N", 16)] == [(2 * 2**i, 2.0 ** (i - 3)) for i in range(7)]
    assert [s.value for s in sizes("m", 100, even=True)] == [12, 24, 50, 100, 200, 400, 800]
    assert [(s.value, s.factor) for s in sizes("l", 20, least=3)][:2] == [(3, 0.15), (5, 0.25)]


def test_ratios_are_taken_within_a_repetition() -> None:
    found = results.compared(
        table(
            *timed("path", "ours", 1, 2, 4),
            *timed("path", "theirs", 3, 6, 4),
            *timed("other", "theirs", 1),
            ("path", "theirs", 1, 1e-7, "difference", 0),
            ("path", "theirs", 1, 1e-3, "tolerance", 0),
        )
    )
    (row,) = found.to_dict("records")
    assert (row["benchmark"], row["against"], row["ours"], row["theirs"]) == ("path", "theirs", 2, 4)
    assert (row["of_minima"], row["low"], row["median"], row["high"]) == (3, 2, 3, 3)
    assert (row["difference"], row["tolerance"]) == (1e-7, 1e-3)
    assert page.losses(found).empty
    slower = results.compared(table(*timed("path", "ours", 4), *timed("path", "theirs", 1)))
    assert page.losses(slower)[["sizes", "worst ratio"]].to_numpy().tolist() == [["10", 0.25]]


def machine(name: str, seconds: float) -> tuple:
    return ("machine", name, 1, seconds, "s per 10^9 flop", 0)


def test_share_of_the_peak() -> None:
    """4 Gflop in 2 s where large products take 0.1 s per Gflop: a fifth."""
    of = results.shares(
        table(
            *timed("path", "ours", 2, 3),
            ("path", "ours", 1, 4e9, "flop, float64", 0),
            ("path", "ours", 1, 1e9, "byte", 0),
            machine("GEMM, float32", 0.05),
            machine("GEMM, float64", 0.1),
            machine("copy, arrays of the training step", 0.25),
        )
    ).set_index("of")
    assert of.loc["GEMM", ["G_a_second", "share"]].tolist() == pytest.approx([2, 0.2])
    assert of.loc["copy in cache", "share"] == pytest.approx(0.125)


def test_exponents() -> None:
    """A power law exactly; with noise, an interval that holds the exponent and is not narrow."""
    size = np.array([1.0, 2, 4, 8, 16, 32, 64])
    assert scaling.exponent(size, 3 * size**1.5) == pytest.approx((1.5, 1.5, 1.5))
    noise = np.exp(0.2 * np.array([1, -1, 1, -1, 1, -1, 1]))
    found, low, high = scaling.exponent(size, size**2 * noise)
    assert low < 2 < high and 0.1 < high - low < 1 and low < found < high


def test_constant_costs_show_in_the_lower_half_only() -> None:
    size = 10 * np.array([0.125, 0.25, 0.5, 1, 2, 4, 8])
    data = pd.DataFrame({"size": size, "factor": size / 10, "value": np.maximum(10.0, size) ** 2})
    fits = scaling.exponents(data.assign(against="N", quantity="seconds", variant="ours")).iloc[0]
    assert fits["exponent"] < 1.5 and fits["exponent, upper half"] == pytest.approx(2)


def test_report_says_what_is_slower_beyond_the_spread() -> None:
    before = table(
        *timed("same", "ours", 1.0, 1.1, 1.2),
        *timed("slower", "ours", 1.0, 1.01, 1.02),
        *timed("faster", "ours", 1.0, 1.01, 1.02),
        *timed("gone", "ours", 1),
        *timed("same", "theirs", 1),
    )
    now = table(
        *timed("same", "ours", 1.05, 1.15, 1.25),
        *timed("slower", "ours", 2.0, 2.02, 2.04),
        *timed("faster", "ours", 0.5, 0.505, 0.51),
        *timed("new", "ours", 1),
        *timed("same", "theirs", 9),
    )
    found = report.against(now, before).set_index("benchmark")
    assert found["verdict"].to_dict() == {"same": "within the spread", "slower": "slower", "faster": "faster"}
    assert found.loc["slower", "ratio"] == pytest.approx(2) and found.loc["faster", "ratio"] == pytest.approx(0.5)
    total = report.summary(found.reset_index()).set_index("benchmark")
    assert total["slower"].to_dict() == {"same": 0, "slower": 1, "faster": 0}


def test_report_against_the_last_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Versions are numbers, not text; without a release there is nothing to compare with."""
    monkeypatch.setattr(report, "RELEASES", folder := tmp_path / "releases")
    monkeypatch.setattr(report, "FILE", now := tmp_path / "results.csv")
    monkeypatch.setattr(report, "load", lambda file=now: results.load(file))
    monkeypatch.setattr(report, "last_release", lambda find=report.last_release: find(folder))
    table(*timed("path", "ours", 1.0, 1.0)).to_csv(now, index=False)
    report.main([])
    assert "no release" in capsys.readouterr().out
    for version in ("0.9.0", "0.10.0"):
        report.main(["--keep", version])
    table(*timed("path", "ours", 3.0, 3.0)).to_csv(now, index=False)
    report.main([])
    said = capsys.readouterr().out
    assert "release 0.10.0" in said and "3.0" in said and "slower" in said
    with pytest.raises(SystemExit, match="a version such as"):
        report.main(["--keep", "../latest"])
    assert sorted(file.name for file in folder.iterdir()) == ["0.10.0.csv", "0.9.0.csv"]


def test_sweeps_are_compared_block_by_block() -> None:
    """Efficiency: one worker's time over twice that of two, the median over blocks; what a run costs: all but its cells."""
    rows = [
        ("run", "L5", "before the first cell", 2),
        ("run", "L5", "cells", 10),
        ("run", "L5", "after the last cell", 3),
    ]
    rows += [
        ("sweep", "", f"{n} worker{'s' * (n > 1)}", s) for n, s in [(1, 8), (2, 5), (1, 9), (2, 5), (1, 8), (2, 4)]
    ]
    rows += [("machine", "", "1 process", 9), ("machine", "", "2 processes", 10)]
    of = pd.DataFrame([*rows, ("resume", "", "1 000 points", 3)], columns=["kind", "of", "case", "seconds"])
    found = page.rerun(of).set_index("measured")
    assert found.loc["icl run L5: all else", "ratio"] == 0.5
    assert found.loc["sweep of 64 points, 2 workers", ["seconds", "ratio", "reached"]].tolist() == [14, 0.9, True]
    assert found.loc["two processes that only compute", "ratio"] == 0.9
    assert not found.loc["resuming 1 000 finished points", "reached"]


@pytest.mark.skipif(not results.FILE.is_file(), reason="no results.csv: run make bench")
def test_recorded_results_are_tidy_and_complete() -> None:
    """One row per measurement; every hot path has alternatives from 1/8 to 8 times its size that do the same work."""
    found = results.load()
    assert list(found) == COLUMNS and not found.duplicated(COLUMNS[:4] + COLUMNS[6:]).any()
    assert (results.timings(found)["value"] > 0).all()
    of = results.compared(found)
    assert (of.dropna(subset="tolerance")["difference"] <= of.dropna(subset="tolerance")["tolerance"]).all()
    for benchmark, part in of.groupby("benchmark"):
        if benchmark not in ("training run", "GPT-2, settled", "GPT-2, whole run"):
            assert part["factor"].min() <= 0.16 and part["factor"].max() == 8, benchmark
    assert len(page.at_size(of, 1)) >= 30 and not page.targets(found).empty
    assert math.isfinite(scaling.exponents(scaling.grown(found))["exponent"].sum())
    uncounted = {"GPT-2, whole run", "velocity, default allocator", "training run", "Hessian product"}
    assert set(page.share_of_peak(found).index) >= set(of["benchmark"]) - uncounted
