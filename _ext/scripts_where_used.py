"""Scripts only on the pages that name them: jupyter-book adds every script under ``_static`` to every page."""

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.typing import ExtensionMetadata

NAMED = ("play/", "board.js")


def leave_out(app: Sphinx, config: Config) -> None:
    files = [file for file in config.html_js_files if not str(file).startswith(NAMED)]
    config.html_js_files = files


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("config-inited", leave_out, priority=100)  # before Sphinx turns names into (name, attributes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
