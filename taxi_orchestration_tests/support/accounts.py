"""Acting as another user of the machine."""

import multiprocessing
import os
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from taxi_orchestration.postgres.binaries import ServerError

STRANGER = 54321  # an account that nothing here belongs to

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def call_as(uid: int, action: Callable[[], str]) -> str:
    """Return the result of `action`, or the message of its ServerError, in a process of user `uid`.

    Forked and not started, because that user may not be able to enter the directories that Python lies in.
    """

    def child(end: Connection) -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        try:
            end.send(action())
        except ServerError as error:
            end.send(f"ServerError: {error}")

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
    with warnings.catch_warnings():
        # From 3.12 on Python warns of threads at a fork: pytest-xdist's, of which the child needs none.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    try:
        return str(ours.recv())
    finally:
        process.join()
