"""From a fresh clone to the table: how long a new user waits for the first command of the README."""

import re
import subprocess
import time
from datetime import date

from bench.results import Goal, Section
from bench.workplace import Workplace, workplace
from taxi_orchestration.postgres.server import remove
from taxi_orchestration.settings import PROJECT_DIRECTORY

FIRST = date(2024, 1, 1)
LIMIT_SECONDS = 50


def run(quick: bool) -> Section:
    """Measure `make backfill` of three months in a fresh clone, with no cached package and this machine's registry."""
    with workplace() as place:
        months = place.publish_range(FIRST, 3)
        whole, installing = _measure_backfill(place, f"{months[0]:%Y-%m}", f"{months[-1]:%Y-%m}")
    return Section(
        "A fresh clone",
        [
            Goal(
                "make backfill of three months in a fresh clone, package cache empty",
                whole,
                "s",
                at_most=LIMIT_SECONDS,
                measured=f"environment {installing:.0f} s of it",
                reason="pip installs Dagster's and dbt's packages",
            )
        ],
        note="Includes the download of the packages from the registry that pip is configured for.",
        quotes={"fresh_clone": f"{whole:.0f} s"},
    )


def _measure_backfill(place: Workplace, first: str, last: str) -> tuple[float, float]:
    """Return the seconds from the end of `git clone` to the table, and the part of them that packages took."""
    clone = place.directory / "clone"
    subprocess.run(["git", "clone", "--quiet", PROJECT_DIRECTORY, clone], check=True)
    caches = {name: str(place.directory / "packages") for name in ("PIP_CACHE_DIR", "UV_CACHE_DIR")}
    environment = {**place.environment, **caches, "TAXI_HOME": str(clone / ".taxi")}
    command = ["make", "backfill", f"FROM={first}", f"TO={last}"]
    try:
        began = time.perf_counter()
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        whole = time.perf_counter() - began
    finally:
        remove(clone / ".taxi")
    if done.returncode:
        raise RuntimeError(f"make backfill in a fresh clone failed: {done.stderr[-2000:]}")
    installed = re.search(r"ready, after (\d+) s", done.stderr)
    return whole, float(installed[1]) if installed else 0.0
