"""Compiled loops: the matrix product, and bits that do not depend on the instruction set."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import icl_lib.compiled
from icl_lib.compiled import times

RUN = """
import hashlib, torch
from icl_lib.mean_field.kernels import Erf, ReLU
from icl_lib.softmax import TrainConfig, train, uniform_cover

torch.set_num_threads(1)
digest = hashlib.sha256()
for fixed in (None, 50):
    ensemble = train([TrainConfig(uniform_cover(6, 3, s), s, batch_size=20, n_steps=11, fixed_prompts=fixed) for s in range(2)])
    for part in (*ensemble.params, ensemble.losses):
        digest.update(part.numpy().tobytes())
for kernel in (Erf(), ReLU()):
    w, left = (torch.randn(1, 70, k, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (5, 3))
    digest.update(kernel.products(w, w, left).numpy().tobytes())
    digest.update(kernel.gradient(w, w, left, left).numpy().tobytes())
print(digest.hexdigest())
"""


@given(st.integers(0, 13), st.integers(0, 9), st.integers(1, 3), st.sampled_from(["float32", "float64"]), st.booleans())
@settings(max_examples=60, deadline=None)  # the first calls compile
def test_matrix_product(n: int, k: int, tiles: int, kind: str, turned: bool) -> None:
    """Against NumPy, to the rounding of k additions; rows that remain, no rows, a transposed factor."""
    gen, width = np.random.default_rng(n + 20 * k), tiles * 64 // np.dtype(kind).itemsize
    a, b, out = (gen.normal(size=shape).astype(kind) for shape in ((n, k), (k, width), (n, width)))
    expected = out.astype(float) + a.astype(float) @ b.astype(float)
    times(np.ascontiguousarray(a.T).T if turned else a, b, out)
    np.testing.assert_allclose(
        out, expected, rtol=0, atol=8 * (k + 1) * np.finfo(kind).eps * (1 + np.abs(expected)).max(initial=0)
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86-64")
def test_bits_do_not_depend_on_the_instruction_set() -> None:
    """Training, products and gradients of kernels: with the instructions of this processor, and with those that all of its kind have."""
    found = {}
    for name in ("", "x86-64"):
        chosen = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""} if name else {}
        run = subprocess.run(
            [sys.executable, "-c", RUN],
            env=os.environ | chosen,
            cwd=Path(__file__).parents[1],
            capture_output=True,
            encoding="utf-8",
        )
        assert run.returncode == 0, run.stderr
        found[name] = run.stdout
    assert len(set(found.values())) == 1, found


def test_machine_code_goes_where_it_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the library, or else with the user's caches; its folder is named by the texts. A dangling link is no text."""
    library = tmp_path / "icl_lib"
    library.mkdir()
    (library / "a.py").write_text("from icl_lib.compiled import compiled\n", encoding="utf-8")
    (library / ".#a.py").symlink_to("nobody@nowhere")
    monkeypatch.setattr(icl_lib.compiled, "HERE", library)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    first = icl_lib.compiled._cache()
    assert first is not None and first.parent == library / "__pycache__"
    (library / "a.py").write_text("from icl_lib.compiled import compiled, times\n", encoding="utf-8")
    second = icl_lib.compiled._cache()
    assert second is not None and second.name != first.name
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: library not in Path(path).parents and real(path, mode))
    third = icl_lib.compiled._cache()
    assert third == tmp_path / "user" / "icl_lib" / second.name


def test_machine_code_that_nobody_has_used_for_long_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of other texts, a month after its last use; to be asked for is use."""
    monkeypatch.setattr(icl_lib.compiled, "HERE", tmp_path)
    kept = icl_lib.compiled._cache()
    assert kept is not None
    old, young, other = (kept.with_name(name) for name in ("compiled-old", "compiled-young", "bytecode"))
    for folder, days in ((old, 31), (young, 29), (other, 31), (kept, 31)):
        folder.mkdir(exist_ok=True)
        (folder / "loop.nbc").touch()
        os.utime(folder, (time.time() - days * 86_400,) * 2)
    assert icl_lib.compiled._cache() == kept
    assert not old.exists() and all((folder / "loop.nbc").exists() for folder in (young, other, kept))
