"""The ledger, the judge, and recorded verdicts against recorded numbers."""

import copy
import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from book import words
from book.claims import (
    NOT_MEASURED,
    Claim,
    Clause,
    Measured,
    if_measurable,
    judge,
    judge_clause,
    load_claims,
    meets,
    misses,
    read_result,
    result_json,
)
from book.registry import asked
from icl_lib.paths import root, write_json
from icl_lib.stats import Interval, mean_interval
from icl_lib.validate import ConfigError

CLAIMS = load_claims()
IDS = list(CLAIMS)
CRITERIA = [(f"{c.id}.{key}", clause) for c in CLAIMS.values() for key, clause in c.clauses.items()]


def interval(low: float, high: float, n: int = 10) -> Interval:
    return Interval((low + high) / 2, low, high, n)


INTERVALS = st.tuples(st.floats(-3, 3), st.floats(-3, 3)).map(sorted).map(lambda ends: interval(*ends))


def reference_verdict(value: dict, control: dict, passes: dict, partly: dict) -> str:
    """The rule at the head of claims.yml, written out a second time, on plain numbers."""

    def whole(x: dict, criterion: dict) -> bool:
        if "below" in criterion:
            return x["high"] < criterion["below"]
        if "above" in criterion:
            return x["low"] > criterion["above"]
        a, b = criterion["inside"]
        return a <= x["low"] and x["high"] <= b

    def outside(x: dict, criterion: dict) -> bool:
        if "below" in criterion:
            return x["low"] > criterion["below"]
        if "above" in criterion:
            return x["high"] < criterion["above"]
        a, b = criterion["inside"]
        return x["high"] < a or x["low"] > b

    if not outside(control, passes):
        return "not reproduced"
    if whole(value, passes):
        return "reproduced"
    return "partly" if whole(value, partly) else "not reproduced"


# The ledger.


def test_every_claim_once_in_order() -> None:
    parts = Counter(name[0] for name in IDS)
    assert [f"{part}{i + 1}" for part in "LKQ" for i in range(parts[part])] == IDS
    assert all(claim.id == name for name, claim in CLAIMS.items())
    text = (root() / "claims.yml").read_text()
    assert [
        line[:-1] for line in text.splitlines() if line[:1] in "LKQ" and line.endswith(":")
    ] == IDS  # YAML hides doubles
    assert {file.parent.name for file in (root() / "figures").glob("*/result.json")} <= set(IDS)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=IDS)
def test_entries_are_complete(claim: Claim) -> None:
    assert claim.paper == {"L": "li2024", "K": "kim2024", "Q": "open"}[claim.id[0]]
    folder = {"L": "softmax", "K": "mean_field", "Q": "open"}[claim.id[0]]
    assert claim.chapter.startswith(f"chapters/{folder}/{claim.id}_")
    for text in (claim.where, claim.title, claim.statement, claim.finite):
        assert text.strip() == text and len(text) > 5
    assert claim.clauses
    for clause in claim.clauses.values():
        assert len(clause.measure) > 5 and clause.control.strip()
        assert clause.control != clause.measure


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=IDS)
def test_what_was_found_is_said_in_words(claim: Claim) -> None:
    """With the limits of the ledger, without names of clauses, and for the verdict that is recorded."""
    for key, clause in claim.clauses.items():
        said = clause.says.replace("{value}", "").replace("{control}", "")
        ((_, bound),) = clause.passes.items()
        limits = bound if isinstance(bound, list) else [bound]
        assert f"to pass, {words.criterion(clause.passes)}" in said, (key, limits)
        assert key not in said or "_" not in key
    file = root() / "figures" / claim.id / "result.json"
    if file.is_file():
        measured, _ = read_result(file)
        assert claim.finding
        assert claim.finding.when == [judge_clause(clause, measured[key]) for key, clause in claim.clauses.items()]
        found = claim.finding.says
        assert found.strip() == found and found.endswith(".") and "_" not in found


@pytest.mark.parametrize(("name", "clause"), CRITERIA, ids=[name for name, _ in CRITERIA])
def test_criteria_are_well_formed(name: str, clause: Clause) -> None:
    for criterion in (clause.passes, clause.partly):
        ((kind, bound),) = criterion.items()
        numbers = bound if kind == "inside" else [bound]
        assert kind in ("below", "above", "inside") and isinstance(numbers, list)
        assert all(type(x) in (int, float) and math.isfinite(x) for x in numbers)
        assert kind != "inside" or (len(numbers) == 2 and numbers[0] < numbers[1])


@given(INTERVALS, st.sampled_from(CRITERIA))
def test_partly_is_the_weaker_reading(found: Interval, named: tuple[str, Clause]) -> None:
    _, clause = named
    if meets(found, clause.passes):
        assert meets(found, clause.partly)
    assert clause.passes != clause.partly


@given(INTERVALS, INTERVALS, st.sampled_from(CRITERIA))
def test_judge_follows_the_written_rule(value: Interval, control: Interval, named: tuple[str, Clause]) -> None:
    _, clause = named
    expected = reference_verdict(value._asdict(), control._asdict(), clause.passes, clause.partly)
    assert judge_clause(clause, Measured(value, control)) == expected


@pytest.mark.parametrize(
    "criterion",
    [{}, {"under": 1}, {"below": 1, "above": 0}, {"inside": [0, 1], "below": 2}, {"inside": 1}, {"below": [0, 1]}],
    ids=str,
)
@pytest.mark.parametrize("which", ["pass", "partly"])
def test_unknown_criteria_are_refused(tmp_path: Path, criterion: dict, which: str) -> None:
    entries = yaml.safe_load((root() / "claims.yml").read_text())
    entries["L2"]["clauses"]["alpha"][which] = criterion
    (tmp_path / "claims.yml").write_text(yaml.safe_dump(entries, sort_keys=False))
    with pytest.raises(ConfigError, match=r"L2\.alpha=.*: must be one of \{below: x\}, \{above: x\}, \{inside: "):
        load_claims(tmp_path)


@pytest.mark.parametrize("says", ["", "no number", "{value}", "{value} of {value}, {control}"])
def test_a_sentence_has_both_numbers_once(tmp_path: Path, says: str) -> None:
    entries = yaml.safe_load((root() / "claims.yml").read_text())
    entries["L2"]["clauses"]["alpha"]["says"] = says
    (tmp_path / "claims.yml").write_text(yaml.safe_dump(entries, sort_keys=False))
    with pytest.raises(ConfigError, match=r"L2\.alpha\.says=.*: must be a sentence with \{value\} and \{control\}"):
        load_claims(tmp_path)


@pytest.mark.parametrize(
    "finding",
    ["It is so.", {"says": "It is so."}, {"says": "It is so.", "when": ["partly"]}, {"says": "It is so.", "when": 4}],
)
def test_a_finding_belongs_to_verdicts(tmp_path: Path, finding: object) -> None:
    entries = yaml.safe_load((root() / "claims.yml").read_text())
    entries["L2"]["finding"] = finding
    (tmp_path / "claims.yml").write_text(yaml.safe_dump(entries, sort_keys=False))
    with pytest.raises(
        ConfigError, match=r"L2\.finding=.*: must be says, a sentence, and when, a verdict for every clause"
    ):
        load_claims(tmp_path)


@pytest.mark.parametrize("ours", ["", "ours", "theirs", True, None, ["our result"]])
def test_what_is_ours_is_a_reading_or_a_result(tmp_path: Path, ours: object) -> None:
    entries = yaml.safe_load((root() / "claims.yml").read_text())
    entries["L2"]["clauses"]["alpha"]["ours"] = ours
    (tmp_path / "claims.yml").write_text(yaml.safe_dump(entries, sort_keys=False))
    with pytest.raises(
        ConfigError, match=r"L2\.alpha\.ours=.*: must be one of 'our reading', 'our result', or left out"
    ):
        load_claims(tmp_path)
    entries["L2"]["clauses"]["alpha"]["ours"] = "our result"
    (tmp_path / "claims.yml").write_text(yaml.safe_dump(entries, sort_keys=False))
    assert load_claims(tmp_path)["L2"].clauses["alpha"].ours == "our result"
    assert load_claims(tmp_path)["L2"].counted == ["beta", "n_idr", "step_size"]


def test_unknown_and_missing_fields_are_refused(tmp_path: Path) -> None:
    entries = yaml.safe_load((root() / "claims.yml").read_text())
    for change, error in (({"verdict": "reproduced"}, ConfigError), ({"title": None}, TypeError)):
        changed = copy.deepcopy(entries)
        changed["L1"].update(change)
        if change.get("title", "") is None:
            del changed["L1"]["title"]
        (tmp_path / "claims.yml").write_text(yaml.safe_dump(changed, sort_keys=False))
        with pytest.raises(error, match="verdict|title"):
            load_claims(tmp_path)


# The judge on hand-made cases.

BELOW = Clause("m", {"below": 0.1}, {"below": 0.3}, "c")
INSIDE = Clause("m", {"inside": [-0.8, -0.5]}, {"below": 0}, "c")
FAR = interval(0.6, 0.7)


@pytest.mark.parametrize(
    ("clause", "low", "high", "verdict"),
    [
        (BELOW, 0.0, 0.09, "reproduced"),
        (BELOW, 0.0, 0.1, "partly"),  # the end on the bound does not pass
        (BELOW, 0.0, 0.2, "partly"),
        (BELOW, 0.2, 0.29, "partly"),
        (BELOW, 0.0, 0.3, "not reproduced"),
        (BELOW, 0.5, 0.6, "not reproduced"),
        (INSIDE, -0.8, -0.5, "reproduced"),  # closed
        (INSIDE, -0.81, -0.5, "partly"),
        (INSIDE, -0.8, -0.49, "partly"),
        (INSIDE, -3.0, -2.0, "partly"),
        (INSIDE, -0.7, 0.0, "not reproduced"),
        (BELOW, math.nan, math.nan, "not reproduced"),
        (BELOW, -math.inf, math.inf, "not reproduced"),
    ],
)
def test_clause(clause: Clause, low: float, high: float, verdict: str) -> None:
    assert judge_clause(clause, Measured(interval(low, high), FAR)) == verdict


@pytest.mark.parametrize(
    ("clause", "low", "high", "fails"),
    [
        (BELOW, 0.11, 0.2, True),
        (BELOW, 0.1, 0.2, False),  # it touches the bound
        (BELOW, 0.0, 0.2, False),  # undecided
        (BELOW, 0.0, 0.05, False),  # it passes, like the claim itself
        (BELOW, math.nan, math.nan, False),
        (INSIDE, -0.49, 0.1, True),
        (INSIDE, -2.0, -0.81, True),
        (INSIDE, -2.0, -0.8, False),
        (INSIDE, -2.0, 1.0, False),
        (INSIDE, -0.7, -0.6, False),
    ],
)
def test_control_must_fail(clause: Clause, low: float, high: float, fails: bool) -> None:
    """A perfect value is worth nothing beside a control that does not clearly fail the same check."""
    perfect = interval(0.01, 0.02) if clause is BELOW else interval(-0.7, -0.6)
    control = interval(low, high)
    assert misses(control, clause.passes) == fails
    assert judge_clause(clause, Measured(perfect, control)) == ("reproduced" if fails else "not reproduced")


@given(INTERVALS, st.sampled_from([{"below": 0.5}, {"above": -1}, {"inside": [-1, 1]}]))
def test_never_both(found: Interval, criterion: dict) -> None:
    assert not (meets(found, criterion) and misses(found, criterion))


def claim(*names: str) -> Claim:
    return Claim("L1", "li2024", "where", "title", "statement", "finite", "chapter", dict.fromkeys(names, BELOW))


GOOD, HALF, BAD = (Measured(interval(0, high), FAR) for high in (0.05, 0.2, 0.5))
VAIN = Measured(interval(0, 0.05), interval(0, 0.05))
NONE, UNCONTROLLED = Measured(NOT_MEASURED, NOT_MEASURED), Measured(GOOD.value, NOT_MEASURED)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([GOOD], "reproduced"),
        ([GOOD, GOOD], "reproduced"),
        ([GOOD, HALF], "partly"),
        ([GOOD, BAD], "partly"),
        ([GOOD, VAIN], "partly"),
        ([HALF, HALF], "partly"),
        ([HALF, BAD], "partly"),
        ([BAD, BAD], "not reproduced"),
        ([VAIN], "not reproduced"),
        ([GOOD, NONE], "partly"),
        ([BAD, NONE], "not reproduced"),
        ([NONE, NONE], "not measured"),
        ([UNCONTROLLED], "not measured"),
    ],
)
def test_claim(found: list[Measured], verdict: str) -> None:
    names = "abc"[: len(found)]
    assert judge(claim(*names), dict(zip(names, found, strict=True))) == verdict


def test_what_a_setting_does_not_allow_is_not_measured_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """A chapter far from the ledger's setting used to stop in its last cell."""
    assert if_measurable(mean_interval, [1.0, 1.0]).n == 2
    assert if_measurable(mean_interval, [1.0, math.nan]) is NOT_MEASURED
    assert capsys.readouterr().out == "not measured: values[1]=nan: must be finite\n"
    with pytest.raises(ZeroDivisionError):
        if_measurable(lambda: 1 / 0)


def test_every_clause_is_needed() -> None:
    for found in ({"a": GOOD}, {}, {"a": GOOD, "b": GOOD, "c": GOOD}):
        with pytest.raises(ConfigError, match=r"clauses of L1=\[.*\]: must be \['a', 'b'\]"):
            judge(claim("a", "b"), found)
    assert judge(claim(), {}) == "theory only"


@pytest.mark.parametrize(
    ("paper", "kinds", "found", "verdict"),
    [
        ("li2024", ["", "our result"], [GOOD, BAD], "reproduced"),
        ("li2024", ["", "our reading"], [BAD, GOOD], "not reproduced"),
        ("li2024", ["", "our reading", ""], [GOOD, BAD, HALF], "partly"),
        ("kim2024", ["our result", "our reading"], [GOOD, GOOD], "theory only"),
        ("open", ["our result", "our result"], [GOOD, BAD], "partly"),  # all of it is ours: all counts
        ("open", ["our result"], [GOOD], "reproduced"),
    ],
)
def test_the_verdict_is_on_what_the_paper_says(
    paper: str, kinds: list[str], found: list[Measured], verdict: str
) -> None:
    clauses = {f"c{i}": dataclasses.replace(BELOW, ours=kind) for i, kind in enumerate(kinds)}
    of = dataclasses.replace(claim(), paper=paper, clauses=clauses)
    measured = dict(zip(clauses, found, strict=True))
    assert judge(of, measured) == verdict == result_json(of, measured)["verdict"]
    with pytest.raises(ConfigError, match="clauses of L1"):  # a clause of ours has to be there all the same
        judge(of, dict(list(measured.items())[:-1]))


def test_whose_a_clause_is_moves_no_run() -> None:
    entry = {"finite": "f", "title": "t", "clauses": {"a": {"measure": "m", "says": "s", "ours": "our result"}}}
    assert asked(entry) == {"finite": "f", "clauses": {"a": {"measure": "m"}}}


# Result files.


def test_round_trip(tmp_path: Path) -> None:
    found = {"a": GOOD, "b": Measured(interval(0.1, 1 / 3, 12), interval(2 / 3, 5e-324))}
    content = result_json(claim("a", "b"), found, code_hash="x", parameters={"n": 3})
    write_json(tmp_path / "L1" / "result.json", content)
    measured, read = read_result(tmp_path / "L1" / "result.json")
    assert measured == found and read == content
    assert read["verdict"] == "partly" and read["code_hash"] == "x"
    assert [entry["verdict"] for entry in read["clauses"].values()] == ["reproduced", "not reproduced"]
    first = (tmp_path / "L1" / "result.json").read_bytes()
    write_json(tmp_path / "L1" / "result.json", dict(reversed(content.items())))
    assert (tmp_path / "L1" / "result.json").read_bytes() == first  # equal contents, equal files


def disagreements(figures: Path, claims: dict[str, Claim]) -> list[str]:
    """What is wrong with the recorded results below a folder: each verdict is recomputed from the numbers and the ledger."""
    wrong = []
    for file in sorted(figures.glob("*/result.json")):
        measured, content = read_result(file)
        name = str(content["claim"])
        if name != file.parent.name or name not in claims:
            wrong.append(f"{file.parent.name}: says it is {name}")
            continue
        of = claims[name]
        if set(measured) != set(of.clauses):
            wrong.append(f"{name}: clauses {sorted(measured)}")
            continue
        if content["verdict"] != judge(of, measured):
            wrong.append(f"{name}: recorded as {content['verdict']}, is {judge(of, measured)}")
        for key, entry in content["clauses"].items():  # type: ignore[attr-defined]
            clause, numbers = of.clauses[key], [*entry["value"].values(), *entry["control"].values()]
            verdict = reference_verdict(entry["value"], entry["control"], clause.passes, clause.partly)
            if not all(math.isfinite(x) for x in numbers):
                wrong.append(f"{name}.{key}: not finite")
            if any(
                not x["low"] <= x["estimate"] <= x["high"] or x["n"] < 2 for x in (entry["value"], entry["control"])
            ):
                wrong.append(f"{name}.{key}: not an interval over seeds")
            if entry["verdict"] != verdict:
                wrong.append(f"{name}.{key}: recorded as {entry['verdict']}, is {verdict}")
            if entry["verdict"] != "not reproduced" and not misses(measured[key].control, clause.passes):
                wrong.append(f"{name}.{key}: its control does not fail")
    return wrong


def test_recorded_verdicts_follow_from_recorded_numbers() -> None:
    assert disagreements(root() / "figures", CLAIMS) == []


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Results of every claim of the ledger, honestly recorded: value inside the criterion, control outside."""
    for name, of in CLAIMS.items():
        found = {}
        for key, clause in of.clauses.items():
            ((kind, bound),) = clause.passes.items()
            low, high = bound if isinstance(bound, list) else (bound, bound)
            value = {"below": (low - 2, low - 1), "above": (low + 1, low + 2), "inside": (low, high)}[kind]
            control = {"below": (low + 1, low + 2), "above": (low - 2, low - 1), "inside": (high + 1, high + 2)}[kind]
            found[key] = Measured(interval(*value), interval(*control))
        write_json(tmp_path / name / "result.json", result_json(of, found, code_hash="x"))
    assert disagreements(tmp_path, CLAIMS) == []
    return tmp_path


@pytest.mark.parametrize("name", IDS)
def test_a_changed_result_is_found_out(recorded: Path, name: str) -> None:
    """The check can fail: another verdict, number, criterion or clause does not go unnoticed."""
    file = recorded / name / "result.json"
    honest = json.loads(file.read_text())
    verdict = "reproduced" if CLAIMS[name].counted else "theory only"
    assert honest["verdict"] == verdict
    key = next(iter(honest["clauses"]))

    def complaints(**change: object) -> list[str]:
        forged = copy.deepcopy(honest)
        for path, value in change.items():
            place, *more = path.split("__")
            if more:
                forged["clauses"][key][place][more[0]] = value
            elif place == "verdict":
                forged["verdict"] = value
            else:
                forged["clauses"][key][place] = value
        write_json(file, forged)
        return disagreements(recorded, CLAIMS)

    assert complaints() == []
    assert any(f"recorded as partly, is {verdict}" in c for c in complaints(verdict="partly"))
    wrong_clause = copy.deepcopy(honest)
    wrong_clause["clauses"][key]["verdict"] = "partly"
    write_json(file, wrong_clause)
    assert disagreements(recorded, CLAIMS) == [f"{name}.{key}: recorded as partly, is reproduced"]
    assert complaints(control=honest["clauses"][key]["value"])  # a control that passes
    assert complaints(value=honest["clauses"][key]["control"])  # a value that does not
    assert complaints(value__high=1e9, value__low=-1e9)
    assert complaints(value__estimate=math.nan)
    del wrong_clause["clauses"][key]
    write_json(file, wrong_clause)
    assert disagreements(recorded, CLAIMS)
    file.rename(recorded / ("L2" if name != "L2" else "L1") / "result.json")
    assert any(f"says it is {name}" in c for c in disagreements(recorded, CLAIMS))
