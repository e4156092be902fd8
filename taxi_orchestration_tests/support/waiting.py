"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable

# The daemon looks every 30 seconds, and starts a run some seconds later.
DAEMON_SECONDS = 240


def until(look: Callable[[], object], seconds: float = 60, pause: float | None = None) -> object:
    """Return what `look` gives as soon as it gives something.

    Without a pause one is made that fits the look: questions to a server, one after the other, take a whole processor.
    """
    deadline = time.monotonic() + seconds
    began = time.monotonic()
    while not (found := look()):
        ended = time.monotonic()
        assert ended < deadline, "waited in vain"
        time.sleep(min(0.5, max(0.02, 9 * (ended - began))) if pause is None else pause)
        began = time.monotonic()
    return found
