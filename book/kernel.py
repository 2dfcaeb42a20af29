"""The kernel in which a chapter computes: this Python, and nothing that its user or the machine has configured.

As a program (``python -m book.kernel``) it is an IPython kernel that reads no configuration. To be started, it needs no
kernelspec: one of the name ``python3`` may belong to another Python.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from traitlets import Instance

from icl_lib import provenance
from icl_lib.paths import write_atomic
from icl_lib.source import PACKAGE

FOLDER = "IPYTHONDIR"  # the variable that names a kernel's own folder
LONGEST = 95  # bytes; a socket has a number, too, and its name may have 103 on macOS
PATIENCE = 600  # seconds in which a kernel has to answer: it imports torch first, which takes its time on a slow disk
# What would reach into a chapter from outside.
DROPPED = ("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONINSPECT", "MPLBACKEND")


class OurKernel(KernelSpecManager):
    """Whatever kernel a notebook names, it gets this one."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = make_ipkernel_cmd(__name__, python_arguments=["-P"])  # a file beside the notebook is no module yet
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def environment(folder: Path) -> dict[str, str]:
    """The variables of this process for a kernel, without what would reach into a chapter from outside.

    Args:
        folder: of the kernel's own, so that it needs no home; what it says of itself is found there.
    """
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    library = str(PACKAGE.parent)  # the one that runs here is the one that runs there
    kept |= {"PYTHONPATH": library, "PYTHONUTF8": "1", "MATPLOTLIBRC": os.devnull}
    return kept | {FOLDER: str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}


def manager(variables: Mapping[str, str]) -> type[AsyncKernelManager]:
    """What starts that kernel, for papermill: with these variables (see `environment`), and without a word on the terminal.

    Where the kernel has a folder of its own, both speak through sockets in it. Ports are found free first and taken later: if
    another program takes one meanwhile, the connection is given up and its next message waits for ever.
    """
    sockets = f"{variables.get(FOLDER, '')}/socket"
    short = sockets.startswith("/") and len(os.fsencode(sockets)) < LONGEST

    class Manager(AsyncKernelManager):
        kernel_spec_manager = Instance(OurKernel, ())

        def __init__(self, **options: Any) -> None:
            super().__init__(**{**({"transport": "ipc", "ip": sockets} if short else {}), **options})

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            # What cells write to stderr is an output of the notebook; the process itself reports its shutdown as an error.
            await super().start_kernel(**{"env": dict(variables), "stderr": subprocess.DEVNULL, **options})

    return Manager


def said(folder: Path) -> tuple[dict[str, str], str] | None:
    """Versions and processor of the last kernel that was started in a folder; None if none was."""
    file = folder / "said.json"
    if not file.is_file():
        return None
    versions, processor = json.loads(file.read_text(encoding="utf-8"))
    return versions, processor


class Kernel(IPKernelApp):
    """An IPython kernel that reads no configuration: none of its user, its environment or the system."""

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        """Do not."""

    def _run_startup_files(self) -> None:
        """Do not: those of the system and of the environment are run without any configuration."""


if __name__ == "__main__":
    about = [provenance.versions(), provenance.processor()]
    write_atomic(Path(os.environ[FOLDER]) / "said.json", json.dumps(about).encode())
    Kernel.launch_instance()
