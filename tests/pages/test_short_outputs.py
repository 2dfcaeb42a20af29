"""No page shows more than eight lines that a cell printed, or a long table, at once; nothing of them is lost."""

from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from _ext.short_outputs import LINES, printed, tabled
from tests.pages.test_page_facts import CHAPTERS


def test_a_long_table_is_folded_and_whole() -> None:
    rows = "".join(f"<tr><td>{i}</td></tr>" for i in range(20))
    text = f'<div><table class="dataframe"><thead><tr><th>n</th></tr></thead><tbody>{rows}</tbody></table></div>'
    page = BeautifulSoup(tabled(text), "html.parser")
    assert [cell.get_text() for cell in page.select("td")] == [str(i) for i in range(20)]
    assert len(page.select("td")) - len(page.select("details td")) == LINES
    assert page.select_one("summary").get_text() == "12 more rows"
    assert len(page.select("th")) == 2
    short = f'<table class="dataframe"><tbody>{rows[: rows.index("<tr><td>9")]}</tbody></table>'
    assert tabled(short) == short


def test_a_group_of_rows_stays_whole() -> None:
    group = '<tr><th rowspan="3">a</th><td>1</td></tr><tr><td>2</td></tr><tr><td>3</td></tr>'
    page = BeautifulSoup(tabled(f'<table class="dataframe"><tbody>{group * 5}</tbody></table>'), "html.parser")
    assert len(page.select("td")) - len(page.select("details td")) == 9 and len(page.select("td")) == 15


def test_what_is_printed_is_folded_and_whole() -> None:
    first, more = printed("\n".join(f"<{i}>" for i in range(9)))
    assert first.splitlines() == [f"<{i}>" for i in range(8)] and "&lt;8&gt;" in more and "1 more line<" in more
    assert printed("one\ntwo") == ("one\ntwo", "")


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_page_shows_few_lines_of_outputs_at_once(html: Path, name: str) -> None:
    page = BeautifulSoup((html / name).read_text(), "html.parser")
    text = " ".join(" ".join(block.get_text().split()) for block in page.select(".cell_output"))
    for cell in nbformat.read(Path(name).with_suffix(".ipynb"), as_version=4).cells:
        for output in cell.get("outputs", []):
            last = output["text"].strip().splitlines()[-1:] if output.output_type == "stream" else []
            assert all(" ".join(line.split()) in text for line in last)
    for details in page.select("details"):
        details.decompose()
    assert (
        max([len(pre.get_text().strip("\n").splitlines()) for pre in page.select(".cell_output pre")] or [0]) <= LINES
    )
    rows = [len(table.select("tbody > tr")) for table in page.select(".cell_output table.dataframe")]
    assert max(rows or [0]) <= 2 * LINES  # a group of rows stays whole
