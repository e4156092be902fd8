"""A large month: loaded and built for the first time, then replaced by other rows while a reader counts it."""

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import psycopg
from psycopg import sql

from bench.results import Goal, Section
from bench.workplace import SCHEMA, Workplace, workplace
from taxi_orchestration.dbt.runner import invoke_dbt, prepared_project
from taxi_orchestration.loading import Loader
from taxi_orchestration.months import next_month

MONTH = date(2025, 1, 1)
ROWS = 3_000_000
# Limit for the time of the replacement, relative to the first load.
FACTOR = 1.3
# Limits for a count of the reader, and for finding the refunds, which takes one pass.
COUNT_SECONDS, REFUND_SECONDS = 5, 15
REFUNDS = "int_refunds"
Counts = list[tuple[int, float]]


def run(quick: bool) -> Section:
    """Load and then replace a month of 3,000,000 rows (quick: 300,000), and build its models twice."""
    rows = 300_000 if quick else ROWS
    with workplace() as place:
        pairs = [_measure_pair(place, rows) for _ in range(1 if quick else 3)]
        # The models are built from the month of the last pair.
        first, again, counts = _measure_models(place)
    # A reader may see the month before or after its replacement; the number of facts stays the same.
    read = [*(((rows, rows + 1), pair[2]) for pair in pairs), ((counts[0][0],), counts)]
    loads = [statistics.median(seconds) for seconds in zip(*((pair[0], pair[1]) for pair in pairs), strict=True)]
    parts = sum(rows not in whole for whole, counts in read for rows, _ in counts)
    slowest = max(seconds for _, counts in read for _, seconds in counts)
    longest = sorted(first, key=lambda name: first[name], reverse=True)[:8]
    return Section(
        "Replacement",
        [
            Goal(
                f"replacement of a month of {rows:,} rows, time against its first load",
                statistics.median(pair[1] / pair[0] for pair in pairs),
                "×",
                at_most=FACTOR,
                measured=f"{loads[1]:.1f} against {loads[0]:.1f} s",
                reason="deletes the old rows and inserts into an existing index; a first load builds its index once",
            ),
            Goal(
                "rebuild of its models, time against their first build",
                sum(again.values()) / sum(first.values()),
                "×",
                at_most=FACTOR,
                measured=f"{sum(again.values()):.1f} against {sum(first.values()):.1f} s",
                reason="PostgreSQL inserts with one process; several compute a first build",
            ),
            Goal(
                "partial months seen by a concurrent reader",
                parts,
                "",
                at_most=0,
                measured=f"{sum(len(counts) for _, counts in read)} counts of raw_trips and fct_trips",
            ),
            Goal("slowest count of this reader", slowest, "s", at_most=COUNT_SECONDS),
            Goal(f"matching the refunds of {rows:,} trips ({REFUNDS})", first[REFUNDS], "s", at_most=REFUND_SECONDS),
        ],
        ["models, s", *longest],
        [
            [name, *(f"{seconds[node]:.1f}" for node in longest)]
            for name, seconds in (("first build", first), ("rebuild", again))
        ],
        note="A replacement deletes the old rows and copies the new ones into the same table and index in one "
        "transaction: swapping tables would wait for open readers, and block new ones.",
    )


def _measure_pair(place: Workplace, rows: int) -> tuple[float, float, Counts]:
    """Return the seconds of the first load and of the replacement, and the reader's counts during the replacement."""
    place.start_over()
    place.publish(MONTH, rows)
    with place.loader() as loader:
        first = loader.load_month(MONTH).seconds
        place.settle()
        place.publish(MONTH, rows + 1)
        with _run_reader(place, "raw_trips") as counts:
            again = loader.load_month(MONTH).seconds
    return first, again, counts


def _measure_models(place: Workplace) -> tuple[dict[str, float], dict[str, float], Counts]:
    """Return the seconds of each model in the first and the second build, and the reader's counts during the second."""
    with place.loader() as loader:
        loader.load_zones()
        first = _build_models(place, loader)
        place.settle()
        with _run_reader(place, "fct_trips") as counts:
            again = _build_models(place, loader)
    return first, again, counts


def _build_models(place: Workplace, loader: Loader) -> dict[str, float]:
    window = {"window_start": str(MONTH), "window_end": str(next_month(MONTH))}
    # One model at a time, so that no model slows another down.
    without_tests = ["--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"]
    command = ["--quiet", "--single-threaded", "build", *without_tests, "--vars", json.dumps(window)]
    outcome = invoke_dbt(command, loader.warehouse, prepared_project(place.settings))
    if outcome.error:
        raise outcome.error
    return {result.node.name: result.execution_time for result in outcome.results}


@contextmanager
def _run_reader(place: Workplace, table: str) -> Iterator[Counts]:
    """Count the rows of a table repeatedly for the duration of the block; yields rows and seconds of each count."""
    counts: Counts = []
    done = threading.Event()
    reader = threading.Thread(target=_count_rows, args=(place, table, done, counts))
    reader.start()
    try:
        yield counts
    finally:
        done.set()
        reader.join()


def _count_rows(place: Workplace, table: str, done: threading.Event, counts: Counts) -> None:
    """Count the rows of a table until `done` is set. One count every five seconds leaves the cores to the load."""
    query = sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, table))
    with psycopg.connect(place.target.url(), autocommit=True) as connection:
        while True:
            start = time.perf_counter()
            (rows,) = connection.execute(query).fetchone() or (0,)
            counts.append((rows, time.perf_counter() - start))
            if done.wait(5):
                return
