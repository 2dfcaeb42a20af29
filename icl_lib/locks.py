"""Locks between processes, and hidden folders to work in: both are free again when the process that holds them is gone."""

import contextlib
import errno
import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from icl_lib.paths import own_temporary

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
IN_USE = ".icl-in-use"


@contextlib.contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the lock file `path` as long as the block runs; wait for it at most `timeout` seconds, by default for ever.

    On network file systems without locks a file of this machine stands in: processes of two machines may do the work twice.

    Raises:
        filelock.Timeout: if another process holds it for longer.
        OSError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        name = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:24]
        lock = FileLock(own_temporary() / f"{name}.lock")
        lock.acquire(timeout)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def workplace(final: Path) -> Iterator[Path]:
    """A hidden folder beside `final`, in which to make it; removed when the block ends.

    What killed processes have left there is removed, too.

    Raises:
        OSError: if there can be no such folder.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    for left in final.parent.glob(f".*-*/{IN_USE}"):
        if _abandoned(left):
            _remove(left.parent)
    folder = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        with (folder / "new").open("xb") as mark:
            with contextlib.suppress(OSError):  # without locks nobody can tell, and nobody removes it
                fcntl.flock(mark, fcntl.LOCK_EX)
                (folder / "new").rename(folder / IN_USE)  # only now: nobody finds it before it is locked
            yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """The mark goes last: where a process is killed meanwhile, another one finds what is left."""
    for one in folder.iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one, ignore_errors=True)
        elif one.name != IN_USE:
            with contextlib.suppress(OSError):
                one.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _abandoned(mark: Path) -> bool:
    """Whether the process is gone that held this file; False if that cannot be told."""
    try:
        with mark.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
