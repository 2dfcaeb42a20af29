"""``--device``: it travels to the kernel, has results of its own, and is refused where it is not there.

No GPU is needed: the chapter here only writes down on which device it is to train, and the search for a GPU is made up.
"""

import json
from pathlib import Path

import nbformat
import pytest
import torch

from book import cli, sweep, workers
from book import run as runs
from book.gather import gather
from book.registry import ChapterFile, find
from icl_lib.validate import ConfigError
from tests.book.toy import CODE, lines, make_book

# It says that it trains, but spends no time on it.
TRAINS = f"""import os
if False:
    import icl_lib.softmax.training
    icl_lib.softmax.training.train
{CODE}
(folder / "device.csv").write_text(os.environ["ICL_DEVICE"])"""


@pytest.fixture
def chapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChapterFile:
    folder = make_book(tmp_path / "book", code=TRAINS)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ICL_DEVICE", "cuda:7")  # only what the command says counts
    return find("T1", folder)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_a_run_is_told_and_stamped(
    chapter: ChapterFile, tmp_path: Path, two_gpus: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in ("cpu", "cuda:1"):
        assert cli.main(["run", "T1", "--device", device, "--out", str(tmp_path / device)]) == 0
        out, other = tmp_path / device, device != "cpu"
        assert (out / "T1/device.csv").read_text() == device
        record = json.loads((out / "provenance.json").read_text())
        assert record["exploratory"] is other and record["changed"] == ({"device": device} if other else {})
        assert record["versions"].get("device") == (device if other else None)
        assert ("device cuda:1" in record["machine"]) is other and "device" not in record["parameters"]
        first = nbformat.read(out / "T1_toy.ipynb", as_version=4).cells[0].source
        assert ("**Exploratory run**, not at the ledger's setting: device = cuda:1." in first) is other
        assert ("exploratory: device = cuda:1" in capsys.readouterr().out) is other
    plain = json.loads((tmp_path / "cpu/provenance.json").read_text())
    assert plain["key"] != record["key"] and plain["parameters"] == record["parameters"]


def test_points_of_a_sweep(chapter: ChapterFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device goes along with a point, through JSON, to the process that computes it."""
    plans = {d: sweep.plan(chapter, ["alpha=0.25,0.5"], device=d) for d in ("cpu", "cuda", "cuda:1")}
    assert len({job.key for plan in plans.values() for job in plan.jobs}) == 6
    names = ["T1-alpha", "T1-alpha-cuda", "T1-alpha-cuda1"]
    assert [plan.folder.name for plan in plans.values()] == names

    here, there = plans["cpu"], sweep.plan(chapter, ["alpha=0.25"], out=plans["cpu"].folder, device="cuda")
    assert len(sweep.run(here, jobs=2).finished) == 2
    with pytest.raises(sweep.Stopped, match="device='cuda': must be 'cpu', torch sees no GPU here"):
        sweep.run(there)  # in the worker, as on another machine
    assert not list(there.folder.rglob("failed/*")) and not list(there.folder.rglob("work/*"))

    asked: list[int] = []

    def local(requests: list[workers.Request], jobs: int) -> object:
        asked.append(jobs)
        for request in requests:
            again = workers._request(workers.request_text(request))
            assert again == request
            yield request, workers.work_on(again)

    monkeypatch.setattr(workers, "local", local)
    monkeypatch.setattr(workers, "check_device", lambda device: None)
    found = sweep.run(there)
    assert asked == [1] and len(found.finished) == 1  # one point at a time on one GPU
    (key,) = found.finished
    assert (there.folder / "points" / key / "T1/device.csv").read_text() == "cuda"
    assert len(list((there.folder / "points").iterdir())) == 3  # beside those of the CPU

    known = sweep.known_jobs(there.folder, chapter.book)[1]  # the table is about one device
    assert known == list(there.jobs)
    gather(there.folder, sweep.state(there.folder, known))
    assert all(",True,points/" in line for line in lines((there.folder / "table.csv").read_text())[1:])
    assert len(sweep.state(here.folder, here.jobs).finished) == 2


def test_refused_before_anything_starts(chapter: ChapterFile, tmp_path: Path, two_gpus: None) -> None:
    for start in (lambda d: runs.run(chapter, {}, device=d), lambda d: sweep.plan(chapter, [], device=d)):
        with pytest.raises(ConfigError, match=r"^T1: device='tpu': must be 'cpu', 'cuda' or 'cuda:N'$"):
            start("tpu")
    with pytest.raises(ConfigError, match=r"^T1: device='cuda:2': must be 'cpu' or 'cuda' or 'cuda:0' or 'cuda:1'$"):
        runs.run(chapter, {}, device="cuda:2")
    with pytest.raises(ConfigError, match="^T1: device='cuda': must be 'cpu', this chapter trains nothing"):
        sweep.plan(find("T1", make_book(tmp_path / "other")), [], device="cuda")
    assert not (chapter.book / "_build").exists()
