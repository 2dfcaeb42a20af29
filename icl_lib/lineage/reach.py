"""The definitions of the library that a piece of code can reach, found by following names from one to the next.

In doubt a name is followed: too much is reached rather than too little. A method is reached by its name after a dot, whatever
it is called on. Names from other packages are not followed, but where they come from counts.
"""

import ast
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from icl_lib.lineage.stripped import stripped
from icl_lib.source import PACKAGES, module_file
from icl_lib.validate import require

Symbol = tuple[str, str]  # a module and a name in it
ITSELF, IMPORTED = "", "<import>"  # names for a module as a value, and for what it does when it is imported
OUTSIDE = "~"  # begins the module of a name from another package
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Bases from other packages that call no methods of a class; of classes with other such bases all methods count.
HARMLESS = frozenset({"NamedTuple", "Protocol", "RuntimeError", "ValueError", "object"})
BY_NAME = frozenset({"getattr", "hasattr", "setattr", "attrgetter", "methodcaller"})


@dataclass(frozen=True)
class Module:
    """What the names of a module stand for.

    Attributes:
        defined: by name, the statements that set or change its value; those that do something else, under ``IMPORTED``.
        imported: where an imported name may come from: a module and a name in it, ``ITSELF`` for the module.
        parts: `members` of each class.
    """

    defined: Mapping[str, tuple[ast.stmt, ...]]
    imported: Mapping[str, tuple[Symbol, ...]]
    parts: Mapping[ast.stmt, Mapping[str, ast.stmt]]


def _assigned(node: ast.stmt) -> list[ast.AST]:
    """The left sides of an assignment, with all their parts; none of another statement."""
    targets: list[ast.expr] = [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else []
    targets += node.targets if isinstance(node, ast.Assign) else []
    return [part for target in targets for part in ast.walk(target)]


def names_given(node: ast.stmt) -> list[str]:
    """The names whose value a statement at the top of a module sets or changes."""
    if isinstance(node, Definition):
        return [node.name]
    found = []
    for part in _assigned(node) or ast.walk(node):
        base: ast.AST = part
        while isinstance(base, ast.Subscript | ast.Attribute):
            base = base.value  # ``table["a"] = f`` changes ``table``
        if isinstance(part, Definition):
            found.append(part.name)
        elif isinstance(base, ast.Name) and isinstance(getattr(part, "ctx", None), ast.Store):
            found.append(base.id)
    return found


def only_names(node: ast.stmt) -> bool:
    """Whether a statement sets names and does nothing else."""
    parts = _assigned(node)
    plain = bool(parts) and not any(isinstance(part, ast.Subscript | ast.Attribute) for part in parts)
    return plain or isinstance(node, Definition)


def imports(tree: ast.AST) -> dict[str, tuple[Symbol, ...]]:
    """Where imported names come from, at the top or in a function."""
    found: dict[str, tuple[Symbol, ...]] = {}
    for node in ast.walk(tree):
        places: list[tuple[str, Symbol]] = []
        if isinstance(node, ast.Import):
            names = [(alias.asname or alias.name.partition(".")[0], alias) for alias in node.names]
            places = [(name, (alias.name if alias.asname else name, ITSELF)) for name, alias in names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                place = (inner, ITSELF) if module_file(inner) else (node.module, alias.name)
                places.append((alias.asname or alias.name, place))
        for name, (where, what) in places:
            place = (where if module_file(where) else OUTSIDE + where, what)
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), place)))
    return found


def members(node: ast.ClassDef, apart: bool) -> dict[str, ast.stmt]:
    """A class without its methods, under ``""``, and with ``apart`` each method as a class of its own.

    Special methods stay with the class, since their callers do not name them.
    """
    methods = [p for p in node.body if apart and isinstance(p, ast.FunctionDef) and not p.name.startswith("__")]
    rest = [part for part in node.body if part not in methods]
    found: dict[str, ast.stmt] = {m.name: ast.ClassDef(node.name, [], [], [m], []) for m in methods}
    whole = ast.ClassDef(node.name, node.bases, node.keywords, rest or [ast.Pass()], node.decorator_list)
    return {"": whole, **found}


def read(tree: ast.Module) -> Module:
    """A module by its names; ``if TYPE_CHECKING`` is left out."""
    defined: dict[str, tuple[ast.stmt, ...]] = {}
    for node in tree.body:
        test = node.test if isinstance(node, ast.If) else None
        types_only = "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))
        if isinstance(node, ast.Import | ast.ImportFrom) or types_only or stripped(node) is None:
            continue
        for name in [*names_given(node), *([] if only_names(node) else [IMPORTED])]:
            defined[name] = (*defined.get(name, ()), node)
    found = Module(defined, imports(tree), {})
    parts: dict[ast.stmt, dict[str, ast.stmt]] = {}
    for node in (n for n in tree.body if isinstance(n, ast.ClassDef)):
        names = {base.id if isinstance(base, ast.Name) else "" for base in node.bases}
        outside = {n for n in names if n not in HARMLESS | defined.keys() and not _library(found.imported.get(n, ()))}
        parts[node] = members(node, apart=not outside)
    # A decorator of the library's may register what it decorates: then importing it does something.
    for node in (n for n in tree.body if isinstance(n, Definition)):
        if any(_library([s]) or s[0] == "-" for d in node.decorator_list for _, s in uses(d, found, "-")):
            defined[IMPORTED] = (*defined.get(IMPORTED, ()), node)
    return Module(defined, found.imported, parts)


def _library(places: Iterable[Symbol]) -> bool:
    return any(where.partition(".")[0] in PACKAGES for where, _ in places)


@cache
def module(name: str) -> Module:
    """The module of that name in ``PACKAGES``."""
    file = module_file(name)
    require(file is not None, "module", name, "a module of " + " or ".join(PACKAGES))
    assert file is not None
    return read(ast.parse(file.read_text(encoding="utf-8")))


@cache
def doing(name: str) -> frozenset[str]:
    """Of a module and those that are imported with it, the ones that do something on import."""
    seen, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            inner = {one.rpartition(".")[0], *(where for s in module(one).imported.values() for where, _ in s)}
            waiting += [where for where in inner if where and not where.startswith(OUTSIDE)]
    return frozenset(one for one in seen if IMPORTED in module(one).defined)


def uses(tree: ast.AST, known: Module, where: str) -> Iterator[tuple[str, Symbol]]:
    """The definitions that the names in a piece of code may lead to, each with the name used there."""
    inside = set()  # in ``model.forward`` the name ``model``: of these modules only that is used
    for node in ast.walk(tree):  # outer nodes come first
        chain, base = [], node
        while isinstance(base, ast.Attribute):
            chain.append(base)
            base = base.value
        if node in inside or not chain or not isinstance(base, ast.Name):
            continue
        for place in known.imported.get(base.id, ()):
            if place[1] == ITSELF and not place[0].startswith(OUTSIDE):
                inside.update({base, *chain})
                target: Symbol = place
                for part in reversed(chain):
                    if target[1] == ITSELF:
                        inner = f"{target[0]}.{part.attr}"
                        target = (inner, ITSELF) if module_file(inner) else (target[0], part.attr)
                yield ast.unparse(node), target
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node not in inside:
            if node.id in known.defined:
                yield node.id, (where, node.id)
            for place in known.imported.get(node.id, ()):
                yield node.id, place


def types(tree: ast.AST) -> Iterator[ast.expr]:
    """The annotations in a piece of code: they lead to the methods that are called on its parameters."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if found is not None:
                yield found
                for part in ast.walk(found):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):  # "Later | None", or a shape
                        with contextlib.suppress(SyntaxError):
                            yield ast.parse(part.value.strip(), mode="eval").body


def attributes(tree: ast.AST) -> set[str]:
    """Names after a dot, or in a call such as ``getattr``; in a class, also the names that its own statements use."""
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in BY_NAME:
            texts = (part.value for part in node.args if isinstance(part, ast.Constant))
            found |= {text for text in texts if isinstance(text, str)}
        if isinstance(node, ast.ClassDef):
            own = (part for part in node.body if not isinstance(part, Definition))
            found |= {name.id for part in own for name in ast.walk(part) if isinstance(name, ast.Name)}
    return found


@dataclass
class Reached:
    """A definition without what moves no number, and what its names stand for."""

    trees: list[ast.AST]
    names: set[tuple[str, Symbol]]


def resolved(symbol: Symbol) -> frozenset[Symbol]:
    """Where a name is defined, through modules that only import it."""
    where, name = symbol
    if where.startswith(OUTSIDE) or name in module(where).defined or name not in module(where).imported:
        return frozenset({symbol})
    return frozenset(found for place in module(where).imported[name] for found in resolved(place))


def links(tree: ast.AST, known: Module, where: str, without: frozenset[str]) -> set[tuple[str, Symbol]]:
    """The names in a piece of code and where they are defined, but for those of the modules ``without``."""
    found = {(name, end) for name, target in uses(tree, known, where) if target[0] for end in resolved(target)}
    return {(name, end) for name, end in found if end[0] not in without}


def reached(
    start: Iterable[Symbol], without: frozenset[str] = frozenset(), named: Iterable[str] = ()
) -> dict[Symbol, Reached]:
    """All definitions that can be reached from ``start``, except those in the modules ``without``.

    A method, under ``Class.method``, is reached if its class is and a definition that is reached names it after a dot, or it
    is among ``named``.
    """
    found: dict[Symbol, Reached] = {}
    known_names = set(named)
    methods: dict[str, list[tuple[Symbol, ast.stmt]]] = {}  # of classes that are reached, not named so far
    waiting = [end for symbol in start for end in resolved(symbol)]

    def take(symbol: Symbol, node: ast.stmt) -> None:
        new, known = stripped(node), module(symbol[0])
        one = found.setdefault(symbol, Reached([], set()))
        one.trees.extend([] if new is None else [new])
        for tree in [*filter(None, [new]), *types(node)]:
            leads = links(tree, known, symbol[0], without)
            waiting.extend(target for _, target in leads)
            one.names.update(leads if tree is new else ())
            known_names.update(attributes(tree))

    while waiting:
        where, name = symbol = waiting.pop()
        if symbol not in found and where not in without and not where.startswith(OUTSIDE):
            known = module(where)
            found[symbol] = Reached([], set())
            if name == ITSELF:
                everything = [(where, other) for other in known.defined]
                found[symbol].names.update((other, (where, other)) for _, other in everything)
                waiting += everything
            for node in known.defined.get(name, ()):
                for method, part in known.parts.get(node, {"": node}).items():
                    if method:
                        methods.setdefault(method, []).append(((where, f"{name}.{method}"), part))
                    else:
                        take(symbol, part)
            waiting += [(one, IMPORTED) for one in doing(where)]
        while not waiting and (ready := known_names & set(methods)):
            for place, part in [entry for own in ready for entry in methods.pop(own)]:
                take(place, part)
    return found
