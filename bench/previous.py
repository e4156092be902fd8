"""The previous release, in turns with this version on the same machine and months: is any command slower now?"""

import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bench.results import Goal, Section
from bench.workplace import workplace
from taxi_orchestration.months import add_months
from taxi_orchestration.postgres.server import remove
from taxi_orchestration.settings import PROJECT_DIRECTORY

RELEASE, COMMIT = "0.1.0", "9f16fca682ab86ddc794d6e23b44f59f0fe9acec"
FIRST, MONTHS = date(2018, 1, 1), 36
LARGE, LARGE_ROWS = date(2024, 1, 1), 1_000_000
# Limit for the time of a command, relative to the previous release.
GROWTH = 1.05


@dataclass(frozen=True)
class Version:
    """A checkout with its environment, a home of its own, and the host of its months."""

    checkout: Path
    home: Path
    url: str

    @property
    def models(self) -> int:
        """Return the number of its dbt models."""
        return len(list((self.checkout / "dbt_project" / "models").rglob("*.sql")))

    def taxi(self, arguments: Sequence[str], codes: Sequence[int] = (0,)) -> float:
        """Run its `taxi`, and return the seconds. Raises if the exit code is not one of `codes`."""
        command = [str(self.checkout / ".venv" / "bin" / "taxi"), *arguments]
        environment = {**os.environ, "TLC_BASE_URL": self.url, "TAXI_HOME": str(self.home)}
        began = time.perf_counter()
        done = subprocess.run(command, cwd=self.checkout, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in codes:
            raise RuntimeError(f"{self.checkout}: taxi {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return time.perf_counter() - began


def run(quick: bool) -> Section:
    """Install the previous release, and measure each command with one version and then with the other, repeatedly."""
    months, rows, repeats = (6, LARGE_ROWS // 100, 1) if quick else (MONTHS, LARGE_ROWS, 3)
    all_months = ["backfill", f"{FIRST:%Y-%m}", f"{add_months(FIRST, months - 1):%Y-%m}"]
    three_months = ["backfill", f"{FIRST:%Y-%m}", f"{add_months(FIRST, 2):%Y-%m}"]
    large_month = ["backfill", f"{LARGE:%Y-%m}", f"{LARGE:%Y-%m}"]
    again = ["--reprocess", "completed"]
    seconds: dict[str, list[float]] = {}
    with workplace() as place:
        place.publish_range(FIRST, months)
        place.publish(LARGE, rows)
        versions = [
            Version(checkout, place.directory / name, place.url)
            for name, checkout in (("before", _install(place.directory / "checkout")), ("now", PROJECT_DIRECTORY))
        ]

        def measure(what: str, arguments: Sequence[str], times: int, codes: Sequence[int] = (0,)) -> None:
            taken = [[version.taxi(arguments, codes) for version in versions] for _ in range(times)]
            seconds[what] = [statistics.median(of) for of in zip(*taken, strict=True)]

        try:
            # Creates the server and parses the dbt project.
            for version in versions:
                version.taxi(three_months)
            measure("backfill of 3 months again", [*three_months, *again], repeats)
            measure("backfill of completed months, nothing to do", three_months, 5)
            measure("backfill of an invalid month", ["backfill", "2018-13", "2018-13"], 5, [2])
            # 1: the command ran, and found something to report.
            measure("taxi status", ["status"], 5, [0, 1])
            measure(f"backfill of {months} months, {months - 3} of them new", [*all_months, *again], 1)
            measure(f"backfill of a month of {rows:,} rows", large_month, 1)
            measure("the same month again", [*large_month, *again], repeats)
        finally:
            for version in versions:
                remove(version.home)
    before, now = (version.models for version in versions)
    return Section(
        "The previous release",
        [
            Goal(
                f"{what}, time against release {RELEASE}",
                taken[1] / taken[0],
                "×",
                at_most=GROWTH,
                measured=f"{taken[1]:.2f} against {taken[0]:.2f} s",
                reason=f"{now} dbt models where {RELEASE} had {before} (CHANGELOG.md)",
            )
            for what, taken in seconds.items()
        ],
        note=f"Release {RELEASE} is commit {COMMIT[:10]}, with the packages of its own constraints.txt. The versions "
        "take turns, each with its own checkout, environment and embedded server; medians.",
    )


def _install(checkout: Path) -> Path:
    """Clone the previous release into `checkout`, with its environment."""
    subprocess.run(["git", "clone", "--quiet", PROJECT_DIRECTORY, checkout], check=True)
    subprocess.run(["git", "-C", checkout, "checkout", "--quiet", COMMIT], check=True)
    subprocess.run(["make", "--silent", ".venv/.installed"], cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    return checkout
