"""What the theme, jupyter-book and docutils leave to be done on finished pages, a few lines each."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2")  # the part that a page loads
SCRIPTS = (
    "play/",
    "board.js",
    "hero.js",
)  # of pages that name them; jupyter-book adds every script under _static to every page
SMALL = '<small class="provenance">'
PROVENANCE = re.compile(SMALL + r"(figures/\w+/\w+)\.csv")
DATA = re.compile(r'href="(?:\.\./)*(figures/[\w./-]+)"')


def scripts_where_used(app: Sphinx, config: Config) -> None:
    config.html_js_files = [file for file in config.html_js_files if not str(file).startswith(SCRIPTS)]


def offline_mathjax(app: Sphinx) -> None:
    """Maths without the network: MathJax is copied from an installed package."""
    spec = find_spec("sphinx-mathjax-offline")
    assert spec and spec.origin
    for part in MATHJAX:
        source, target = Path(spec.origin).parent / "static/mathjax" / part, Path(app.outdir) / "_mathjax" / part
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def list_items(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """References as list items: docutils gives them a role that ARIA has withdrawn, and that leaves their list empty."""
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def figure_files(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Below each figure, what a reader may want of it: its data, the picture in both forms, with what it was made."""

    def links(found: re.Match[str]) -> str:
        kinds = {"csv": "data", "png": "PNG", "svg": "SVG", "json": "how it was made"}
        files = {kind: f"{found[1]}.{kind}" for kind in kinds if (Path(app.srcdir) / f"{found[1]}.{kind}").is_file()}
        name = found[1].rpartition("/")[2]
        up = "../" * page.count("/")
        shown = [
            f'<a href="{up}{file}" aria-label="{name}: {kinds[kind]}">{kinds[kind]}</a>' for kind, file in files.items()
        ]
        return f'<small class="provenance">{" · ".join([*shown, found[0].removeprefix(SMALL)])}'

    if "body" in context:
        context["body"] = PROVENANCE.sub(links, context["body"])


def linked_data(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Files below ``figures/`` that the page links to, copied beside the pages: data stays one click away, also offline."""
    for name in set(DATA.findall(context.get("body", ""))):
        source, target = Path(app.srcdir) / name, Path(app.outdir) / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        else:
            logging.getLogger(__name__).warning("%s links to %s, which is not there", page, name)


def toggle_names(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """The buttons in the navigation that show the pages below a page get a name for screen readers."""
    made = context["generate_toctree_html"]

    def named(*args: Any, **kwargs: Any) -> Any:
        navigation = made(*args, **kwargs)
        for summary in navigation.select("li.has-children > details > summary"):
            summary["aria-label"] = f"Pages of: {summary.find_previous('a').get_text(strip=True)}"
        return navigation

    context["generate_toctree_html"] = named


def setup(app: Sphinx) -> ExtensionMetadata:
    # Relative to _static, outside which it lies: jupyter-book adds every script in there to every page.
    app.config["mathjax_path"] = "../_mathjax/tex-mml-chtml.js"
    app.connect("builder-inited", offline_mathjax)
    app.connect("config-inited", scripts_where_used, priority=100)  # before Sphinx turns names into (name, attributes)
    app.connect("html-page-context", list_items)
    app.connect("html-page-context", figure_files)
    app.connect("html-page-context", linked_data)  # after figure_files, whose links it follows
    app.connect("html-page-context", toggle_names, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
