"""References as list items: docutils gives them a role that ARIA has withdrawn, and that leaves their list empty."""

from typing import Any

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata


def as_list_items(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("html-page-context", as_list_items)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
