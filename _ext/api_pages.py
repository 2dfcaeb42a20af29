"""The pages of the library: docstrings as the plain text that they are, and tables of modules with their first lines."""

import ast
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from inspect import isclass, isroutine
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from icl_lib.source import PACKAGES

LITERAL = re.compile(r"(``.+?``|`[^`]+`)")
FUNCTION = re.compile(r"<(?:function|class) '?(?:\w+\.)*(\w+)'?>")
EXCEPTION = re.compile(r"    (\w+):")
MARKUP = re.compile(r"[*|\\]|_(?!\w)")  # of reStructuredText; formulas such as |f|_* are full of it


def reference(text: str, known: Mapping[str, Any]) -> str:
    """What stands in backquotes: a link if it is a name of the library that the module knows, or a module beside it."""
    thing: Any = known.get(text)
    public = (isclass(thing) or isroutine(thing)) and not text.startswith("_")
    if public and thing.__module__.split(".")[0] in PACKAGES:
        return f":py:obj:`~{thing.__module__}.{thing.__qualname__}`"
    if re.fullmatch(r"\w+\.py", text) and "__file__" in known and Path(known["__file__"]).with_name(text).is_file():
        return f":py:mod:`{text} <{known['__name__'].rpartition('.')[0]}.{text.removesuffix('.py')}>`"
    return f"``{text}``"


def plain(line: str, known: Mapping[str, Any]) -> str:
    """A line of a docstring whose only markup are literals, in one or two backquotes."""
    parts = LITERAL.split(line)
    parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [reference(part.strip("`"), known) for part in parts[1::2]]
    return "".join(parts)


def plain_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """All lines but examples and their outputs, before napoleon looks for sections; exceptions with their modules."""
    module = sys.modules.get(name if what == "module" else getattr(obj, "__module__", ""))
    known = vars(module) if module else {}
    example, raises = False, False
    for number, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        raises = line == "Raises:" or (raises and line[:1] in (" ", ""))
        if not example:
            lines[number] = plain(line, known)
        if raises and (found := EXCEPTION.match(line)) and isinstance(kind := known.get(found[1]), type):
            lines[number] = lines[number].replace(found[1], f"~{kind.__module__}.{found[1]}", 1)


def skip(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Fields of named tuples stand in the class's own text."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def plain_defaults(
    app: Sphinx, what: str, name: str, obj: Any, options: object, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """What a field starts as when nothing is given: Python shows a factory or a function there, which is no code."""
    if signature is None:
        return None
    for field in getattr(obj, "__dataclass_fields__", {}).values():
        if callable(field.default_factory):
            made = getattr(field.default_factory, "__name__", "")
            signature = signature.replace("<factory>", f"{made}()" if made.isidentifier() else "...", 1)
    return FUNCTION.sub(r"\1", signature), returned


def first_line(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


class Modules(SphinxDirective):
    """A table of the modules of a package, not of its subpackages."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        spec = find_spec(package)
        assert spec and spec.origin
        rows = []
        for file in sorted(Path(spec.origin).parent.glob("*.py")):
            if text := first_line(file):
                name = package if file.stem == "__init__" else f"{package}.{file.stem}"
                rows.append(self.row(name, text))
        columns = [nodes.colspec(colwidth=width) for width in (25, 75)]
        group = nodes.tgroup("", *columns, nodes.tbody("", *rows), cols=2)
        return [nodes.table("", group, classes=["modules"])]

    def row(self, name: str, text: str) -> nodes.row:
        link = addnodes.pending_xref(
            "", nodes.literal("", name.rpartition(".")[2]), refdomain="py", reftype="mod", reftarget=name,
            refexplicit=True, refwarn=True, refdoc=self.env.docname,
        )  # fmt: skip
        parts = [
            nodes.literal("", part.strip("`")) if n % 2 else nodes.Text(part)
            for n, part in enumerate(LITERAL.split(text))
        ]
        cells = (nodes.paragraph("", "", link), nodes.paragraph("", "", *parts))
        return nodes.row("", *(nodes.entry("", cell) for cell in cells))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.connect("autodoc-process-signature", plain_defaults)
    app.connect("autodoc-skip-member", skip)
    app.add_directive("modules", Modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
