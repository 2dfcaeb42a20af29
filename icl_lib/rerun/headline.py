"""The chapter's headline measures, as a run found them and as they are committed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icl_lib.paths import read_json
from icl_lib.rerun.book import ChapterFile

NOTE = (
    "*Estimate, 95 % interval in brackets, number of replications n, verdict. For a good one the control, which stands in the "
    "table of the verdict, has to fail too. The clauses measure:*"
)


def headline(chapter: ChapterFile, out: Path) -> str:
    """A Markdown table of the clauses, the result in the folder ``out`` beside the committed one; below it, what they measure.

    Empty for a chapter that records no result. A clause that one of the two lacks has a dash there.
    """
    committed = _clauses(chapter.book / "figures" / chapter.id / "result.json")
    found = _clauses(out / chapter.id / "result.json")
    if not found:
        return ""
    measures = chapter.entry.get("clauses", {})
    rows, words = ["| clause | this run | in the book |", "|---|---|---|"], []
    for name in {**committed, **found}:
        rows.append(f"| `{name}` | {_shown(found.get(name))} | {_shown(committed.get(name))} |")
        if name in measures:
            words.append(f"- `{name}`: {_plain(measures[name]['measure'])}")
    return "\n".join([*rows, "", NOTE, "", *words])


def _clauses(file: Path) -> dict[str, Any]:
    """The clauses of a result; none if there is no such file."""
    return dict(read_json(file).get("clauses", {})) if file.is_file() else {}


def _plain(text: str) -> str:
    """Text with nothing that Markdown would take for markup."""
    return re.sub(r"([\\`*_{}|$<>\[\]])", r"\\\1", text)


def _shown(clause: Mapping[str, Any] | None) -> str:
    if clause is None:
        return "–"
    from icl_lib.chapter import show  # both load what computes, which `icl` does not before it has to
    from icl_lib.stats import Interval

    value = Interval(**clause["value"])
    return f"{show(value)}, n = {value.n}: {clause['verdict']}"
