"""A large month loaded for the first time, and then replaced by other rows while it is read."""

import statistics
import threading
import time
from datetime import date

import psycopg
from psycopg import sql

from bench.results import Goal, Section
from bench.workplace import SCHEMA, Workplace, workplace

MONTH = date(2025, 1, 1)
ROWS = 3_000_000


def run(quick: bool) -> Section:
    """Seconds of a first load and of a replacement right after it, of 3,000,000 rows (quick: 300,000)."""
    rows = 300_000 if quick else ROWS
    with workplace() as place:
        pairs = [_pair(place, rows) for _ in range(1 if quick else 3)]
    first = statistics.median(pair[0] for pair in pairs)
    again = statistics.median(pair[1] for pair in pairs)
    return Section(
        "Replacement",
        [
            Goal(
                f"a month of {rows:,} rows replaced, seconds against its first load",
                statistics.median(pair[1] / pair[0] for pair in pairs),
                "×",
                at_most=1.3,
                measured=f"{again:.1f} against {first:.1f} s",
            ),
            Goal(
                "parts of a month that a reader saw meanwhile",
                max(pair[2] for pair in pairs),
                "",
                at_most=0,
                measured=f"slowest look {max(pair[3] for pair in pairs):.1f} s",
            ),
        ],
        note="The replacement deletes the old rows and copies the new ones into the same table and its key, in one "
        "transaction: a swap of tables would wait for readers, and make them wait.",
    )


def _pair(place: Workplace, rows: int) -> tuple[float, float, int, float]:
    """Seconds of the first load and of the replacement; how often its reader saw a part, and its slowest look."""
    place.start_over()
    place.publish(MONTH, rows)
    with place.loader() as loader:
        first = loader.load_month(MONTH).seconds
        place.settle()
        place.publish(MONTH, rows + 1)
        done = threading.Event()
        looks: list[tuple[int, float]] = []
        reader = threading.Thread(target=_look, args=(place, done, looks))
        reader.start()
        again = loader.load_month(MONTH).seconds
        done.set()
        reader.join()
    return first, again, sum(seen not in (rows, rows + 1) for seen, _ in looks), max(taken for _, taken in looks)


def _look(place: Workplace, done: threading.Event, looks: list[tuple[int, float]]) -> None:
    """Count the month now and then, with the seconds of each count; one look in five seconds leaves the cores alone."""
    count = sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, "raw_trips"))
    with psycopg.connect(place.target.url(), autocommit=True) as connection:
        while True:
            start = time.perf_counter()
            (seen,) = connection.execute(count).fetchone() or (0,)
            looks.append((seen, time.perf_counter() - start))
            if done.wait(5):
                return
