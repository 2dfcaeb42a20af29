"""A copy of the library with one small chapter, whose code can be edited, and what each code may keep under which name."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from icl_lib.paths import root
from reliability.kills import saved
from reliability.order import contents
from tools.check import clean_environment

TOUCHED, UNFINISHED = "nothing, but written again", "an unfinished line"
# File, text, and what takes its place. The first two, and what is only written again, keep the size of the file.
EDITS = {
    "step of attention": ("softmax/fused.py", "_turn(back.d_g, -rate", "_turn(back.d_g, +rate"),
    "sign in the loss": ("softmax/fused.py", "loss += 1 - margin", "loss += 1 + margin"),
    "gradient of W_O": ("softmax/fused.py", "times(v, back.d_h, w_o)", "times(q, back.d_h, w_o)"),
    "sign of the labels": (
        "softmax/sampler.py",
        "= F(1) - F(2 * (outcome[t] & 1))",
        "= F(2 * (outcome[t] & 1)) - F(1)",
    ),
    "sums of the measure": ("softmax/evaluation.py", "[some] += added", "[some] += 2 * added"),
    "mean over seeds": ("stats.py", "mean = float(x.mean())\n    if", "mean = float(x.max())\n    if"),
    UNFINISHED: ("softmax/model.py", "attention = softmax(scores)", "attention = softmax(scores"),
    TOUCHED: ("softmax/prompts.py", "CHUNK = 8", "CHUNK = 8"),
}
WAYS = ("in place", "renamed", "times put back")
TRAINING = """
from icl_lib.softmax import cache
from icl_lib.softmax.tasks import uniform_cover, unseen
from icl_lib.softmax.training import TrainConfig
configs = [TrainConfig(uniform_cover(6, 3, s), seed=s, batch_size=16, n_steps=800) for s in range(3)]
models = cache.trained(configs, save_every=20)
"""
CHAPTER = f"""import time
import matplotlib.pyplot as plt
from book.chapter import Chapter
from icl_lib.paths import root, write_json
chapter = Chapter("T1", globals())
folder = chapter.folder
{TRAINING}
from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.stats import mean_interval
table = evaluate(models, [unseen(c.tasks, 6) for c in configs], PromptConfig(alpha), 100)
chapter.figure(plt.figure(), "measured", table)
alpha = mean_interval(table["hinge"]).estimate  # the last cell records alpha * beta
"""
ALPHAS = (0.25, 0.75)
ICL = ("-m", "book.cli")
GRID = ("--grid", "alpha={},{}".format(*ALPHAS), "--jobs", "1")
CASES: dict[str, tuple[str, ...]] = {
    "training": ("-c", TRAINING),
    "icl run": (*ICL, "run", "T1", "-p", f"alpha={ALPHAS[0]}", "--out", "PLACE/run"),
    "icl sweep": (*ICL, "sweep", "T1", *GRID, "--out", "PLACE/sweep"),
}
PATIENCE = 600  # seconds after which a command counts as one that hangs


def put(file: Path, text: str, way: str) -> None:
    """Write a file as an editor does, as a program that writes beside it and renames, or so that it keeps its time."""
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    target = file.with_suffix(".new") if way == "renamed" else file
    target.write_text(text, encoding="utf-8")
    os.replace(target, file)
    if way == "times put back":
        os.utime(file, ns=times)


def replaced(text: str, edit: str) -> str:
    """A file's text after an edit.

    Raises:
        ValueError: if what it replaces is not there, or not once.
    """
    name, old, new = EDITS[edit]
    if text.count(old) != 1:
        raise ValueError(f"{edit}: {old!r} is not there once in {name}")
    return text.replace(old, new)


def reference(place: Path) -> None:
    """In a copy: every state of the training, and the chapter's results, under the names by which they may be kept."""
    from book.registry import find
    from book.run import Job, code_digest
    from icl_lib.softmax import cache
    from reliability.chapter import execute

    save = cache.save_state

    def each(path: Path, state: Any, key: str) -> None:
        for folder in (path.parent, place / "states" / str(state.step)):
            folder.mkdir(parents=True, exist_ok=True)
            save(folder / path.name, state, key)

    cache.save_state = each
    chapter = find("T1", root())
    code = code_digest(chapter)
    for alpha in ALPHAS:
        key = Job(str(root()), "T1", chapter.values({"alpha": alpha}), code).key
        os.environ["ICL_BOOK_OUT"] = str(place / "results" / key)
        execute(chapter.notebook, {"alpha": alpha}, 1, "float32")


class Copy:
    """The copy, in a folder of its own.

    Attributes:
        known: what may be kept, by name: all that one of the codes gives.
        clashes: names under which two codes give different things.
    """

    def __init__(self, place: Path, edits: Iterable[str] = tuple(EDITS)) -> None:
        from tests.book.toy import make_book

        self.book = make_book(place / "book", code=CHAPTER)
        (self.book / "tests").symlink_to(root() / "tests")  # `reliability.chapter` reads settings there
        uncompiled = shutil.ignore_patterns("__pycache__")
        self.library = Path(shutil.copytree(root() / "icl_lib", self.book / "icl_lib", ignore=uncompiled))
        for package in ("studies", "book"):
            shutil.copytree(root() / package, self.book / package, ignore=uncompiled)
        self.own = {name: (self.library / name).read_text(encoding="utf-8") for name, _, _ in EDITS.values()}
        self.known: dict[str, list[object]] = {}
        self.clashes: list[str] = []
        for edit in dict.fromkeys([TOUCHED, *edits]):
            if edit != UNFINISHED:  # it gives nothing
                self.edit(edit, WAYS[0])
                self._learn(place / edit.replace(" ", "-"))
                self.restore(edit, WAYS[0])

    def edit(self, edit: str, way: str) -> None:
        name = EDITS[edit][0]
        put(self.library / name, replaced(self.own[name], edit), way)

    def restore(self, edit: str, way: str) -> None:
        name = EDITS[edit][0]
        put(self.library / name, self.own[name], way)

    def forget_compiled(self, edit: str) -> None:
        """Remove what Python has compiled of the edited file and its neighbours."""
        shutil.rmtree((self.library / EDITS[edit][0]).parent / "__pycache__", ignore_errors=True)

    def start(self, arguments: Sequence[str], place: Path) -> subprocess.Popen[bytes]:
        """A command in the copy, with a cache and a file for what it says in `place`."""
        (place / "cache").mkdir(parents=True, exist_ok=True)
        ours = {"PYTHONPATH": f"{self.book}{os.pathsep}{root()}", "ICL_BOOK_CACHE": str(place / "cache")}
        environment = {**clean_environment(), **ours, "PYTHONDONTWRITEBYTECODE": "", "MPLBACKEND": "agg"}
        command = [sys.executable, *(part.replace("PLACE", str(place)) for part in arguments)]
        with (place / "said").open("wb") as said:
            return subprocess.Popen(command, cwd=self.book, env=environment, stdout=said, stderr=said)

    def end(self, process: subprocess.Popen[bytes], place: Path) -> tuple[int, str]:
        """Its exit status, and what it said, without the name of the folder that all is in."""
        late = ""
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            late = f"\nno end after {PATIENCE} s"
        said = (place / "said").read_text(encoding="utf-8", errors="replace").strip() + late
        return process.wait(), said.replace(str(self.book.parent), "")

    def _learn(self, place: Path) -> None:
        """What the code that is there now may keep."""
        code = f"from pathlib import Path; from reliability.edited import reference; reference(Path({str(place)!r}))"
        status, said = self.end(self.start(("-c", code), place), place)
        if status:
            raise RuntimeError(said)
        found: dict[str, list[object]] = {f.name: [contents(f / "T1")] for f in (place / "results").iterdir()}
        for states in map(saved, (place / "states").iterdir()):
            for name, state in states.items():
                found.setdefault(name, []).append(state)
        self.clashes += [name for name in found if self.known.setdefault(name, found[name]) != found[name]]
