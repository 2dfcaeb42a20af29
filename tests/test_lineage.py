"""A trigger moves with what a function can reach and computes, and with nothing else."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from book import identity
from book.notebooks import chapter_files
from book.registry import chapters
from icl_lib import lineage, source
from icl_lib.lineage import reach
from icl_lib.validate import ConfigError

A = '''"""A module."""
from typing import TYPE_CHECKING
import torch
from icl_lib import b
from icl_lib.b import scaled as grown, Config
from icl_lib.validate import require
if TYPE_CHECKING:
    from icl_lib.c import Later

STEPS = 3
UNUSED = 4

def train(config: Config, x: float, later: "Later | None" = None) -> float:
    """Train."""
    require(x > 0, "x", x, "above 0")
    if x > 9:
        raise ValueError(f"too large: {x}")
    for _ in torch.arange(STEPS):
        x = grown(x) + b.shift(x)
    return x * config.rate()

def other() -> int:
    return UNUSED
'''
B = """from icl_lib.c import scaled
from dataclasses import dataclass

@dataclass
class Config:
    size: int = 1

    def __post_init__(self) -> None:
        require(self.size > 0, "size", self.size, "above 0")

    def rate(self) -> float:
        return 0.5 * self.size

def shift(x):
    from icl_lib.c import OFFSET
    return x - OFFSET

def unreached(x):
    return x
"""
C = """OFFSET = 1.0

def scaled(x, factor=2.0):
    return factor * x

class Later:
    pass
"""


@pytest.fixture
def of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """The trigger of ``icl_lib.a.train`` in a library of three modules, some of them other than above."""

    def trigger(a: str = A, b: str = B, c: str = C, name: str = "icl_lib.a.train", **more: str) -> str:
        sources = {f"icl_lib.{key}": text for key, text in {"a": a, "b": b, "c": c, **more}.items()}
        sources |= {"icl_lib": "", "icl_lib.validate": "def require(*values):\n    pass\n"}
        for place in (lineage, reach):
            monkeypatch.setattr(place, "module_file", lambda name: Path(name) if name in sources else None)
            monkeypatch.setattr(
                place, "module", {key: reach.read(ast.parse(t)) for key, t in sources.items()}.__getitem__
            )
        forget()
        return lineage.trigger(name)

    monkeypatch.setattr(lineage, "check", lambda found: None)  # there are no files
    yield trigger
    forget()


def forget() -> None:
    for cached in (
        lineage._found,
        lineage._digest,
        identity._chapter,
        identity._chapter_digest,
        reach.module,
        reach.doing,
    ):
        getattr(cached, "cache_clear", lambda: None)()


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("a", "too large: {x}", "larger than {x}"),
        ("a", '    """Train."""\n', ""),
        ("a", "x: float, later", "x: int, later"),
        ("a", '"x", x, "above 0")', '"y", 3, "positive")'),
        ("a", "UNUSED = 4", "UNUSED = 5"),
        ("a", "    return UNUSED", "    return 0"),
        ("a", "import torch\n", "import torch\nimport numpy\n"),
        ("a", "STEPS = 3", "STEPS: int = 3  # of them"),
        ("b", "def unreached(x):\n    return x", "def unreached(x):\n    return 2 * x"),
        ("b", '"above 0"', '"positive"'),
        ("c", "pass", "x = 1"),
    ],
)
def test_what_moves_no_number_moves_no_trigger(of: Callable[..., str], module: str, old: str, new: str) -> None:
    source = {"a": A, "b": B, "c": C}[module]
    assert old in source
    if module == "c":  # known by its type alone, it may be called: it counts
        assert of() != of(c=source.replace(old, new))
    else:
        assert of() == of(**{module: source.replace(old, new)})


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("a", "x > 9", "x > 8"),
        ("a", "STEPS = 3", "STEPS = 4"),
        ("a", "+ b.shift", "- b.shift"),
        ("a", '    require(x > 0, "x", x, "above 0")\n', ""),  # somebody may catch it
        ("a", "require(x > 0", "require(x > 1"),
        ("a", "import torch\n", "import numpy as torch\n"),
        ("b", "x - OFFSET", "x + OFFSET"),
        ("b", "0.5 * self.size", "0.25 * self.size"),
        ("b", "size: int = 1", "size: int = 2"),
        ("b", "@dataclass\n", "@dataclass(frozen=True)\n"),
        ("b", "class Config:", "class Config(int):"),
        ("c", "OFFSET = 1.0", "OFFSET = 2.0"),
        ("c", "factor=2.0", "factor=3.0"),
        ("c", "OFFSET = 1.0", "OFFSET = 1.0\nregister(OFFSET)"),
    ],
)
def test_what_may_move_a_number_moves_the_trigger(of: Callable[..., str], module: str, old: str, new: str) -> None:
    source = {"a": A, "b": B, "c": C}[module]
    assert old in source and of() != of(**{module: source.replace(old, new)})


def test_a_definition_may_move_to_another_module(of: Callable[..., str]) -> None:
    scaled = "def scaled(x, factor=2.0):\n    return factor * x\n"
    moved = of(b=B.replace("icl_lib.c import scaled", "icl_lib.d import scaled"), c=C.replace(scaled, ""), d=scaled)
    assert moved == of()


def test_a_module_as_a_value_is_all_of_it(of: Callable[..., str]) -> None:
    passed = A.replace("b.shift(x)", "apply(b)(x)")
    assert of(a=passed) != of(a=passed, b=B.replace("return x\n", "return 2 * x\n"))


def test_what_a_decorator_registers_is_reached(of: Callable[..., str]) -> None:
    c = C + "\nALL = {}\n\ndef task(f):\n    ALL['f'] = f\n    return f\n\n@task\ndef square(x):\n    return x * x\n"
    assert of(c=c) != of(c=c.replace("x * x", "2 * x"))


def test_what_is_raised_counts_and_what_it_says_does_not(of: Callable[..., str]) -> None:
    plain = of()
    assert of(a=A.replace("raise ValueError", "raise KeyError")) != plain
    assert of(a=A.replace('f"too large: {x}"', 'f"no", 1')) != plain
    refused = A.replace("raise ValueError", "raise ConfigError")
    assert of(a=refused) == of(a=refused.replace('f"too large: {x}"', '"no", 1'))


def test_definitions_of_the_same_name_cannot_change_places(of: Callable[..., str]) -> None:
    b = B.replace("x - OFFSET", "x - OFFSET - STEPS") + "\nSTEPS = 5\n"
    assert of(b=b) != of(a=A.replace("STEPS = 3", "STEPS = 5"), b=b.replace("STEPS = 5", "STEPS = 3"))
    swapped = A.replace("import b\nfrom icl_lib.b import scaled as grown, Config", "import c as b, b as c")
    one = swapped.replace("grown(x)", "c.shift(x)").replace("Config", "float")
    assert of(a=one) != of(a=one.replace("import c as b, b as c", "import b, c"))


def test_names_that_are_none() -> None:
    for name in ("icl_lib.softmax.training.trian", "icl_lib.nothing.train", "train"):
        with pytest.raises(ConfigError, match=f"name='{name}'"):
            lineage.trigger(name)


def test_what_the_trainer_reaches_of_the_library() -> None:
    found = {f"{where}.{name}" for where, name in reach.reached([("icl_lib.softmax.training", "train")])}
    assert {"icl_lib.softmax.model.backward", "icl_lib.softmax.network.SHORT", "icl_lib.rng.stream_seed"} <= found
    assert "icl_lib.softmax.training.TrainConfig" in found  # known by its type
    assert not {name for name in found if name.startswith(("icl_lib.stats", "icl_lib.mean_field"))}


def test_every_chapter_has_a_trigger_of_its_own() -> None:
    triggers = {chapter.id: identity.chapter_code(chapter.notebook) for chapter in chapters(source.PACKAGE.parent)}
    assert len(set(triggers.values())) == len(triggers)


# What an outside reader got past an earlier version of this: a line of a module ``icl_lib.d``, its change, and a use of it.
PAST = {
    "another package": ("from math import pi as p\nq = p\n", "math import pi", "math import tau", "d.q"),
    "a name given again": ("n = 1\nm = n\nn = 5\n", "n = 5", "n = 6", "d.n"),
    "wrapped": ("from icl_lib.c import scaled\nscaled = wrap(scaled)\n", "wrap(", "twice(", "d.scaled"),
    "one of two imports": (
        "def f():\n    from icl_lib.c import OFFSET as o\n    return o\n",
        "OFFSET",
        "scaled",
        "d.f()",
    ),
    "filled in a loop": ("t = {}\nfor k in (1, 2):\n    t[k] = 3\n", "t[k] = 3", "t[k] = 4", "d.t"),
    "filled by an entry": ("t = {}\nt['a'] = 3\n", "= 3", "= 4", "d.t"),
    "filled by a call": ("t = {}\nt.update(a=3)\n", "a=3", "a=4", "d.t"),
    "filled in a list": ("t = {}\n[t.update({k: 3}) for k in (1, 2)]\n", "k: 3", "k: 4", "d.t"),
    "defined in a branch": ("if CUDA:\n    n = 1\n    def f():\n        return 2\n", "return 2", "return 3", "d.f()"),
    "not for types": ("if not TYPE_CHECKING:\n    n = 1\n", "n = 1", "n = 2", "d.n"),
    "a property by its function": (
        "class P:\n    def _f(self):\n        return 2\n    f = property(_f)\n",
        "return 2",
        "return 3",
        "d.P().f",
    ),
    "asked for by name": (
        "class P:\n    def g(self):\n        return 2\n",
        "return 2",
        "return 3",
        "getattr(d.P(), 'g')()",
    ),
    "called by what it inherits": (
        "from torch.autograd import Function\nclass F(Function):\n    def forward(x):\n        return 2 * x\n",
        "2 * x",
        "3 * x",
        "d.F.apply(x)",
    ),
    "no field any more": ("@dataclass\nclass P:\n    x: int = 1\n", "x: int = 1", "x = 1", "d.P(1)"),
    "no field of its own": ("@dataclass\nclass P:\n    x: int = 1\n", ": int", ": ClassVar[int]", "d.P(1)"),
    "a refusal that is caught": ("def f(x):\n    require(x < 150, 'x', x, 'short')\n", "150", "15", "d.f(x)"),
    "what importing does": ("torch.set_default_dtype(1)\nn = 1\n", "dtype(1)", "dtype(2)", "d.n"),
    "a module that is only imported": ("from icl_lib import e\nn = 1\n", "n = 1", "n = 2", "d.n"),
}


@pytest.mark.parametrize("case", PAST)
def test_what_an_outside_reader_got_past(of: Callable[..., str], case: str) -> None:
    d, old, new, use = PAST[case]
    a = A.replace("import b\n", "import b, d\n").replace("return x * config.rate()", f"return {use}")
    assert old in d and of(a=a, d=d, e="") != of(a=a, d=d.replace(old, new), e="")


def test_what_is_done_by_modules_that_are_only_imported(of: Callable[..., str]) -> None:
    a = A.replace("import b\n", "import b, d\n").replace("return x * config.rate()", "return d.n")
    d, e = "from icl_lib import e\nn = 1\n", "from icl_lib import b\nb.STEPS = 7\n"
    assert of(a=a, d=d, e=e) != of(a=a, d=d, e=e.replace("7", "8"))
    assert of(a=A, d=d, e=e) == of(a=A, d=d, e=e.replace("7", "8"))


def notebook(file: Path, *cells: str) -> Path:
    found = [{"cell_type": "code", "metadata": {}, "source": source} for source in cells]
    file.write_text(json.dumps({"cells": found, "metadata": {}}), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("old", "new", "moves"),
    [
        ("x = 1  # one", "x = 1", False),
        ("x = 1  # one", "x = 2", True),
        ("y = x\nx = 3", "x = 3\ny = x", True),
        ("mean_interval as f", "power_law as f", True),
        ("from scipy.stats import norm", "from scipy.stats import cauchy as norm", True),
        ("figures.BAYES", "figures.THEORY", True),
    ],
)
def test_the_code_of_a_chapter(tmp_path: Path, old: str, new: str, moves: bool) -> None:
    code = "from scipy.stats import norm\nfrom icl_lib import figures\nfrom icl_lib.stats import mean_interval as f\n"
    code += "x = 1  # one\ny = x\nx = 3\nf(norm, figures.BAYES)"
    before, file = identity.chapter_code(notebook(tmp_path / "a.ipynb", code)), tmp_path / "a.ipynb"
    assert old in code and (identity.chapter_code(notebook(file, code.replace(old, new))) != before) == moves


def test_all_that_reads_a_module_can_follow_is_written_in_the_library() -> None:
    """What names are not followed through is not used: relative imports, stars, a module's ``__getattr__``, dispatch by types."""
    for file in (*source.PACKAGE.rglob("*.py"), *chapter_files(source.PACKAGE.parent)):
        tree = source.notebook_code(file) if file.suffix == ".ipynb" else ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert not node.level and node.names[0].name != "*", (file, ast.unparse(node))
            if isinstance(node, ast.Name | ast.FunctionDef):
                name = node.id if isinstance(node, ast.Name) else node.name
                assert name not in ("__getattr__", "singledispatch", "globals") or (
                    name == "globals" and file.suffix == ".ipynb"
                ), (file, name)
        given = [name for node in tree.body if reach.only_names(node) for name in reach.names_given(node)]
        if file.suffix == ".py":
            assert len(given) == len(set(given)), (file, [n for n in given if given.count(n) > 1])
