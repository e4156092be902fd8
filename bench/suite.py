"""How long a developer waits for the tests after a change."""

import subprocess
import time

from bench.results import Goal, Section
from taxi_orchestration.settings import PROJECT_DIRECTORY

GOALS = {"test-fast": 60, "test": 360}


def run(quick: bool) -> Section:
    """Measure `make test-fast` and `make test` (quick: only the first). Raises if a test fails."""
    seconds = {target: _measure_target(target) for target in ("test-fast", "test")[: 1 if quick else 2]}
    return Section(
        "The tests",
        [Goal(f"make {target}", taken, "s", at_most=GOALS[target]) for target, taken in seconds.items()],
    )


def _measure_target(target: str) -> float:
    began = time.perf_counter()
    subprocess.run(["make", target], cwd=PROJECT_DIRECTORY, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
