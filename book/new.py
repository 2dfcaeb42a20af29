"""The skeleton of a new claim, made from the templates in ``tools/new``: it runs as it stands, and says TODO where words belong.

Files: the notebook, a study with its place in the reference, and a test. Entries: in the ledger, in
``chapters/parameters.yml`` and, where no pattern of ``_toc.yml`` finds the page, there.
"""

import keyword
import re
from fnmatch import fnmatch
from pathlib import Path

from icl_lib.paths import write_atomic
from icl_lib.validate import require

# Of a claim's first letter: folder of its chapter, key of its paper, first heading.
PARTS = {
    "L": ("softmax", "li2024", "The claim"),
    "K": ("mean_field", "kim2024", "The claim"),
    "Q": ("open", "open", "The question"),
}


def new(name: str, book: Path) -> list[Path]:
    """Write the skeleton of a claim ``L10`` or, with a name for its files, ``L10_width``; returns what was written or added to.

    Raises:
        ConfigError: for a name that is none, an id that is not its part's next one, and files that exist; nothing is written.
    """
    good = re.fullmatch(r"([LKQ])(\d+)(?:_([a-z][a-z0-9_]*))?", name)
    require(good is not None, "claim", name, "an id with a name for its files in small letters, such as L10_width")
    assert good is not None
    letter, number, stem = good[1], int(good[2]), good[3] or "draft"
    require(not keyword.iskeyword(stem), "claim", name, "another name: Python has that word for itself")
    ledger = (book / "claims.yml").read_text(encoding="utf-8")
    free = 1 + max((int(n) for n in re.findall(rf"^{letter}(\d+):", ledger, re.M)), default=0)
    require(number == free, "claim", name, f"the next one of its part, {letter}{free}")
    part, paper, heading = PARTS[letter]
    id = f"{letter}{number}"

    def template(file: str) -> str:
        text = (book / "tools" / "new" / file).read_text(encoding="utf-8")
        changes = {
            "L0": id,
            "l0": id.lower(),
            "new_claim": stem,
            "softmax": part,
            "li2024": paper,
            "The claim": heading,
        }
        return re.sub("|".join(changes), lambda found: changes[found[0]], text)

    files = {
        book / "chapters" / part / f"{id}_{stem}.ipynb": template("chapter.ipynb"),
        book / "studies" / f"{id}.py": template("measure.py"),
        book / "tests" / "studies" / f"test_{id}.py": template("test_measure.py"),
    }
    for file in files:
        require(not file.exists(), "claim", name, f"another name, {file.relative_to(book)} exists")
    table, reference, toc = (book / at for at in ("chapters/parameters.yml", "chapters/api/studies.md", "_toc.yml"))
    files[book / "claims.yml"] = _after(ledger, rf"{letter}\d+:", "\n" + template("ledger.yml"))
    files[table] = _after(table.read_text(encoding="utf-8"), rf"{part}/{letter}\d+_\w+:", template("parameters.yml"))
    module = f"\n## `{id}`\n\n```{{eval-rst}}\n.. automodule:: studies.{id}\n```\n"
    files[reference] = reference.read_text(encoding="utf-8") + module
    pages = toc.read_text(encoding="utf-8")
    if not any(fnmatch(f"chapters/{part}/{id}_{stem}", glob) for glob in re.findall(r"- glob: (\S+)", pages)):
        line = rf"- glob: chapters/{part}/{letter}.+"
        indent = re.findall(rf"^( *)- glob: chapters/{part}/{letter}", pages, re.M)[-1]
        files[toc] = _after(pages, line, f"{indent}- glob: chapters/{part}/{letter}{'?' * len(str(number))}_*\n")
    for file, text in files.items():
        write_atomic(file, text.encode())
    return list(files)


def _after(text: str, head: str, addition: str) -> str:
    """The text with an addition after the last block that begins with a line ``head``; what is indented further belongs to it.

    >>> _after("A1:\\n  x: 1\\n\\nB1:\\n", r"A\\d+:", "A2:\\n")
    'A1:\\n  x: 1\\nA2:\\n\\nB1:\\n'
    >>> _after(" - a: 1\\n - b: 1\\n", r"- a: \\d", " - a: 2\\n")
    ' - a: 1\\n - a: 2\\n - b: 1\\n'
    """
    *_, block = re.finditer(rf"^( *){head}\n(?:(?:\1 +|\n+\1 ).*\n)*", text, re.M)
    return text[: block.end()] + addition + text[block.end() :]
