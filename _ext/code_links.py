"""Names of the library in code lead to its pages: names that the page imports, and methods of objects made from them."""

import ast
import re
from collections.abc import Callable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from icl_lib.lineage.reach import resolved
from icl_lib.source import PACKAGES, module_file

BLOCK = re.compile(r'(<div class="highlight-(?:ipython3|python) .*?<pre>)(.*?)(</pre>)', re.S)
# A name as the highlighter writes it, with an attribute if it has one; not what follows a dot or stands before a "=".
WORD = r'<span class="(?:n|nn|nc|nf)">([\w.]+)</span>'
NAME = re.compile(
    rf'(?<!<span class="o">\.</span>){WORD}(<span class="o">\.</span>{WORD})?(?!\s*<span class="o">=</span>)'
)


def defined(module: str, name: str) -> str:
    """Where a name is defined, which its package may only pass on."""
    inner = f"{module}.{name}"
    if module_file(module) is None or module_file(inner):
        return inner
    return ".".join(min(resolved((module, name))))


def imports(tree: ast.AST) -> dict[str, str]:
    """What names stand for that come from the library."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            found |= {alias.asname or alias.name: defined(node.module or "", alias.name) for alias in node.names}
            found[node.module or ""] = node.module or ""
    return found


def made(tree: ast.AST, known: dict[str, str]) -> dict[str, str]:
    """Variables that are assigned a call of such a name, for the methods of what it makes."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found |= dict.fromkeys(names, known.get(node.value.func.id, ""))
    return found


def meanings(doctree: nodes.document) -> tuple[dict[str, str], dict[str, str]]:
    """Of the names on a page that has code; code that is not Python is passed over."""
    known: dict[str, str] = {}
    objects: dict[str, str] = {}
    for block in doctree.findall(nodes.literal_block):
        if block.get("language") in ("ipython3", "python"):
            try:
                tree = ast.parse(re.sub(r"^\s*[%!].*$", "", block.astext(), flags=re.M))
            except SyntaxError:
                continue
            known |= imports(tree)
            objects |= made(tree, known)
    return known, objects


def linked(code: str, known: dict[str, str], objects: dict[str, str], address: Callable[[str], str | None]) -> str:
    """Highlighted code with its links, each once: every link is a stop for the keyboard."""
    seen = set()

    def link(found: re.Match[str]) -> str:
        whole, name, dotted, attribute = found[0], found[1], found[2], found[3]
        target = known.get(name)
        if dotted and (owner := target or objects.get(name)) and (url := address(f"{owner}.{attribute}")):
            text, target, rest = whole, f"{owner}.{attribute}", ""
        elif target and (url := address(target)):
            text, rest = whole.removesuffix(dotted or ""), dotted or ""
        else:
            return whole
        if target in seen:
            return whole
        seen.add(target)
        return f'<a class="code-link" href="{url}" title="{target}">{text}</a>{rest}'

    return NAME.sub(link, code)


def link_page(app: Sphinx, page: str, template: str, context: dict[str, str], doctree: nodes.document | None) -> None:
    if doctree is None or "body" not in context:
        return
    known, objects = meanings(doctree)
    library = app.env.domains["py"].objects

    def address(target: str) -> str | None:
        entry = library.get(target)
        return entry and f"{app.builder.get_relative_uri(page, entry.docname)}#{entry.node_id}"

    if known:
        context["body"] = BLOCK.sub(lambda m: m[1] + linked(m[2], known, objects, address) + m[3], context["body"])


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("html-page-context", link_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
