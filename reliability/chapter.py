"""A chapter's code cells run as a plain program, in a copy of the book that has trained nothing yet.

Beside what a kernel would do, the number of threads and the precision of Part II's prompts can be set, which chapters fix.
``python -m reliability.chapter NOTEBOOK PARAMETERS THREADS DTYPE``, in a folder of the book.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icl_lib.paths import root
from tools.notebooks import reduced

# Settings at which chapters run here: with few seeds, since they run many times. Those of K1 are the ones of its own test.
FEW: dict[str, dict[str, Any]] = {
    "chapters/softmax/data_model.ipynb": {},
    "chapters/softmax/L5_attention.ipynb": {"n_seeds": 3, "n_prompts": 1000, "n_frames": 2, "every": 50},
    "chapters/softmax/L6_neurons.ipynb": {"n_seeds": 3, "n_luck_seeds": 20},
    "chapters/mean_field/K1_expressivity.ipynb": reduced()[Path("chapters/mean_field/K1_expressivity.ipynb")],
    "chapters/mean_field/K4_avoids_saddles.ipynb": {"n_seeds": 4, "n_far": 2},
    "chapters/mean_field/K6_perturbation.ipynb": {"n_seeds": 4, "n_draws": 4},
}


def copy_of_book(folder: Path) -> Path:
    """What chapters read, without anything that was trained."""
    shutil.copytree(root() / "chapters", folder / "chapters")
    for part in ("figures", "benchmarks", "reliability", "tests"):
        (folder / part).symlink_to(root() / part)
    shutil.copyfile(root() / "claims.yml", folder / "claims.yml")
    return folder


def run(
    book: Path,
    notebook: str,
    *,
    threads: int = 1,
    dtype: str = "float32",
    packages: Path | None = None,
) -> Path:
    """Run a chapter in a process of its own; returns the folder that it wrote.

    Args:
        notebook: its path in the book, a key of ``FEW``.
        packages: a folder of other versions of packages, found before the installed ones.

    Raises:
        RuntimeError: with the last line of what the process wrote to stderr.
    """
    paths = [str(root()), *([str(packages)] if packages else [])]
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environment = {**os.environ, **counts, "PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "agg"}
    environment["OMP_WAIT_POLICY"] = "PASSIVE"  # a thread that waits leaves the processor to others
    environment["ICL_BOOK_OUT"] = str(book / "out")
    arguments = [notebook, json.dumps(FEW[notebook]), str(threads), dtype]
    command = [sys.executable, "-m", "reliability.chapter", *arguments]
    done = subprocess.run(command, cwd=book, env=environment, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}")
    stem = f"{Path(notebook).stem}_"
    return next(folder for folder in (book / "out").iterdir() if stem.startswith(f"{folder.name}_"))


def execute(notebook: Path, parameters: Mapping[str, Any], threads: int, dtype: str) -> None:
    """Run all cells of code in one namespace, with parameters set after the first."""
    import torch

    from icl_lib.mean_field.prompts import Prompts, Source

    torch.set_num_threads(threads)
    torch.set_num_threads = lambda nthreads: None  # chapters ask for one
    draw = Source.draw

    def same_draws(*args: Any) -> Prompts:
        return Prompts(*(part.to(getattr(torch, dtype)) for part in draw(*args)))

    Source.draw = same_draws  # type: ignore[assignment,method-assign]  # other random numbers would be another sample
    cells = [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    # Cells see themselves as the main program, as in a kernel.
    namespace = sys.modules["__main__"].__dict__
    for name in [name for name in namespace if not name.startswith("__")]:
        del namespace[name]
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{notebook.stem}, cell {number + 1}", "exec"), namespace)
        if number == 0:
            namespace |= parameters


if __name__ == "__main__":
    execute(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
