"""What a chapter says in words agrees with what it recorded."""

import json
import re
from pathlib import Path

import pytest

from icl_lib.claims import load_claims

RECORDED = [claim for claim in load_claims().values() if Path(f"figures/{claim.id}/result.json").is_file()]


def stated_verdict(notebook: Path) -> str:
    """The verdict in the first cell of a chapter."""
    first = "".join(json.loads(notebook.read_text())["cells"][0]["source"])
    found = re.search(r"\*\*Verdict: ([a-z ]+)\.\*\*", first)
    return found[1] if found else ""


@pytest.mark.parametrize("claim", RECORDED, ids=lambda claim: claim.id)
def test_the_verdict_at_the_top_is_the_recorded_one(claim):
    recorded = json.loads(Path(f"figures/{claim.id}/result.json").read_text())["verdict"]
    assert stated_verdict(Path(f"{claim.chapter}.ipynb")) == recorded
