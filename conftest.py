"""How tests and nbval run here.

Processes import this checkout's library, whose environment it may be. Notebooks run in our own kernel, which gets a second
chance to start; checked outputs are judged by `icl_lib.rerun.near`.
"""

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from nbval import kernel
from nbval.plugin import IPyNbCell

from icl_lib.notebooks import COPY
from icl_lib.rerun.kernel import PATIENCE, OurKernel, isolated
from icl_lib.rerun.near import near_outputs
from icl_lib.rerun.terminal import need_no_home

os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # this process: pyproject.toml
need_no_home()
collect_ignore_glob = [COPY, "**/.*"]

place = tempfile.TemporaryDirectory(prefix="icl-kernel-", ignore_cleanup_errors=True)
letter_by_letter, start_once = IPyNbCell.compare_outputs, kernel.start_new_kernel


def compare_outputs(self: Any, test: Any, ref: Any, skip_compare: Any = None) -> bool:
    """Results of another processor differ in late digits."""
    if letter_by_letter(self, test, ref, skip_compare):
        return True
    if not near_outputs(ref, test):
        return False
    self.comparison_traceback = []
    warnings.warn(f"{self.nodeid}: numbers moved within their intervals", stacklevel=1)
    return True


def start_new_kernel(*args: Any, **kwargs: Any) -> Any:
    """Two kernels that start at the same moment, of two test processes, may pick the same ports; one of them then dies."""
    with isolated(Path(place.name)):
        try:
            return start_once(*args, **{**kwargs, "startup_timeout": PATIENCE})
        except RuntimeError as error:
            warnings.warn(f"a kernel was started again: {error}", stacklevel=1)
            return start_once(*args, **{**kwargs, "startup_timeout": PATIENCE})


IPyNbCell.compare_outputs, kernel.start_new_kernel = compare_outputs, start_new_kernel
kernel.NbvalKernelspecManager = OurKernel  # whatever kernel is asked for
