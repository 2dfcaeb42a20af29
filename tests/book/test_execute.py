"""How a notebook is run: its kernel has the library of the process that starts it, and a second chance to start."""

import os
from pathlib import Path

import papermill
import pytest

from book.execute import run
from book.registry import find
from tests.book.toy import make_book


@pytest.mark.parametrize(
    ("deaths", "message", "problem"),
    [
        (1, "Kernel died before replying to kernel_info", None),
        (2, "Kernel died before replying to kernel_info", "RuntimeError: Kernel died before replying to kernel_info"),
        (1, "Kernel died", "RuntimeError: Kernel died"),
    ],
)
def test_second_chance(
    book: Path, monkeypatch: pytest.MonkeyPatch, deaths: int, message: str, problem: str | None
) -> None:
    """A kernel that dies before any cell has run is started once more; one that dies again, or later, is not."""
    execute, left = papermill.execute_notebook, [RuntimeError(message)] * deaths

    def dies(*args: object, **kwargs: object) -> object:
        if left:
            raise left.pop()
        return execute(*args, **kwargs)

    monkeypatch.setattr(papermill, "execute_notebook", dies)
    target, before = book / "out/T1_toy.ipynb", dict(os.environ)
    assert run(find("T1", book).notebook, target, book / "out", cwd=book) == problem
    assert target.is_file() == (problem is None)
    assert dict(os.environ) == before  # a kernel's variables are its own


def test_the_kernel_imports_the_library_that_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of another checkout, which the environment or PYTHONPATH may name."""
    other = tmp_path / "other/icl_lib"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('another checkout')")
    monkeypatch.setenv("PYTHONPATH", str(other.parent))
    book = make_book(tmp_path / "book")
    assert run(find("T1", book).notebook, book / "out/T1_toy.ipynb", book / "out", cwd=book) is None
