"""Long lines of code: what is wrapped, and that the text stays as it was."""

from bs4 import BeautifulSoup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from _ext.code_lines import wrapped

CODE = """x = 1
def f():
    return some_function_with_a_long_name(first_argument, second_argument, "<text>")
text = \'\'\'a string that goes on over more than one line and is long itself

that ends here, after an empty line of its own\'\'\'
"""


def test_long_lines_hang_below_their_own_indentation_and_say_the_same():
    before = highlight(CODE, PythonLexer(), HtmlFormatter(nowrap=True))
    soup = BeautifulSoup(f"<pre>{wrapped(before)}</pre>", "html.parser")
    assert soup.get_text() == CODE
    lines = soup.select(".code-line")
    assert [line["style"] for line in lines] == ["--in: 4ch", "--in: 0ch", "--in: 0ch"]
    assert all(line.get_text().endswith("\n") for line in lines)  # for who copies several lines


def test_what_an_example_prints_keeps_its_columns():
    printed = f'<span class="go">{"1.0  " * 20}</span>\n'
    assert wrapped(printed) == printed
