"""How tests and nbval run here.

Processes import this checkout's library, whose environment it may be. Notebooks run in our own kernel, which gets a second
chance to start; checked outputs are judged by `book.compare`.
"""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from nbval import kernel
from nbval.plugin import IPyNbCell

from book.compare import same_outputs
from book.kernel import PATIENCE, OurKernel, environment
from book.notebooks import COPY
from book.terminal import need_no_home

os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # this process: pyproject.toml
need_no_home()
collect_ignore_glob = [COPY, "**/.*"]

place = tempfile.TemporaryDirectory(prefix="icl-kernel-", ignore_cleanup_errors=True)
letter_by_letter, start_once = IPyNbCell.compare_outputs, kernel.start_new_kernel


def compare_outputs(self: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
    """Results of another processor differ in late digits."""
    if letter_by_letter(self, test, ref, skip_compare):
        return True
    if not same_outputs(ref, test):
        return False
    self.comparison_traceback = []
    warnings.warn(f"{self.nodeid}: numbers moved within their intervals", stacklevel=1)
    return True


def start_new_kernel(*args: Any, **kwargs: Any) -> Any:
    """Two kernels that start at the same moment, of two test processes, may pick the same ports; one of them then dies."""
    options = {**kwargs, "startup_timeout": PATIENCE, "env": environment(Path(place.name))}
    try:
        return start_once(*args, **options)
    except RuntimeError as error:
        warnings.warn(f"a kernel was started again: {error}", stacklevel=1)
        return start_once(*args, **options)


IPyNbCell.compare_outputs, kernel.start_new_kernel = compare_outputs, start_new_kernel
kernel.NbvalKernelspecManager = OurKernel  # whatever kernel is asked for
