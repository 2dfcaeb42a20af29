"""The ledger of claims: read it, judge recorded numbers by it, record results.

``claims.yml`` says what passes; a result file holds numbers only, and every verdict follows from the two.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path

from icl_lib.paths import read_json, read_yaml, root
from icl_lib.stats import Interval
from icl_lib.validate import ConfigError, require

VERDICTS = ("reproduced", "partly", "not reproduced", "theory only", "not yet measured")
COLUMNS = {"ends": "Where training ends", "costs": "What it costs"}  # of the picture on the front page
OURS = ("our reading", "our result")  # what a clause says that its paper does not
NOT_MEASURED = Interval(math.nan, math.nan, math.nan, 0)  # of a clause, at a setting that does not allow it


@dataclass(frozen=True)
class Clause:
    """One measured part of a claim with its pass criterion and its negative control.

    Attributes:
        says: a sentence with ``{value}`` and ``{control}`` in it, for pages; "" if there is none.
        ours: one of `OURS`; "" if it is what the paper says. A clause of ours does not count in the verdict on a paper's claim.
    """

    measure: str
    passes: dict[str, object]
    partly: dict[str, object]
    control: str
    says: str = ""
    ours: str = ""


@dataclass(frozen=True)
class Finding:
    """The result of an entry in one sentence, and the verdicts on its clauses, in their order, that it was written for."""

    says: str
    when: list[str]


@dataclass(frozen=True)
class Tile:
    """An entry in the picture of the front page: which of `COLUMNS` it stands in, and its result in at most five words."""

    column: str
    words: str


@dataclass(frozen=True)
class First:
    """What the first screen of a chapter says beside the claim and what was found.

    Attributes:
        did: what was done, in at most two sentences.
        figure: the key figure, by its name in ``figures/<id>``; its title is what was found.
        refuted: what would have refuted the claim here, in a sentence.
        claim: the claim in one plain sentence, where its statement is longer; "" for the statement.
    """

    did: str
    figure: str
    refuted: str
    claim: str = ""


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger."""

    id: str
    paper: str
    where: str
    title: str
    statement: str
    finite: str
    chapter: str
    clauses: dict[str, Clause]
    theory_only: list[str] = field(default_factory=list)
    heavy: bool = False
    changes: list[str] = field(default_factory=list)
    finding: Finding | None = None
    tile: Tile | None = None
    first: First | None = None

    @property
    def key_figure(self) -> str:
        """The figure to look at first, by the name of its file; "" for the first one of the chapter."""
        return self.first.figure if self.first else ""

    @property
    def counted(self) -> list[str]:
        """The clauses that its verdict follows from: of a paper's claim, those that the paper says; of an open question, all."""
        return [key for key, clause in self.clauses.items() if self.paper == "open" or not clause.ours]


@dataclass(frozen=True)
class Measured:
    """What a chapter found for one clause: the interval over seeds, and that of the negative control."""

    value: Interval
    control: Interval


def if_measurable(interval: Callable[..., Interval], *args: object, **options: object) -> Interval:
    """``interval(*args, **options)``; where the values allow none, as far from the ledger's setting they may not, NOT_MEASURED.

    The reason is then printed: the refusal of the function.

    >>> from icl_lib.stats import mean_interval
    >>> if_measurable(mean_interval, [])
    not measured: values=(0,): must be one value per seed, for at least 2 seeds
    Interval(estimate=nan, low=nan, high=nan, n=0)
    """
    try:
        return interval(*args, **options)
    except ConfigError as refusal:
        print(f"not measured: {refusal}")
        return NOT_MEASURED


def load_claims(folder: Path | None = None) -> dict[str, Claim]:
    """The ledger in its order, by claim id. Refuses unknown fields and criteria that are not understood."""
    path = (folder or root()) / "claims.yml"
    return dict(_read(path, path.read_bytes() if path.is_file() else b""))


def claims_by_page(folder: Path) -> dict[str, Claim]:
    """The claims by the pages of their chapters; none without a ledger."""
    return {c.chapter: c for c in load_claims(folder).values()} if (folder / "claims.yml").is_file() else {}


@lru_cache(maxsize=4)
def _read(path: Path, text: bytes) -> dict[str, Claim]:
    """The ledger of a file; parsed again where its text has changed."""
    entries = read_yaml(path)
    claims, known = {}, {f.name for f in fields(Claim)} - {"id"}
    for name, entry in entries.items():
        require(set(entry) <= known, name, sorted(set(entry) - known), f"an entry with the fields {sorted(known)} only")
        clauses = {}
        for key, clause in entry.pop("clauses").items():
            more = sorted(set(clause) - {"measure", "pass", "partly", "control", "says", "ours"})
            require(not more, f"{name}.{key}", more, "a clause with measure, pass, partly, control, says and ours only")
            ours = clause.get("ours", "")
            known_as = "one of 'our reading', 'our result', or left out where the paper says it"
            require("ours" not in clause or ours in OURS, f"{name}.{key}.ours", ours, known_as)
            says = clause.get("says", "{value} {control}")
            once = all(says.count(part) == 1 for part in ("{value}", "{control}"))
            require(once, f"{name}.{key}.says", says, "a sentence with {value} and {control} in it, each once")
            kept = clause["measure"], clause["pass"], clause["partly"], clause["control"]
            clauses[key] = Clause(*kept, clause.get("says", ""), ours)
            for criterion in (clause["pass"], clause["partly"]):
                understood = len(criterion) == 1 and set(criterion) <= {"below", "above", "inside"}
                understood &= all(isinstance(x, list) == (kind == "inside") for kind, x in criterion.items())
                require(understood, f"{name}.{key}", criterion, "one of {below: x}, {above: x}, {inside: [a, b]}")
        if finding := entry.pop("finding", None):
            whole = isinstance(finding, dict) and set(finding) == {"says", "when"} and isinstance(finding["when"], list)
            whole = whole and len(finding["when"]) == len(clauses)
            require(whole, f"{name}.finding", finding, "says, a sentence, and when, a verdict for every clause")
            finding = Finding(**finding)
        tile = _tile(name, entry.pop("tile", None))
        first = _first(name, entry.pop("first", None))
        claims[name] = Claim(id=name, clauses=clauses, finding=finding, tile=tile, first=first, **entry)
    return claims


def _tile(name: str, entry: object) -> Tile | None:
    """The tile of an entry, checked; None where there is none."""
    if entry is None:
        return None
    said: dict[str, str] = entry if isinstance(entry, dict) else {}
    whole = set(said) == {"column", "words"} and said["column"] in COLUMNS
    whole = whole and isinstance(said["words"], str) and 1 <= len(said["words"].split()) <= 5
    require(whole, f"{name}.tile", entry, f"a column, one of {sorted(COLUMNS)}, and words, one to five")
    return Tile(**said)


def _first(name: str, entry: object) -> First | None:
    """What the first screen says, checked; None where there is nothing."""
    if entry is None:
        return None
    said: dict[str, str] = entry if isinstance(entry, dict) else {}
    whole = set(said) - {"claim"} == {"did", "figure", "refuted"} and all(
        isinstance(one, str) and one for one in said.values()
    )
    require(whole, f"{name}.first", entry, "did, figure and refuted, and perhaps claim, a text each")
    return First(**said)


def passing(claim: str, clause: str) -> dict[str, object]:
    """The criterion of a clause, and nothing else of the ledger."""
    return dict(read_yaml(root() / "claims.yml")[claim]["clauses"][clause]["pass"])


def ends(criterion: Mapping[str, object]) -> tuple[float, float]:
    """Lower and upper end of a criterion, infinite where there is none.

    >>> ends({"inside": [0.75, 1.25]}), ends({"below": 0.05})
    ((0.75, 1.25), (-inf, 0.05))
    """
    ((kind, bound),) = criterion.items()
    if isinstance(bound, list):
        return float(bound[0]), float(bound[1])
    end = float(bound)  # type: ignore[arg-type]
    return (-math.inf, end) if kind == "below" else (end, math.inf)


def meets(interval: Interval, criterion: Mapping[str, object]) -> bool:
    """Whether the whole interval meets the criterion.

    >>> meets(Interval(0.9, 0.8, 1.0, 10), {"inside": [0.75, 1.25]})
    True
    """
    low, high = ends(criterion)
    if "below" in criterion:
        return bool(interval.high < high)
    if "above" in criterion:
        return bool(interval.low > low)
    return bool(low <= interval.low and interval.high <= high)


def misses(interval: Interval, criterion: Mapping[str, object]) -> bool:
    """Whether the whole interval lies outside: what a negative control has to do."""
    low, high = ends(criterion)
    return bool(interval.high < low or interval.low > high)


def judge_clause(clause: Clause, measured: Measured) -> str:
    """Verdict on one clause; a control that does not fail the check makes it worthless, and so does what is not measured.

    >>> clause = Clause("error", {"below": 0.05}, {"below": 0.2}, "attention not trained")
    >>> control = Interval(0.4, 0.3, 0.5, 10)
    >>> judge_clause(clause, Measured(Interval(0.02, 0.01, 0.03, 10), control))
    'reproduced'
    >>> judge_clause(clause, Measured(Interval(0.06, 0.04, 0.08, 10), control))
    'partly'
    """
    if 0 in (measured.value.n, measured.control.n):
        return "not measured"
    if not misses(measured.control, clause.passes):
        return "not reproduced"
    if meets(measured.value, clause.passes):
        return "reproduced"
    return "partly" if meets(measured.value, clause.partly) else "not reproduced"


def why(clause: Clause, measured: Measured) -> str:
    """Why a clause is not counted as reproduced, in words; empty if it is."""
    reasons = []
    if not meets(measured.value, clause.passes):
        weaker, worse = meets(measured.value, clause.partly), misses(measured.value, clause.partly)
        undecided = "even the weaker reading is not certain"
        reasons.append(
            "only the weaker reading holds" if weaker else "fails even the weaker reading" if worse else undecided
        )
    if not misses(measured.control, clause.passes):
        passes = meets(measured.control, clause.passes)
        reasons.append("its control passes too" if passes else "its control does not clearly fail")
    return "; ".join(reasons)


def overall(verdicts: Iterable[str]) -> str:
    """Verdict on a claim from those on the clauses that count; "theory only" without any.

    >>> overall(["reproduced", "not reproduced"]), overall([])
    ('partly', 'theory only')
    """
    found = set(verdicts)
    if not found:
        return "theory only"
    if len(found) == 1:
        return found.pop()
    return "not reproduced" if found <= {"not reproduced", "not measured"} else "partly"


def judge(claim: Claim, measured: Mapping[str, Measured]) -> str:
    """Verdict on a claim from the numbers of its clauses, those of ours not counted; every clause must be there, NOT_MEASURED or not."""
    require(set(measured) == set(claim.clauses), f"clauses of {claim.id}", sorted(measured), f"{sorted(claim.clauses)}")
    return overall(judge_clause(claim.clauses[key], measured[key]) for key in claim.counted)


def result_json(claim: Claim, measured: Mapping[str, Measured], **provenance: object) -> dict[str, object]:
    """What a chapter records: numbers, the verdict that follows, and where they come from."""
    clauses = {
        key: {
            "value": m.value._asdict(),
            "control": m.control._asdict(),
            "verdict": judge_clause(claim.clauses[key], m),
        }
        for key, m in measured.items()
    }
    return {"claim": claim.id, "verdict": judge(claim, measured), "clauses": clauses, **provenance}


def read_result(path: Path) -> tuple[dict[str, Measured], dict[str, object]]:
    """Numbers of a recorded result, and the file's whole content."""
    content = read_json(path)
    measured = {
        key: Measured(Interval(**entry["value"]), Interval(**entry["control"]))
        for key, entry in content["clauses"].items()
    }
    return measured, content
