"""The recipes of chapters/reproduce.md, run as they stand there on a small book whose chapter L1 has the real parameters."""

import json
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from book import registry, sweep
from book.cli import pairs, parser
from book.parameters import load_table
from tests.book.test_verify import commit_outputs
from tests.book.toy import LIBRARY, environment, icl, lines, make_book

PAGE = (LIBRARY / "chapters/reproduce.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S))
SLURM, DASK = "A SLURM cluster", "An existing Dask scheduler, and what it exposes"


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTIONS[section], flags=re.M | re.S)


def executable(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book with a chapter L1, and the commands of an environment in .venv/bin."""
    real = registry.find("L1", LIBRARY)
    cells = json.loads(real.notebook.read_text())["cells"]
    (parameters,) = ("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    table = yaml.safe_dump({"toy/L1_toy": load_table(LIBRARY)[real.label]}, sort_keys=False)
    folder = make_book(tmp_path_factory.mktemp("recipes") / "book", "L1", parameters + "\npause = 0", table)
    for name, module in (("icl", "book.cli"), ("python", ""), ("dask", "dask")):
        call = f'"{sys.executable}" ' + (f"-m {module} " if module else "")
        executable(folder / ".venv/bin" / name, f'exec {call}"$@"')
    return folder


def shell(folder: Path, script: str, **more: str) -> str:
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, env={**environment(), **more}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_five_recipes_and_no_block_that_is_not_run() -> None:
    assert list(SECTIONS)[:5] == [
        "One chapter with other parameters", "More seeds", "A GPU", "A sweep on a laptop", SLURM,
    ]  # fmt: skip
    counted = {name: len(re.findall(r"^```\w", text, flags=re.M)) for name, text in SECTIONS.items()}
    assert {name: n for name, n in counted.items() if n} == {
        "One chapter with other parameters": 1, "More seeds": 1, "A GPU": 1, "A sweep on a laptop": 1, SLURM: 1,
        DASK: 3, "From Python": 1, "Does it come out again?": 1,
    }  # fmt: skip
    assert "not run on a real cluster" in SECTIONS[SLURM] and "not run on a real GPU" in SECTIONS["A GPU"]


def test_what_the_commands_ask_for_is_allowed_in_the_real_chapters() -> None:
    commands = [line for line in PAGE.splitlines() if line.startswith(".venv/bin/icl ")]
    assert len(commands) >= 7
    for command in commands:
        args = parser().parse_args(shlex.split(command)[1:])
        if args.command in ("run", "sweep"):
            chapter = registry.find(args.chapter, LIBRARY)
            given = pairs(chapter, args.given)
            assert sweep.plan(chapter, getattr(args, "grid", []), given, args.seeds).jobs


def test_one_chapter_with_other_parameters(small: Path) -> None:
    said = shell(small, *blocks("One chapter with other parameters", "sh"))
    assert "alpha: float = 0.8" in said and "exploratory: alpha = 0.5, batch_sizes = [2, 128]" in said
    assert {"L1_toy.ipynb", "L1_toy.html", "provenance.json", "L1"} == {
        p.name for p in (small / "_build/mine").iterdir()
    }
    assert json.loads((small / "_build/mine/provenance.json").read_text())["exploratory"]
    assert not (small / "figures").exists()


def test_more_seeds(small: Path) -> None:
    assert "exploratory: n_seeds = 20" in shell(small, *blocks("More seeds", "sh"))


def test_a_gpu_is_refused_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the book itself: nothing is started."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # also where there is one
    (block,) = blocks("A GPU", "console")
    dialogue = block.strip().split("\n")
    assert len(dialogue) == 4
    for asked, answer in zip(dialogue[::2], dialogue[1::2], strict=True):
        done = icl(LIBRARY, *shlex.split(asked.removeprefix("$ .venv/bin/icl ")))
        assert (done.returncode, done.stdout, done.stderr.strip()) == (2, "", answer)


def test_a_sweep_on_a_laptop(small: Path) -> None:
    said = shell(small, *blocks("A sweep on a laptop", "sh"))
    assert said.count("4 of 4 points finished, 0 failed, 0 missing") == 2
    assert (small / "_build/sweeps/L1-alpha-beta/report.html").is_file()


def test_verify(small: Path, tmp_path: Path) -> None:
    shell(small, f".venv/bin/icl run L1 --out {tmp_path / 'run'}")
    copied = tmp_path / "book"
    shutil.copytree(small, copied, ignore=shutil.ignore_patterns("_build"))
    commit_outputs(copied, tmp_path / "run", "L1")
    assert shell(copied, *blocks("Does it come out again?", "sh")).startswith("L1: same (4 results compared")


def test_from_python(small: Path) -> None:
    (script,) = blocks("From Python", "python")
    (small / "script.py").write_text(script)
    first, second, *rest = lines(shell(small, ".venv/bin/python script.py"))
    assert first.startswith("reproduced True ") and second.startswith("2 {} alpha,clause,quantity")
    assert len(rest) == 4 and rest[0].startswith("0.4,slope,value,0.8,")


def test_slurm_with_a_stand_in(small: Path, tmp_path: Path) -> None:
    (script,) = blocks(SLURM, "python")
    (small / "slurm.py").write_text(script.replace('"ib0"', '"lo"'))  # this machine has no InfiniBand
    submit = 'cp "$1" $JOBS/$$.sh; setsid sh "$JOBS/$$.sh" > $JOBS/$$.log 2>&1 & echo $! > $JOBS/$!.pid'
    executable(tmp_path / "bin/sbatch", f"{submit}; echo Submitted batch job $!")
    executable(tmp_path / "bin/scancel", 'for job; do kill -- -$(cat "$JOBS/$job.pid"); done')
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    said = shell(small, ".venv/bin/python slurm.py", PATH=path, JOBS=str(tmp_path))
    assert lines(said)[-1] == "3 of 3 points finished"
    jobs = [file.read_text() for file in tmp_path.glob("*.sh")]
    assert len(jobs) == 2
    for wanted in ("#SBATCH -p short", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=4G", "#SBATCH -t 02:00:00"):
        assert all(wanted in lines(job) for job in jobs)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def cluster(small: Path, tmp_path: Path) -> Iterator[tuple[list[subprocess.Popen[bytes]], str]]:
    """Scheduler and workers of the page, encrypted, on an address of this machine; and the sweep for them."""
    commands, keys = blocks(DASK, "sh")
    (config,) = blocks(DASK, "yaml")
    (small / "dask.yml").write_text(config)
    shell(small, keys)
    assert stat.S_IMODE((small / "dask.key").stat().st_mode) == 0o600
    text = commands.replace("10.0.0.5", "127.0.0.1").replace("tcp://", "tls://")
    ports = {port: free_port() for port in (8786, 8787)}
    for port, free in ports.items():
        text = text.replace(str(port), str(free))
    scheduler, worker, command = lines(text)
    running = [
        subprocess.Popen(
            shlex.split(started), cwd=small, env={**environment(), "DASK_CONFIG": "dask.yml"}, stderr=subprocess.DEVNULL
        )
        for started in (f"{scheduler} --protocol tls", worker)
    ]
    end = time.monotonic() + 120
    while not listens(ports[8786]):
        assert time.monotonic() < end, "the scheduler did not start"
        time.sleep(0.1)
    yield running, command
    for process in reversed(running):
        process.terminate()
        process.wait()


def test_dask_listens_where_it_is_told_and_to_who_has_the_key(
    small: Path, cluster: tuple[list[subprocess.Popen[bytes]], str], tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    running, command = cluster
    said = shell(small, f"{command} --out {tmp_path / 'sweep'}", DASK_CONFIG="dask.yml")
    assert "3 of 3 points finished" in said
    dask = [psutil.Process(process.pid) for process in running]
    dask += [child for process in dask for child in process.children(recursive=True)]
    heard = {c.laddr.ip for each in dask for c in each.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert heard == {"127.0.0.1"}

    plain = command.replace("tls://", "tcp://").replace("alpha=0.4", "alpha=0.3")
    for tried in (plain, plain.replace("tcp://", "tls://")):  # both without the certificates
        done = subprocess.run(shlex.split(tried), cwd=small, env=environment(), capture_output=True, text=True)
        assert done.returncode in (1, 2) and len(lines(done.stderr)) == 1, done.stderr
        assert "finished, 0 failed, 0 missing" not in done.stdout
