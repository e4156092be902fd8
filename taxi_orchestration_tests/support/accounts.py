"""Running a function as another user of the machine."""

import multiprocessing
import os
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from taxi_orchestration.postgres.binaries import ServerError

OTHER_UID = 54321  # owns no file and no process of the tests

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def call_as(uid: int, action: Callable[[], str]) -> str:
    """Return the result of `action`, or the message of its ServerError, from a process of user `uid`.

    The process is forked, not spawned: that user may have no access to the directories of the Python installation.
    """

    def child(connection: Connection) -> None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        try:
            connection.send(action())
        except ServerError as error:
            connection.send(f"ServerError: {error}")

    receiver, sender = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(sender,))
    with warnings.catch_warnings():
        # Since 3.12 Python warns about a fork while threads run. These are pytest-xdist's; the child does not use them.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    try:
        return str(receiver.recv())
    finally:
        process.join()
