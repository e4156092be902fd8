"""A directory for what a process downloads: gone when the process is, also when that was killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "download-"


@contextmanager
def scratch_directory(home: Path) -> Iterator[Path]:
    """An empty directory in `home` for the time of the block. Removes those that killed processes left there."""
    # Nobody sweeps between the making of a directory and its being locked.
    with _locked(home, fcntl.LOCK_SH):
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=home))
        descriptor = os.open(directory, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        _sweep(home)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _sweep(home: Path) -> None:
    try:
        with _locked(home, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for directory in home.glob(f"{PREFIX}*"):
                try:
                    # The kernel lets go of a lock when its process ends, however it ends.
                    with _locked(directory, fcntl.LOCK_EX | fcntl.LOCK_NB):
                        shutil.rmtree(directory, ignore_errors=True)
                except (BlockingIOError, FileNotFoundError):
                    continue
    except BlockingIOError:
        return


@contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
