"""On what a number was computed."""

import pytest

from icl_lib import provenance


def test_versions_are_plain() -> None:
    versions = provenance.versions(packages=["scikit-learn"])
    assert {"python", "torch", "numpy", "scikit-learn"} <= versions.keys()
    assert all("+" not in version for version in versions.values())


def test_what_moves_trained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(provenance.moving()) == {"torch", "numpy"}
    monkeypatch.setenv("ICL_DEVICE", "cuda")
    monkeypatch.setenv("ICL_TWIN", "1")
    assert set(provenance.moving()) == {"torch", "numpy", "device", "twin"}
