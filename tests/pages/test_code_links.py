"""Which names in code become links."""

import ast

import pytest
from bs4 import BeautifulSoup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from _ext.code_links import imports, linked, made

DOCUMENTED = {
    f"icl_lib.{name}"
    for name in (
        "softmax.tasks",
        "softmax.tasks.unseen",
        "softmax.train.train",
        "chapter.Chapter",
        "chapter.Chapter.record",
    )
}
FROM = """from icl_lib.softmax import tasks
from icl_lib.softmax.train import train as fit
from book.chapter import Chapter
from elsewhere import unseen
chapter = Chapter("L1", globals())
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("fit(configs)", [("fit", "softmax.train.train")]),
        ("fit(fit)", [("fit", "softmax.train.train")]),
        ("tasks.unseen(seen)", [("tasks.unseen", "softmax.tasks.unseen")]),
        ("tasks.nothing", [("tasks", "softmax.tasks")]),
        ("chapter.record({})", [("chapter.record", "chapter.Chapter.record")]),
        ("partial(config, tasks=3)", []),
        ("config.tasks", []),
        ("tasks = 3", []),
        ("unseen(6)  # tasks", []),
        ("'tasks'", []),
    ],
)
def test_names(code: str, expected: list[tuple[str, str]]) -> None:
    tree = ast.parse(FROM)
    known = imports(tree)
    shown = highlight(code, PythonLexer(), HtmlFormatter())
    found = linked(shown, known, made(tree, known), lambda target: "page" if target in DOCUMENTED else None)
    page = BeautifulSoup(found, "html.parser")
    assert [(link.text, link["title"]) for link in page.select("a")] == [(t, f"icl_lib.{name}") for t, name in expected]
    assert page.text == BeautifulSoup(shown, "html.parser").text
