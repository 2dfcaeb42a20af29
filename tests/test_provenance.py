"""On what a number was computed."""

import pytest
import torch

from icl_lib import provenance


def test_versions_are_plain() -> None:
    versions = provenance.versions(packages=["scikit-learn"])
    assert {"python", "torch", "numpy", "scikit-learn"} <= versions.keys()
    assert all("+" not in version for version in versions.values())


def test_what_moves_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(provenance.moving()) == {"torch", "numpy", "numba", "kernels"}
    monkeypatch.setenv("ICL_DEVICE", "cuda")
    monkeypatch.setenv("ICL_TWIN", "1")
    assert set(provenance.moving()) == {"torch", "numpy", "numba", "kernels", "device", "twin"}


def test_the_version_is_that_which_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has been installed since."""
    monkeypatch.setattr(provenance.metadata, "version", lambda name: "99")
    assert provenance.versions()["torch"] != "99" == provenance.version("scikit-learn-of-nobody")


def test_weights_of_several_threads_have_keys_of_their_own() -> None:
    """Sums in float32 depend on their number."""
    try:
        torch.set_num_threads(2)
        assert provenance.moving()["threads"] == "2" and "threads" not in provenance.versions()
    finally:
        torch.set_num_threads(1)
    assert "threads" not in provenance.moving()
