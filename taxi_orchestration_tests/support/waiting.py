"""Polling for a condition that another process or thread fulfils."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# The daemon polls every 30 seconds, and starts a run some seconds later.
DAEMON_SECONDS = 240


def until(condition: Callable[[], T | None], seconds: float = 60, pause: float | None = None) -> T:
    """Return the result of `condition` as soon as it is true.

    By default each pause is nine times as long as the last call: queries without a pause use a whole CPU.
    """
    deadline = time.monotonic() + seconds
    began = time.monotonic()
    while not (found := condition()):
        ended = time.monotonic()
        assert ended < deadline, "the condition was not fulfilled in time"
        time.sleep(min(0.5, max(0.02, 9 * (ended - began))) if pause is None else pause)
        began = time.monotonic()
    return found
