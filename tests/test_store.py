"""Tensors on disk: what comes back, and every kind of file that is not to be believed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from icl_lib.store import load_tensors, save_tensors
from icl_lib.validate import ConfigError

TENSORS = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """The file with something changed, its digest kept; still a sound safetensors file."""
    with safe_open(path, framework="pt") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert load_tensors(path, "key") is None
    save_tensors(path, TENSORS, "key", "7")
    found = load_tensors(path, "key")
    assert found is not None and found[1] == "7" and set(found[0]) == {"a", "b"}
    assert all(torch.equal(found[0][name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, metadata: tensors["a"].mul_(-1),
        lambda tensors, metadata: tensors.update(a=tensors["b"], b=tensors["a"]),
        lambda tensors, metadata: tensors.update(c=tensors.pop("b")),
        lambda tensors, metadata: tensors.update(a=tensors["a"].reshape(-1, 1)),
        lambda tensors, metadata: tensors.update(a=tensors["a"].view(torch.int32)),
        lambda tensors, metadata: metadata.update(state="8"),
        lambda tensors, metadata: metadata.update(key="another"),
        lambda tensors, metadata: metadata.pop("digest"),
    ],
    ids=["a number", "two exchanged", "a name", "a shape", "a kind", "the state", "the key", "no digest"],
)
def test_what_has_changed_is_not_believed(tmp_path: Path, change: Callable) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, "key", "7")
    rewritten(path, lambda tensors, metadata: None)
    assert load_tensors(path, "key") is not None, "written again as it was"
    rewritten(path, change)
    with pytest.warns(UserWarning, match="damaged or not what its name says"):
        assert load_tensors(path, "key") is None


def test_a_file_with_other_names_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, "key", "7")
    assert load_tensors(path, "key", ("a", "b")) is not None
    for names in (("a",), ("a", "c"), ("a", "b", "c")):
        with pytest.warns(UserWarning, match="damaged or not what its name says"):
            assert load_tensors(path, "key", names) is None


def test_a_folder_of_that_name_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(ConfigError, match=r"^path='.*x.safetensors': must be a file, to keep what is trained in"):
        load_tensors(tmp_path / "x.safetensors", "key")
