"""Rows per second by size of the month: the project's loader against the limit of any PostgreSQL client."""

import statistics
from datetime import date

from bench import peers
from bench.plots import line_plot
from bench.results import Goal, Section
from bench.workplace import MONTH_ROWS, Workplace, workplace

MONTH = date(2025, 1, 1)
GOALS = {1_000_000: 0.9, 5_000_000: 0.95}


def run(quick: bool) -> Section:
    """Measure several loads, each into a table that does not exist yet, and report their median."""
    sizes = [MONTH_ROWS, 1_000_000] if quick else [MONTH_ROWS, 250_000, 1_000_000, 5_000_000]
    ours: dict[int, float] = {}
    limits: dict[int, float] = {}
    with workplace() as place:
        for size in sizes:
            place.publish(MONTH, size)
            pairs = [_measure_pair(place) for _ in range(5 if size <= 1_000_000 else 3)]
            ours[size] = statistics.median(pair[0] for pair in pairs)
            limits[size] = statistics.median(pair[1] for pair in pairs)
    largest = max(sizes)
    return Section(
        "Load throughput",
        [
            Goal(
                f"one month of {size:,} rows, throughput against psql's \\copy of a prepared file",
                limits[size] / ours[size],
                "×",
                at_least=GOALS[size],
                measured=f"{size / ours[size]:,.0f} against {size / limits[size]:,.0f} rows/s",
                reason="ours also encodes, checks and hashes every row, and builds the primary key",
            )
            for size in sizes
            if size in GOALS
        ],
        ["rows a second", *(f"{size:,} rows" for size in sizes)],
        [
            ["taxi", *(f"{size / ours[size]:,.0f}" for size in sizes)],
            ["limit (psql \\copy)", *(f"{size / limits[size]:,.0f}" for size in sizes)],
        ],
        {
            "throughput.png": line_plot(
                {
                    name: {size: size / taken for size, taken in seconds.items()}
                    for name, seconds in (("taxi", ours), ("limit (psql \\copy)", limits))
                },
                "rows of the month",
                "rows a second, URL to commit",
                log_x=True,
            )
        },
        "Ours includes the download, the checks of the file, its digest, the primary key and the entry in raw_loads; "
        "the limit is COPY alone, into a table without a primary key.",
        {
            "load_small": f"{ours[MONTH_ROWS]:.2f} s",
            "load_large": f"{ours[largest]:.1f} s for {largest:,}",
            "of_limit": " and ".join(f"{limits[size] / ours[size]:.2f}" for size in sizes if size in GOALS),
        },
    )


def _measure_pair(place: Workplace) -> tuple[float, float]:
    """Return the seconds of the project's load and of the limit, measured directly one after the other."""
    place.start_over()
    with place.loader() as loader:
        seconds = loader.load_month(MONTH).seconds
    return seconds, peers.measure_limit(place, MONTH)
