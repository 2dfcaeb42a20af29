"""The library's docstrings: nothing public is without one, their examples are true, and each module is on one page."""

import doctest
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FILES = [
    file
    for file in sorted(file for folder in ("icl_lib", "book", "studies") for file in Path(folder).rglob("*.py"))
    if file.read_text().strip()
]
MODULES = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in FILES]


def own(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The public classes and functions that a module defines, and their public methods and properties."""
    for name, thing in vars(module).items():
        if (
            name.startswith("_")
            or getattr(thing, "__module__", "") != module.__name__
            or not hasattr(thing, "__name__")
        ):
            continue
        yield name, thing
        if inspect.isclass(thing):
            for part, value in vars(thing).items():
                if not part.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                    yield f"{name}.{part}", getattr(thing, part)


def examples() -> Iterator[doctest.DocTest]:
    """The docstrings with examples. Found in the files: doctest's own search passes over functions with array checks."""
    parser = doctest.DocTestParser()
    for name in MODULES:
        module = importlib.import_module(name)
        for path, thing in [("", module), *own(module)]:
            found = parser.get_doctest(inspect.getdoc(thing) or "", dict(vars(module)), f"{name}.{path}", name, 0)
            if found.examples:
                yield found


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert [path for path, thing in own(module) if not inspect.getdoc(thing)] == []


@pytest.mark.parametrize("test", list(examples()), ids=lambda test: test.name.removeprefix("icl_lib."))
def test_example(test: doctest.DocTest) -> None:
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_every_module_is_on_one_page() -> None:
    pages = Path("chapters/api").glob("*.md")
    shown = Counter(name for page in pages for name in re.findall(r"automodule:: (\S+)", page.read_text()))
    assert shown == Counter(MODULES)


def test_imports_go_one_way() -> None:
    """The library knows neither the book nor studies, the book no study, no study another: what two need is the library's."""
    for file in FILES:
        others = "book|studies" if file.parts[0] == "icl_lib" else "studies"
        known = re.findall(rf"^\s*(?:from|import) ((?:{others})\b\S*)", file.read_text(encoding="utf-8"), re.M)
        assert not known, (file, known)
