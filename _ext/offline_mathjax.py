"""Maths without the network: MathJax is copied from an installed package, and only the part that a page loads."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

PARTS = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2")


def copy_mathjax(app: Sphinx) -> None:
    spec = find_spec("sphinx-mathjax-offline")
    assert spec and spec.origin
    for part in PARTS:
        source, target = Path(spec.origin).parent / "static/mathjax" / part, Path(app.outdir) / "_mathjax" / part
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def setup(app: Sphinx) -> ExtensionMetadata:
    # Relative to _static, outside which it lies: jupyter-book adds every script in there to every page.
    app.config["mathjax_path"] = "../_mathjax/tex-mml-chtml.js"
    app.connect("builder-inited", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
