"""Code without what moves no number: annotations, docstrings, imports, and the words of what is refused or raised."""

import ast
import copy
from functools import cache

STATEMENTS = ("body", "orelse", "finalbody")
# Which arguments of `validate`'s functions decide: the others name the value and say what is allowed.
CONDITIONS = {"require": slice(0, 1), "require_members": slice(1, 2), "require_memory": slice(2, 3)} | dict.fromkeys(
    ("require_number", "require_integer", "require_choice"), slice(1, 4)
)


def condition(node: ast.stmt) -> ast.stmt | None:
    """Of a statement that only calls ``require`` or ``require_...``, what decides whether it refuses a value; else None."""
    call = node.value if isinstance(node, ast.Expr) else None
    called = call.func if isinstance(call, ast.Call) else None
    name = getattr(called, "id", getattr(called, "attr", ""))
    if not isinstance(call, ast.Call) or name not in CONDITIONS:
        return None
    keywords = [keyword for keyword in call.keywords if keyword.arg != "allowed"]
    return ast.Expr(ast.Call(call.func, call.args[CONDITIONS[name]], keywords))


class _Speechless(ast.NodeTransformer):
    """Takes the words out."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node


class _Stripped(ast.NodeTransformer):
    """Takes out of a syntax tree what moves no number."""

    def _body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        kept = [new for node in body for new in [self.visit(condition(node) or node)] if new is not None]
        return kept or [ast.Pass()]

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name, value in ast.iter_fields(node):
            if name in STATEMENTS and isinstance(value, list) and value:
                setattr(node, name, self._body(value))
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
            elif isinstance(value, list):
                setattr(node, name, [self.visit(part) if isinstance(part, ast.AST) else part for part in value])
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Which error is raised counts, as somebody may catch it; its words do not, and a refused value ends the run."""
        if isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name) and node.exc.func.id == "ConfigError":
            return ast.Raise()
        node.cause = None
        return _Speechless().visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return self.generic_visit(ast.Assert(node.test))

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """In a class an annotation makes a field; its type does not count, except ``ClassVar``."""
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
        marks = {part: ast.Constant("ClassVar" in ast.dump(part.annotation)) for part in fields}
        node.body = [ast.Assign([p.target, marks[p]], p.value or marks[p]) if p in marks else p for p in node.body]
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value else None

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


@cache
def stripped(statement: ast.stmt) -> ast.AST | None:
    """A statement without what moves no number; None if nothing is left."""
    return _Stripped().visit(copy.deepcopy(condition(statement) or statement))
