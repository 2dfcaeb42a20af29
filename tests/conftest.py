"""While the tests run, the array shapes in icl_lib's signatures are checked at every call.

Only annotations that speak of arrays are: the library refuses other bad values itself, which is what tests look at.
"""

import sys
from collections.abc import Callable
from inspect import isclass
from pathlib import Path
from types import ModuleType
from typing import get_args

import torch
from beartype import beartype
from hypothesis import settings
from jaxtyping import AbstractArray, install_import_hook

torch.set_num_threads(1)  # as in the chapters; also, two threads on small arrays only get in each other's way

# A slow machine is no error; by themselves, deadlines are off only where a variable says that this is CI.
settings.register_profile("any machine")
settings.load_profile("any machine")


def _speaks_of_arrays(kind: object) -> bool:
    return (isclass(kind) and issubclass(kind, AbstractArray)) or any(map(_speaks_of_arrays, get_args(kind)))


def arrays_only(function: Callable) -> Callable:
    kept = {name: kind for name, kind in function.__annotations__.items() if _speaks_of_arrays(kind)}
    function.__annotations__ = kept
    return beartype(function)


checker = ModuleType("icl_array_checks")  # the hook wants a name that it can import
checker.arrays_only = arrays_only
sys.modules[checker.__name__] = checker
library = Path(__file__).parents[1]
with_arrays = [
    file
    for file in [file for folder in ("icl_lib", "book", "studies") for file in library.glob(f"{folder}/**/*.py")]
    if "jaxtyping" in file.read_text(encoding="utf-8")
]
modules = [".".join(file.relative_to(library).with_suffix("").parts) for file in with_arrays]
install_import_hook(modules, "icl_array_checks.arrays_only")
