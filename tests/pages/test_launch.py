"""Buttons for Binder and Colab: none without the address of a public copy, on notebooks only with one."""

import contextlib
import re
import shutil
import threading
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import v4

from tools import record, render

SERVICES = r"mybinder\.org|colab\.research\.google\.com"


def test_no_address_no_buttons(html: Path) -> None:
    if yaml.safe_load(Path("_config.yml").read_text())["repository"]["url"]:
        pytest.skip("_config.yml names a public copy")
    pages = [page for page in html.rglob("*.html") if page.name != "reproduce.html"]  # which speaks of them
    assert pages
    for page in pages:
        assert not re.search(SERVICES, page.read_text()), page
    assert 'title="Launch' not in (html / "chapters/reproduce.html").read_text()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A staged book of two pages in ``src``, with the real configuration and the address of a public copy."""
    source = tmp_path / "src"
    source.mkdir()
    for name in ("_ext", "_static"):
        shutil.copytree(name, source / name)
    shutil.copyfile("references.bib", source / "references.bib")
    shutil.copyfile("requirements.lock", tmp_path / "requirements.lock")
    config = yaml.safe_load(Path("_config.yml").read_text())
    config["repository"]["url"] = "https://github.com/someone/icl-book"
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    (source / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters: [{file: page}]\n")
    metadata = {"kernelspec": record.KERNEL, "language_info": {"name": "python"}}
    cells = [v4.new_markdown_cell("# Title"), v4.new_code_cell("1 + 1")]
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), source / "index.ipynb")
    (source / "page.md").write_text("# A page\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_killed_build_does_not_disturb_the_next(small: Path) -> None:
    """Its folder is left behind, and its Sphinx may live on and write there."""
    left, done = small / "src_out", threading.Event()

    def write() -> None:
        while not done.wait(0.01):
            with contextlib.suppress(OSError):
                for name in ("html/stray.html", ".doctrees/environment.pickle"):
                    (left / "_build" / name).parent.mkdir(parents=True, exist_ok=True)
                    (left / "_build" / name).write_text("of the killed build")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert render.build(small / "src", small / "html", "A test")
    finally:
        done.set()
        thread.join()
    assert (small / "html/page.html").is_file() and not (small / "html/stray.html").exists()
    assert render.build(small / "src", small / "html", "Another test")
    assert not list(small.glob("src_out*"))  # nothing piles up


def test_with_an_address(small: Path) -> None:
    assert render.build(small / "src", small / "html", "A test")
    notebook, page = ((small / "html" / name).read_text() for name in ("index.html", "page.html"))
    found = set(re.findall(rf'href="(https://(?:{SERVICES})[^"]*)"', notebook))
    assert found == {
        "https://mybinder.org/v2/gh/someone/icl-book/main?urlpath=lab/tree/index.ipynb",
        "https://colab.research.google.com/github/someone/icl-book/blob/main/index.ipynb",
    }
    assert not re.search(SERVICES, page)
    assert not [tag for tag in re.findall(r"<(?:img|script|link)[^>]*>", notebook) if re.search(SERVICES, tag)]
