"""Which names in code become links."""

import ast

import pytest
from bs4 import BeautifulSoup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from _ext.code_links import imports, linked, made

DOCUMENTED = {
    "icl_lib.softmax.tasks",
    "icl_lib.softmax.tasks.unseen",
    "icl_lib.softmax.training.train",
    "book.chapter.Chapter",
    "book.chapter.Chapter.record",
}
FROM = """from icl_lib.softmax import tasks
from icl_lib.softmax import train as fit
from book.chapter import Chapter
from elsewhere import unseen
chapter = Chapter("L1", globals())
"""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("fit(configs)", [("fit", "icl_lib.softmax.training.train")]),
        ("fit(fit)", [("fit", "icl_lib.softmax.training.train")]),
        ("tasks.unseen(seen)", [("tasks.unseen", "icl_lib.softmax.tasks.unseen")]),
        ("tasks.nothing", [("tasks", "icl_lib.softmax.tasks")]),
        ("chapter.record({})", [("chapter.record", "book.chapter.Chapter.record")]),
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
    assert [(link.text, link["title"]) for link in page.select("a")] == expected
    assert page.text == BeautifulSoup(shown, "html.parser").text
