"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable

# The daemon looks every 30 seconds, and starts a run some seconds later.
DAEMON_SECONDS = 240


def until(look: Callable[[], object], seconds: float = 60, pause: float = 0.02) -> object:
    """Return what `look` gives as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)
    return found
