"""Files below ``figures/`` that a page links to, copied beside the pages: data stays one click away, also offline."""

import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

LINK = re.compile(r'href="(?:\.\./)*(figures/[\w./-]+)"')


def copy_linked(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    for name in set(LINK.findall(context.get("body", ""))):
        source, target = Path(app.srcdir) / name, Path(app.outdir) / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        else:
            logging.getLogger(__name__).warning("%s links to %s, which is not there", page, name)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("html-page-context", copy_linked)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
