"""What somebody has typed, on a page in Markdown."""

import re


def as_text(value: object) -> str:
    """A value on a page in Markdown, where no letter of it makes HTML, a formula or anything else.

    >>> as_text([0.5, 1.0]), as_text("<b>")
    ('[0.5, 1.0]', '<code>&#60;b&#62;</code>')
    """
    if re.fullmatch(r"[A-Za-z0-9 .,:/+\[\]-]*", str(value)):  # brackets alone are no link
        return str(value)
    return f"<code>{''.join(c if c.isalnum() or c in ' ,.' else f'&#{ord(c)};' for c in str(value))}</code>"
