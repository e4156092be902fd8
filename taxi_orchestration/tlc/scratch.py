"""A directory for what a process downloads, removed with its process or by the next one.

What belongs here: making, locking and sweeping such directories. What does not: what is downloaded into them.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

PREFIX = "download-"


@contextmanager
def scratch_directory(home: Path) -> Iterator[Path]:
    """An empty directory in `home` for the time of the block. Removes those that killed processes left there."""
    # No process sweeps between the making of a directory and the locking of it.
    with FileLock(home / ".downloads.lock"):
        for leftover in home.glob(f"{PREFIX}*"):
            # The kernel releases a lock when its process ends, however it ends.
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
