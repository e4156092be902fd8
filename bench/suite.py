"""How long a developer waits for the tests after a change."""

import os
import resource
import subprocess
import time

from bench.results import Goal, Section
from taxi_orchestration.settings import PROJECT_DIRECTORY

GOALS = {"test-fast": 60, "test": 360}


def run(quick: bool) -> Section:
    """Measure `make test-fast` and `make test` (quick: only the first). Raises if a test fails."""
    goals = [_measure_target(target) for target in ("test-fast", "test")[: 1 if quick else 2]]
    return Section("The tests", goals)


def _measure_target(target: str) -> Goal:
    began, cpu = time.perf_counter(), _cpu_seconds_of_children()
    subprocess.run(["make", target], cwd=PROJECT_DIRECTORY, check=True)
    seconds, cpu = time.perf_counter() - began, _cpu_seconds_of_children() - cpu
    reason = f"at least {cpu:.0f} s of CPU, on {os.cpu_count()} cores: real servers, dbt and Dagster in most tests"
    return Goal(f"make {target}", seconds, "s", at_most=GOALS[target], reason=reason)


def _cpu_seconds_of_children() -> float:
    """Return the CPU of all ended subprocesses. Servers that detach themselves, such as PostgreSQL, are not in it."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
