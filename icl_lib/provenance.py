"""What a result was computed from: a hash of the code it depends on, and the versions."""

import ast
import hashlib
import json
import os
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path

from icl_lib.validate import require

PACKAGE = Path(__file__).parent
# Modules that draw or file results: a change there re-runs a chapter but makes no number stale.
PRESENTATION = frozenset(
    {f"icl_lib.{name}" for name in ("chapter", "claims", "figures", "provenance", "rounding", "scoreboard")}
)

TRAINER = "icl_lib.softmax.train"  # what can use a GPU; the training of several layers imports it


def module_file(name: str) -> Path | None:
    """File of an ``icl_lib`` module, or None if there is no such module."""
    base = PACKAGE.joinpath(*name.split(".")[1:])
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if name.split(".")[0] == "icl_lib" and file.is_file():
            return file
    return None


def imported(tree: ast.AST) -> set[str]:
    """Names of the ``icl_lib`` modules that a piece of code imports (absolute imports only).

    >>> sorted(imported(ast.parse("import torch; from icl_lib.stats import holm")))
    ['icl_lib', 'icl_lib.stats']
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    with_parents = {".".join(n.split(".")[: i + 1]) for n in names for i in range(n.count(".") + 1)}
    return {name for name in with_parents if name.split(".")[0] == "icl_lib" and module_file(name)}


def canonical(node: object) -> str:
    """A syntax tree as text that all versions of Python agree on: no positions, no fields that are empty.

    >>> canonical(ast.parse("x = 1  # one")) == canonical(ast.parse("x=1"))
    True
    """
    if isinstance(node, ast.AST):
        parts = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={canonical(value)}' for name, value in parts)})"
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    return ascii(node)  # repr depends on which characters a version can print


def code_only(tree: ast.AST) -> str:
    """The code without comments, layout and docstrings, so that prose never makes a result stale."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return canonical(tree)


@cache
def _module(name: str) -> tuple[str, frozenset[str]]:
    file = module_file(name)
    assert file is not None
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = frozenset(imported(tree))
    return code_only(tree), names


def closure(modules: set[str]) -> list[str]:
    """The modules and everything in ``icl_lib`` that they import, directly or not, sorted."""
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= _module(name)[1] - found
    return sorted(found)


def code_hash(modules: set[str], extra: str = "", without: frozenset[str] = frozenset()) -> str:
    """Hash (16 hex digits) of the code of ``modules`` and of all that they import, plus ``extra``."""
    digest = hashlib.sha256(extra.encode())
    for name in closure(modules - without):
        if name not in without:
            digest.update(f"\n# {name}\n{_module(name)[0]}".encode())
    return digest.hexdigest()[:16]


def notebook_code(notebook: Path) -> ast.Module:
    """The code cells of a notebook as one syntax tree; cells injected by papermill are left out."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]
    plain = [re.sub(r"^\s*[%!].*$", "", source, flags=re.M) for source in sources]
    return ast.Module([statement for source in plain for statement in ast.parse(source).body], [])


def chapter_hash(notebook: Path, *, numbers_only: bool = False) -> str:
    """Hash of a chapter's code and of the library code that it depends on.

    With ``numbers_only``, modules that only draw or file results are left out: this is the hash
    that a recorded result carries, and by which the scoreboard calls it stale.
    """
    tree = notebook_code(notebook)
    without = PRESENTATION if numbers_only else frozenset()
    return code_hash(imported(tree), extra=canonical(tree), without=without)


def check_trains(notebook: Path, device: str, prefix: str = "") -> None:
    """Refuse another device than the CPU for a chapter that trains none of the networks that can use it.

    Raises:
        ConfigError: naming the device.
    """
    if device != "cpu":
        uses = TRAINER in closure(imported(notebook_code(notebook)))
        require(uses, f"{prefix}device", device, "'cpu', this chapter trains nothing that can use a GPU")


def versions(device: str | None = None) -> dict[str, str]:
    """Versions of the packages that numbers depend on; the device if it is not the CPU, since it rounds otherwise; and a twin.

    Args:
        device: on which networks train, by default that of this process (``icl_lib.device``).
    """
    device = os.environ.get("ICL_DEVICE", "cpu") if device is None else device
    elsewhere = {} if device == "cpu" else {"device": device}
    if os.environ.get("ICL_TWIN"):  # only then: commands that compute nothing start without torch
        from icl_lib.twin import SIZE

        elsewhere["twin"] = f"{SIZE:g}"
    packages = {name: metadata.version(name).split("+")[0] for name in ("torch", "numpy", "scipy", "pandas")}
    return {"python": ".".join(platform.python_version_tuple()[:2]), **packages, **elsewhere}


def processor() -> str:
    """The processor and the instruction set of torch's kernels, such as "AMD EPYC (AVX2)": numbers are rounded by them."""
    import torch

    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    named = re.search(r"^model name\s*: (.+)$", text, flags=re.M)
    name = named[1] if named else platform.processor() or platform.machine()
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"{name.strip()} ({'plain kernels' if kernels in ('DEFAULT', 'NO AVX') else kernels})"
