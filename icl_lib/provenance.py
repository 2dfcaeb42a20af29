"""On what a number was computed: versions of packages, device, processor."""

import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "numpy", "numba", "scipy", "pandas")
TRAINED_BY = ("torch", "numpy", "numba")  # whose versions trained weights depend on
MODULES = {"scikit-learn": "sklearn"}  # where a package is imported under another name


def version(package: str) -> str:
    """The version that runs here, whatever has been installed since; of what is not loaded, the installed one."""
    loaded = sys.modules.get(MODULES.get(package, package))
    return str(getattr(loaded, "__version__", None) or metadata.version(package)).split("+")[0]


def _installed(packages: Sequence[str], device: str | None) -> dict[str, str]:
    device = os.environ.get("ICL_DEVICE", "cpu") if device is None else device
    elsewhere = {} if device == "cpu" else {"device": device}
    if os.environ.get("ICL_TWIN"):  # only then: commands that compute nothing start without torch
        from icl_lib.twin import SIZE

        elsewhere["twin"] = f"{SIZE:g}"
    return {name: version(name) for name in packages} | elsewhere


def moving() -> dict[str, str]:
    """What moves trained weights besides code and config: versions, kernels; device, twin and number of threads if not the usual."""
    import torch

    threads = torch.get_num_threads()
    more = {} if threads == 1 else {"threads": str(threads)}
    return _installed(TRAINED_BY, None) | {"kernels": torch.backends.cpu.get_cpu_capability()} | more


def versions(device: str | None = None, packages: Sequence[str] = ()) -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, `packages` among them; device and twin if not the usual.

    Args:
        device: on which networks train, by default that of this process (``icl_lib.device``).
    """
    return {"python": ".".join(platform.python_version_tuple()[:2]), **_installed((*PACKAGES, *packages), device)}


def processor() -> str:
    """The processor and the instruction set of torch's kernels, such as "AMD EPYC (AVX2)": numbers are rounded by them."""
    import torch

    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    named = re.search(r"^model name\s*: (.+)$", text, flags=re.M)
    name = named[1] if named else platform.processor() or platform.machine()
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"{name.strip()} ({'plain kernels' if kernels in ('DEFAULT', 'NO AVX') else kernels})"
