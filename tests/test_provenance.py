"""What makes a result stale, and what does not."""

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from icl_lib import provenance

FILES = {
    "__init__.py": "",
    "base.py": "def double(x):\n    return 2 * x\n",
    "middle.py": "from icl_lib.base import double\n\n\ndef four(x):\n    return double(double(x))\n",
    "figures.py": "WIDTH = 3\n",
    "other.py": "A = 1\n",
    "part/__init__.py": "",
    "part/deep.py": "from icl_lib import middle\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A small stand-in for icl_lib; calling it rewrites one of its files."""
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "icl_lib")

    def write(name: str, text: str) -> None:
        file = tmp_path / "icl_lib" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        provenance._module.cache_clear()

    for name, text in FILES.items():
        write(name, text)
    yield write
    provenance._module.cache_clear()


def notebook(folder: Path, *sources: str, markdown: str = "# A", tags: tuple[str, ...] = ()) -> Path:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": [markdown]}]
    cells += [{"cell_type": "code", "metadata": {}, "source": [s], "outputs": []} for s in sources]
    if tags:
        cells[1]["metadata"] = {"tags": list(tags)}
    file = folder / "chapter.ipynb"
    file.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return file


CODE = "from icl_lib.part import deep\nfrom icl_lib import figures\nx = 1  # one"


def test_closure_follows_imports(package: Callable[[str, str], None]) -> None:
    names = provenance.closure(provenance.imported(ast.parse(CODE)))
    assert names == [f"icl_lib{n}" for n in ("", ".base", ".figures", ".middle", ".part", ".part.deep")]


def test_import_forms(package: Callable[[str, str], None]) -> None:
    for code in (
        "import icl_lib.part.deep",
        "from icl_lib.part.deep import middle",
        "def f():\n    from icl_lib.part import deep",
    ):
        assert "icl_lib.part.deep" in provenance.imported(ast.parse(code))
    assert provenance.imported(ast.parse("import icl_library, numpy\nfrom . import base")) == set()


def test_prose_changes_nothing(package: Callable[[str, str], None], tmp_path: Path) -> None:
    before = provenance.chapter_hash(notebook(tmp_path, CODE, "%matplotlib inline\ny = x"))
    package("base.py", '"""Words."""\n\n\ndef double(x):\n    """Twice."""\n    # why\n    return 2*x\n')
    same = notebook(tmp_path, CODE.replace("one", "another remark"), "y  =  x", markdown="# Other prose")
    assert provenance.chapter_hash(same) == before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("base.py", "def double(x):\n    return 2 * x + 0\n"),
        ("middle.py", FILES["middle.py"].replace("double(double(x))", "double(x)")),
        ("part/__init__.py", "B = 2\n"),
    ],
)
def test_code_anywhere_below_counts(package: Callable[[str, str], None], tmp_path: Path, file: str, text: str) -> None:
    chapter = notebook(tmp_path, CODE)
    before = provenance.chapter_hash(chapter), provenance.chapter_hash(chapter, numbers_only=True)
    package(file, text)
    after = provenance.chapter_hash(chapter), provenance.chapter_hash(chapter, numbers_only=True)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_own_code_counts_and_unused_code_does_not(package: Callable[[str, str], None], tmp_path: Path) -> None:
    before = provenance.chapter_hash(notebook(tmp_path, CODE))
    package("other.py", "A = 2\n")
    assert provenance.chapter_hash(notebook(tmp_path, CODE)) == before
    assert provenance.chapter_hash(notebook(tmp_path, CODE.replace("x = 1", "x = 2"))) != before


def test_drawing_makes_no_number_stale(package: Callable[[str, str], None], tmp_path: Path) -> None:
    chapter = notebook(tmp_path, CODE)
    full, numbers = provenance.chapter_hash(chapter), provenance.chapter_hash(chapter, numbers_only=True)
    package("figures.py", "WIDTH = 4\n")
    assert provenance.chapter_hash(chapter) != full
    assert provenance.chapter_hash(chapter, numbers_only=True) == numbers


def test_injected_parameters_are_not_code_of_the_chapter(package: Callable[[str, str], None], tmp_path: Path) -> None:
    plain = provenance.chapter_hash(notebook(tmp_path, CODE))
    assert provenance.chapter_hash(notebook(tmp_path, "x = 5", CODE, tags=("injected-parameters",))) == plain


# Kept as text: versions of Python write f-strings differently, and differ in which empty fields a tree has.
CANONICAL = (
    "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='x')],kwonlyargs=[arg(arg='y')],"
    "kw_defaults=[Constant(value='\\xe9\\x85\\U0001fae8')]),body=[Return(value=Tuple(elts=[BinOp(left=JoinedStr("
    "values=[FormattedValue(value=Name(id='x',ctx=Load()),conversion=114,format_spec=JoinedStr(values=["
    "Constant(value='>'),FormattedValue(value=Name(id='y',ctx=Load()),conversion=-1)])),Constant(value=' \"q\" y='),"
    "FormattedValue(value=Name(id='y',ctx=Load()),conversion=114)]),op=Add(),right=Constant(value='ab')),"
    "List(ctx=Load()),Constant(),Constant(value=1e-07)],ctx=Load()))])])"
)


def test_the_hash_is_the_same_for_every_python() -> None:
    code = "def f(x, *, y='é\\x85\U0001fae8'):\n    return f'{x!r:>{y}} \"q\" {y=}' + 'a' 'b', [], None, 1e-7\n"
    assert provenance.code_only(ast.parse(code)) == CANONICAL


def test_versions_are_plain() -> None:
    versions = provenance.versions()
    assert {"python", "torch", "numpy"} <= versions.keys()
    assert not any("+" in version for version in versions.values())
