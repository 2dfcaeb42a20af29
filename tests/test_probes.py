"""Probes see what a trainer does: they run every line that it can reach, and notice every bug planted in one."""

import ast
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from icl_lib import lineage, source
from icl_lib.lineage import reach
from tools.probes import TRAINERS

ROOT = Path(__file__).parents[1]
MUTANTS = yaml.safe_load((ROOT / "tools" / "mutants.yml").read_text(encoding="utf-8"))
# Of bugs in what a trainer may reach, those that cannot change a training.
UNNOTICED = {
    "held-out streams like all others": "training draws from no held-out stream",
    "mirrored block of a gradient": "the process takes gradients between two different measures only",
    "correlated patterns taken as orthogonal": "the trainer's patterns are orthogonal; Q1's are not",
    "second derivative of arcsin without z": "no training takes Hessian products",
    "Stein term's sign": "in a training the linear part enters twice, so that its sign cancels",
}
# Statements that no probe runs: by definition, how many and why none can move a training.
NEVER_RUN = {
    "icl_lib.device.check_device": (3, "asks for a GPU"),
    "icl_lib.errors.Diverged": (2, "an error"),
    "icl_lib.mean_field.training.Trainer.at": (2, "words of an error"),
    "icl_lib.paths.own_temporary": (4, "for machine code, on a file system without locks"),
    "icl_lib.rng.generator": (1, "of wide streams, which are switched off"),
    "icl_lib.rng.wide_state": (5, "of wide streams, which are switched off"),
    "icl_lib.softmax.descent.Ensemble.members": (3, "has the name of another attribute"),
    "icl_lib.softmax.descent.Ensemble.step": (1, "has the name of another attribute"),
    "icl_lib.softmax.descent.check_losses": (2, "words of an error"),
    "icl_lib.softmax.descent.descend": (1, "a device that is asked for"),
    "icl_lib.softmax.fused._fit": (1, "what does not fit is refused"),
    "icl_lib.softmax.gpt.forward": (1, "of the network, which training does not call"),
    "icl_lib.softmax.gpt_blocks.backward_pass": (1, "no prompt of a slice passes anything back: nothing is added"),
    "icl_lib.softmax.patterns.Patterns.label": (1, "has the name of another attribute"),
    "icl_lib.softmax.stack.forward": (1, "of the network, which training does not call"),
    "icl_lib.softmax.stack._backward_pass": (1, "no prompt of a slice passes anything back: nothing is added"),
    "icl_lib.softmax.training.learner": (1, "on a GPU; a probe does the same on the CPU"),
    "icl_lib.softmax.tasks.check_tasks": (1, "words of an error"),
    "icl_lib.twin.twinned": (2, "of a twin, which has a key of its own"),
    "icl_lib.validate._float": (2, "an integer that no float holds"),
}
MEASURE = """
import coverage, json, sys
run = coverage.Coverage(source=[sys.argv[1]], data_file=None)
run.start()
from tools import probes
for name in probes.TRAINERS:
    probes.digests(name)
run.stop()
print(json.dumps({file: run.analysis2(file)[3] for file in run.get_data().measured_files()}))
"""


def python(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")


@cache
def reached(trainer: str) -> dict[reach.Symbol, reach.Reached]:
    where, _, name = TRAINERS[trainer].entry.rpartition(".")
    return reach.reached([(where, name)], lineage.FILING)


def test_every_line_that_a_trainer_can_reach_is_run() -> None:
    done = python(ROOT, "-c", MEASURE, ROOT / "icl_lib")
    assert done.returncode == 0, done.stderr
    missed = {Path(file): set(lines) for file, lines in json.loads(done.stdout).items()}
    never: dict[str, int] = {}
    for trainer in TRAINERS:
        for (where, name), one in reached(trainer).items():
            file = source.module_file(where)
            statements = (n for tree in one.trees for n in ast.walk(tree) if isinstance(n, ast.stmt))
            if where in ("icl_lib.compiled", "icl_lib.locks") or any(
                "compiled" in map(ast.unparse, getattr(tree, "decorator_list", [])) for tree in one.trees
            ):
                continue  # machine code leaves no trace of lines; that its bugs are noticed is tested below
            lines = {n.lineno for n in statements if not isinstance(n, ast.Raise | ast.Pass) and hasattr(n, "lineno")}
            if file is not None and lines & missed.get(file, set()):
                never[f"{where}.{name}"] = len(lines & missed[file])
    assert never == {name: n for name, (n, _) in NEVER_RUN.items()}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for name in ("icl_lib", "book", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def plain(copy: Path) -> dict[str, dict[str, str]]:
    return json.loads(python(copy, "-m", "tools.probes").stdout)


def reaching(mutant: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trainers whose triggers a mutant moves."""
    where, known = ".".join(Path(mutant["file"]).with_suffix("").parts), reach.module
    near = [name for name in TRAINERS if where in {module for module, _ in reached(name)}]
    text = (ROOT / mutant["file"]).read_text(encoding="utf-8").replace(mutant["old"], mutant["new"])
    planted = reach.read(ast.parse(text))
    before = {name: lineage.trigger(TRAINERS[name].entry) for name in near}
    with monkeypatch.context() as patch:
        for place in (reach, lineage):
            patch.setattr(place, "module", lambda name: planted if name == where else known(name))
        now = {
            name: lineage.digest(reach.reached([tuple(TRAINERS[name].entry.rsplit(".", 1))], lineage.FILING))
            for name in near
        }
    return [name for name in near if now[name] != before[name]]


def digests(copy: Path, mutant: dict[str, str], trainers: list[str]) -> dict[str, dict[str, str]]:
    """What the probes of a copy with the bug give; of one that stops, nothing."""
    file = copy / mutant["file"]
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(mutant["old"], mutant["new"]), encoding="utf-8")
    try:
        done = python(copy, "-m", "tools.probes", *trainers)
    finally:
        file.write_text(text, encoding="utf-8")
    return json.loads(done.stdout) if done.returncode == 0 else {}


@pytest.mark.parametrize("name", [name for name, m in MUTANTS.items() if m["file"].startswith("icl_lib/")])
def test_every_bug_in_a_trainer_is_noticed(
    name: str, copy: Path, plain: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers = reaching(MUTANTS[name], monkeypatch)
    if not trainers:
        assert name not in UNNOTICED
        return
    found = digests(copy, MUTANTS[name], trainers)
    noticed = any(found.get(trainer) != plain[trainer] for trainer in trainers)
    assert noticed == (name not in UNNOTICED)


def test_probes_give_the_same_twice(copy: Path, plain: dict[str, dict[str, str]]) -> None:
    assert json.loads(python(copy, "-m", "tools.probes", "one layer", "features").stdout) == {
        name: plain[name] for name in ("one layer", "features")
    }


HARMLESS = [
    ("icl_lib/validate.py", 'raise ConfigError(f"{field}={value!r}: must be {allowed}")', 'raise ConfigError("no")'),
    ("icl_lib/mean_field/hessian.py", "DENSE = 600", "DENSE = 601"),
]


@pytest.mark.parametrize(("file", "old", "new"), HARMLESS)
def test_a_harmless_change_moves_no_trigger(file: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROOT / file).read_text(encoding="utf-8").count(old) == 1
    assert not reaching({"file": file, "old": old, "new": new}, monkeypatch)
