"""Part II and Q5 to Q8: what a chapter's parameters allow works, and what does not go together is refused before anything runs."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from book.parameters import Parameter
from book.registry import chapters
from icl_lib.validate import ConfigError

PARTS = ("mean_field/", "open/Q5", "open/Q6", "open/Q7", "open/Q8")
CHAPTERS = {c.id: c for c in chapters(Path.cwd()) if c.label.startswith(PARTS) and c.id != "K10"}
NATURAL = ("d", "k", "n_particles", "n_teacher", "size", "dt", "t_end")
EVERY = [(id, name) for id, chapter in CHAPTERS.items() for name in chapter.parameters]


def ends(parameter: Parameter) -> list[object]:
    """The ends of a parameter's range, or what lies just inside; of a list also one entry, and one twice."""
    low, high = parameter.range.ends()
    whole = "int" in parameter.kind
    inner, outer = parameter.range.text[0] == "[", parameter.range.text[-1] == "]"
    first = low if inner else low + (1 if whole else 1e-9)
    last = high if outer else high - (1 if whole else 1e-9)
    found = [int(x) if whole else x for x in (first, last)]
    if not parameter.kind.startswith("list"):
        return list(found)
    return [[found[0]], [found[1]], found, [found[0]] * 2]


@pytest.mark.parametrize("id", CHAPTERS)
def test_the_natural_parameters_stand_in_one_block_at_the_end(id: str) -> None:
    names = list(CHAPTERS[id].parameters)
    block = [name for name in NATURAL if name in names]
    assert len(block) >= 3 and names[-len(block) :] == block


@pytest.mark.parametrize(("id", "name"), EVERY)
def test_the_ends_of_a_range_are_taken_or_refused_in_one_line(id: str, name: str) -> None:
    chapter = CHAPTERS[id]
    for value in ends(chapter.parameters[name]):
        said = f"{id}: "
        try:
            assert chapter.values({name: value})[name] == value
        except ConfigError as refusal:
            said = str(refusal)
        assert said.startswith(f"{id}: ") and len(said.splitlines()) == 1


REFUSED = [  # each of these used to stop a chapter in a cell, some after minutes
    ("K1", {"d": 30}, "K1: n_teacher=16: must be .* n_teacher >= d [+] 1 [+] k [(]here d = 30, k = 3[)]"),
    ("K1", {"n_prompts": 60}, "K1: n_prompts=60: must be .* n_prompts % 50 == 0"),
    ("K1", {"mixes": [0.5, 0.5]}, "K1: mixes=.* each once"),
    ("K1", {"n_others": 11}, "K1: n_others=11"),
    ("K2", {"k": 2}, "K2: k=2: must be .* k == len[(]spectrum[)]"),
    ("K2", {"ratios": [10.0, 100.0]}, "K2: ratios="),
    ("K4", {"d": 5}, "K4: d=5: must be .* d >= 2 [*] len[(]spectrum[)]"),
    ("K6", {"k": 1}, "K6: k=1"),
    ("K6", {"n_draws": 1}, "K6: n_draws=1"),
    ("K7", {"n_few": 11}, "K7: n_few=11"),
    ("K7", {"other_displacements": [0.01]}, "K7: other_displacements="),
    ("K8", {"widths": [30, 60]}, "K8: widths="),
    ("K9", {"k": 1, "spectrum": [1.0]}, "K9: k=1"),
    ("K9", {"lengths": [10, 10]}, "K9: lengths=.* each once"),
    ("bridge", {"t_end": 10.0}, "bridge: t_end=10.0: must be .* t_end <= t_late"),
    ("Q5", {"n_particles": 4}, "Q5: n_particles=4"),
    ("Q6", {"n_grid": 81}, "Q6: n_grid=81"),
    ("Q7", {"sixtyfourths": [4]}, "Q7: sixtyfourths="),
    ("Q7", {"fit_sizes": [4]}, "Q7: fit_sizes=.* k [*] k"),
    ("Q8", {"k": 9}, "Q8: k=9: must be .* k <= d"),
]


@pytest.mark.parametrize(("id", "given", "message"), REFUSED)
def test_what_does_not_go_together_is_refused_at_once(id: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        CHAPTERS[id].values(given)


SMALL = {  # settings at which a chapter runs in seconds; each used to stop it in a late cell
    "K8": {"n_seeds": 2, "n_reference": 40, "widths": [5, 10, 20], "n_control": 20, "n_small": 20, "small_widths": [5, 10], "t_late": 1.0,
           "k": 1, "dt": 0.15, "t_end": 0.6},
    "Q5": {"n_seeds": 2, "d": 6, "k": 1, "n_teacher": 2, "n_particles": 4, "dt": 0.1, "t_short": 0.5, "dt_fine": 0.1,
           "dt_long": 0.5, "t_long": 2.0, "n_starts": 3, "sizes": [1.0], "supports": [8], "d_fresh": 2, "n_candidates": 1,
           "scales_of_a": [1.0]},
}  # fmt: skip


@pytest.mark.parametrize("id", SMALL)
def test_a_chapter_runs_at_a_corner(id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICL_BOOK_OUT", str(tmp_path))
    monkeypatch.setattr("book.chapter.display", lambda shown: None)
    chapter, scope = CHAPTERS[id], {"display": lambda shown: None}  # as IPython gives it to every cell
    cells = json.loads(chapter.notebook.read_text(encoding="utf-8"))["cells"]
    first, *rest = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    exec(first, scope)
    scope |= chapter.values(SMALL[id])
    try:
        for source in rest:
            exec(source, scope)
    finally:
        plt.close("all")
    assert json.loads((tmp_path / id / "result.json").read_text(encoding="utf-8"))["verdict"]
