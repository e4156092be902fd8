"""A directory for a process's downloads, removed at the end of that process or by the next process.

What belongs here: creating, locking and sweeping such directories. What does not: the downloads.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

PREFIX = "download-"
LOCK = ".downloads.lock"


@contextmanager
def scratch_directory(home: Path) -> Iterator[Path]:
    """Create an empty directory in `home` for the duration of the block; remove those of killed processes."""
    # Without this lock another process could sweep a new directory before it is locked.
    with FileLock(home / LOCK):
        for leftover in home.glob(f"{PREFIX}*"):
            # The kernel releases a lock when its process ends, even by SIGKILL.
            with suppress(Timeout), _lock_of(leftover).acquire(blocking=False):
                _remove(leftover)
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=home))
        lock = _lock_of(directory)
        lock.acquire()
    try:
        yield directory
    finally:
        _remove(directory)
        lock.release()


def _lock_of(directory: Path) -> BaseFileLock:
    return FileLock(directory.with_name(f".{directory.name}.lock"))


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    Path(_lock_of(directory).lock_file).unlink(missing_ok=True)
