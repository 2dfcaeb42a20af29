"""The buttons in the navigation that show the pages below a page: the theme gives them no name for screen readers."""

from typing import Any

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata


def name_toggles(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    made = context["generate_toctree_html"]

    def named(*args: Any, **kwargs: Any) -> Any:
        navigation = made(*args, **kwargs)
        for summary in navigation.select("li.has-children > details > summary"):
            summary["aria-label"] = f"Pages of: {summary.find_previous('a').get_text(strip=True)}"
        return navigation

    context["generate_toctree_html"] = named


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("html-page-context", name_toggles, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
