"""The stamp says which commit a run was computed at, or why that is unknown; never the commit of something else."""

import os
import subprocess
from pathlib import Path

import pytest

from book.execute import commit

GIT = ("git", "-c", "user.name=x", "-c", "user.email=x@y", "-c", "init.defaultBranch=main")


def repository(folder: Path) -> str:
    """All of a folder committed; returns the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = {name: value for name, value in os.environ.items() if name != "GIT_DIR"}
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--allow-empty", "-m", "x"]):
        subprocess.run([*GIT, *command], cwd=folder, check=True, env=ours)
    head = ["git", "rev-parse", "--short=10", "HEAD"]
    return subprocess.run(head, cwd=folder, check=True, capture_output=True, encoding="utf-8", env=ours).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "book/chapters").mkdir(parents=True)
    (tmp_path / "book/claims.yml").write_text("{}\n")
    return tmp_path / "book"


def test_commit_and_changes(checkout: Path) -> None:
    head = repository(checkout)
    assert commit(checkout) == commit(checkout / "chapters") == head
    (checkout / "claims.yml").write_text("{x: 1}\n")
    assert commit(checkout) == f"{head} + changes"


def test_an_unpacked_archive_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit(checkout).startswith("unknown (fatal: not a git repository")
    repository(checkout.parent)
    assert commit(checkout) == "unknown (not a checkout of its own)"
    monkeypatch.setenv("PATH", "")
    assert commit(checkout) == "unknown (git cannot be run)"


def test_a_stray_variable_of_git_names_no_other_repository(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, _ = repository(checkout), repository(checkout.parent / "other")
    monkeypatch.setenv("GIT_DIR", str(checkout.parent / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(checkout.parent / "none"))
    assert commit(checkout) == head


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_checkout_of_another_user(checkout: Path) -> None:
    head = repository(checkout)
    for file in (checkout, *checkout.rglob("*")):
        os.chown(file, 65534, 65534)
    assert commit(checkout) == head
