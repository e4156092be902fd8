"""A large month loaded and built for the first time, and then replaced by other rows while it is read."""

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
# What the replacement may take against the first time.
FACTOR = 1.3
# How long a reader may wait for its count; refunds are found in one pass.
LOOK_SECONDS, REFUND_SECONDS = 5, 15
REFUNDS = "int_refunds"
Looks = list[tuple[int, float]]


def run(quick: bool) -> Section:
    """A first load and a replacement right after it, of 3,000,000 rows (quick: 300,000), then the models twice."""
    rows = 300_000 if quick else ROWS
    with workplace() as place:
        pairs = [_pair(place, rows) for _ in range(1 if quick else 3)]
        # Of the month that the last pair left.
        first, again, looks = _models(place)
    # What a reader may see: the month before or after its replacement, and facts that stay the same.
    read = [*(((rows, rows + 1), pair[2]) for pair in pairs), ((looks[0][0],), looks)]
    loads = [statistics.median(seconds) for seconds in zip(*((pair[0], pair[1]) for pair in pairs), strict=True)]
    parts = sum(rows not in whole for whole, looks in read for rows, _ in looks)
    slowest = max(seconds for _, looks in read for _, seconds in looks)
    longest = sorted(first, key=lambda name: first[name], reverse=True)[:8]
    return Section(
        "Replacement",
        [
            Goal(
                f"a month of {rows:,} rows replaced, seconds against its first load",
                statistics.median(pair[1] / pair[0] for pair in pairs),
                "×",
                at_most=FACTOR,
                measured=f"{loads[1]:.1f} against {loads[0]:.1f} s",
                reason="old rows are deleted and the key grows row by row; a first load copies first and sorts once",
            ),
            Goal(
                "its models replaced, seconds against their first build",
                sum(again.values()) / sum(first.values()),
                "×",
                at_most=FACTOR,
                measured=f"{sum(again.values()):.1f} against {sum(first.values()):.1f} s",
                reason="PostgreSQL inserts with one process; a first build is computed by several",
            ),
            Goal(
                "parts of a month that a reader saw meanwhile",
                parts,
                "",
                at_most=0,
                measured=f"{sum(len(looks) for _, looks in read)} looks at raw_trips and fct_trips",
            ),
            Goal("the slowest of these looks", slowest, "s", at_most=LOOK_SECONDS),
            Goal(f"refunds of {rows:,} trips found ({REFUNDS})", first[REFUNDS], "s", at_most=REFUND_SECONDS),
        ],
        ["models, s", *longest],
        [
            [name, *(f"{seconds[node]:.1f}" for node in longest)]
            for name, seconds in (("first", first), ("again", again))
        ],
        note="The replacement deletes the old rows and copies the new ones into the same table and its key, in one "
        "transaction: a swap of tables would wait for readers, and make them wait.",
    )


def _pair(place: Workplace, rows: int) -> tuple[float, float, Looks]:
    """Seconds of the first load and of the replacement, and what a reader saw meanwhile."""
    place.start_over()
    place.publish(MONTH, rows)
    with place.loader() as loader:
        first = loader.load_month(MONTH).seconds
        place.settle()
        place.publish(MONTH, rows + 1)
        with _reader(place, "raw_trips") as looks:
            again = loader.load_month(MONTH).seconds
    return first, again, looks


def _models(place: Workplace) -> tuple[dict[str, float], dict[str, float], Looks]:
    """Seconds of each model of the loaded month built first and again, and what a reader of the facts saw meanwhile."""
    with place.loader() as loader:
        loader.load_zones()
        first = _build(place, loader)
        place.settle()
        with _reader(place, "fct_trips") as looks:
            again = _build(place, loader)
    return first, again, looks


def _build(place: Workplace, loader: Loader) -> dict[str, float]:
    window = {"window_start": str(MONTH), "window_end": str(next_month(MONTH))}
    # One model at a time, so that the seconds of each are its own.
    without_tests = ["--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"]
    command = ["--quiet", "--single-threaded", "build", *without_tests, "--vars", json.dumps(window)]
    outcome = invoke_dbt(command, loader.warehouse, prepared_project(place.settings))
    if outcome.error:
        raise outcome.error
    return {result.node.name: result.execution_time for result in outcome.results}


@contextmanager
def _reader(place: Workplace, table: str) -> Iterator[Looks]:
    """Count the rows of a table during the block: the rows and the seconds of each look."""
    looks: Looks = []
    done = threading.Event()
    reader = threading.Thread(target=_look, args=(place, table, done, looks))
    reader.start()
    try:
        yield looks
    finally:
        done.set()
        reader.join()


def _look(place: Workplace, table: str, done: threading.Event, looks: Looks) -> None:
    """Look now and then; one look in five seconds leaves the cores alone."""
    count = sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, table))
    with psycopg.connect(place.target.url(), autocommit=True) as connection:
        while True:
            start = time.perf_counter()
            (rows,) = connection.execute(count).fetchone() or (0,)
            looks.append((rows, time.perf_counter() - start))
            if done.wait(5):
                return
