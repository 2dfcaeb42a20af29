"""Tensors on disk: what comes back, and every kind of file that is not to be believed."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from icl_lib import store
from icl_lib.store import kept, load_tensors, save_tensors
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


def steps(path: Path) -> int | None:
    """What `counted` has saved there: a training of three steps."""
    found = load_tensors(path, "key")
    return None if found is None else int(found[1])


def counted(path: Path) -> int:
    """Three steps, or those of them that are missing."""

    def train(state: int | None) -> int:
        for step in range((state or 0) + 1, 4):
            save_tensors(path, TENSORS, "key", str(step))
            taken.append(step)
        return 3

    taken: list[int] = []
    assert kept(path, lambda: steps(path), lambda state: state >= 3, train) == 3 == steps(path)
    return len(taken)


def test_only_what_is_missing_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.safetensors"
    assert [counted(path), counted(path)] == [3, 0]
    save_tensors(path, TENSORS, "key", "1")
    assert counted(path) == 2


def test_a_complete_file_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root no folder is read-only; there the lock is what fails."""

    def read_only(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, "key", "3")
    tmp_path.chmod(0o500)
    monkeypatch.setattr(store, "locked", read_only)
    assert counted(path) == 0 and [file.name for file in tmp_path.iterdir()] == [path.name]
    tmp_path.chmod(0o700)
    save_tensors(path, TENSORS, "key", "2")
    with pytest.raises(PermissionError):
        counted(path)


def test_a_damaged_file_is_warned_of_once(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nothing")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert counted(path) == 3
    assert [str(one.message) for one in said] == ["x.safetensors is damaged or not what its name says: training again"]


def test_what_another_process_has_trained_meanwhile_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"

    @contextlib.contextmanager
    def waited(lock: Path) -> Iterator[None]:
        assert lock == tmp_path / "x.lock"
        save_tensors(path, TENSORS, "key", "3")
        yield

    monkeypatch.setattr(store, "locked", waited)
    assert counted(path) == 0
    save_tensors(path, TENSORS, "key", "1")
    assert counted(path) == 0
