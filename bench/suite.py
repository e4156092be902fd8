"""How long the tests take, as whoever changes something waits for them."""

import subprocess
import time

from bench.results import Goal, Section
from taxi_orchestration.settings import PROJECT_DIRECTORY

GOALS = {"test-fast": 60, "test": 360}


def run(quick: bool) -> Section:
    """`make test-fast` and `make test` (quick: the first alone); raises where a test fails."""
    seconds = {target: _seconds(target) for target in ("test-fast", "test")[: 1 if quick else 2]}
    return Section(
        "The tests",
        [Goal(f"make {target}", taken, "s", at_most=GOALS[target]) for target, taken in seconds.items()],
    )


def _seconds(target: str) -> float:
    began = time.perf_counter()
    subprocess.run(["make", target], cwd=PROJECT_DIRECTORY, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
