"""`python -m bench.celery`: 36 months in chunks of 6, with one, two and three Celery workers, each on its own host.

It is not part of `make bench`, because it needs a Docker engine (see deploy/celery). It prints its figures. The hosts
share the cores of this machine: the benchmark shows the cost of dividing the work, not the gain from more machines.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from taxi_orchestration.months import parse_partition_key
from taxi_orchestration_tests.support.celery_hosts import Hosts, running_hosts
from taxi_orchestration_tests.support.docker_engine import base_image, build

MONTHS = [parse_partition_key(f"{year}-{month:02}") for year in (2021, 2022, 2023) for month in range(1, 13)]
ROWS = 57_000


@click.command()
@click.argument("workers", nargs=-1, type=click.IntRange(1, 32))
def main(workers: tuple[int, ...]) -> None:
    """Measure a backfill with each number of WORKERS; with 1, 2 and 3 if none is given."""
    base = base_image()
    build(base)
    click.echo(f"{len(MONTHS)} months of {ROWS:,} rows, {os.cpu_count()} cores for all hosts together")
    click.echo(f"{'workers':>8}{'loads, s':>10}{'models, s':>11}{'click to end, s':>17}")
    for number in workers or (1, 2, 3):
        with (
            tempfile.TemporaryDirectory() as directory,
            running_hosts(base, Path(directory), MONTHS, ROWS, number) as hosts,
        ):
            loads, models, whole = measure(hosts)
        click.echo(f"{number:>8}{loads:>10.1f}{models:>11.1f}{whole:>17.1f}")


def measure(hosts: Hosts) -> tuple[float, float, float]:
    """Return the seconds of all loads, from first start to last end, of all builds, and from launch to the end."""
    hosts.wait_until_up()
    began = time.time()
    ended = hosts.ui.ended_backfill(hosts.launch_backfill(), 1800)
    if ended["status"] != "COMPLETED_SUCCESS":
        raise SystemExit(f"The backfill ended as {ended['status']}: {ended['error']}")
    runs = sorted(ended["runs"], key=lambda run: run["startTime"])
    loads = [run for run in runs if is_load(run)]
    models = [run for run in runs if not is_load(run)]
    return (
        max(run["endTime"] for run in loads) - min(run["startTime"] for run in loads),
        sum(run["endTime"] - run["startTime"] for run in models),
        max(run["endTime"] for run in runs) - began,
    )


def is_load(run: dict[str, Any]) -> bool:
    """Return whether a run only loads months, and builds no models."""
    return [asset["path"][-1] for asset in run["assetSelection"]] == ["raw_trips"]


if __name__ == "__main__":
    main()
