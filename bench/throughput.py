"""One month from the loopback URL to committed, beside the other ways and the limit."""

import statistics
from collections.abc import Callable
from datetime import date

import matplotlib.pyplot as plt

from bench import baselines
from bench.results import PLOTS, Goal, Section
from bench.workplace import MONTH_ROWS, Workplace, workplace

MONTH = date(2025, 1, 1)


def run(quick: bool) -> Section:
    """Rows a second by rows and method. The median of several, each into a table that is not there yet."""
    sizes = [MONTH_ROWS, 1_000_000] if quick else [MONTH_ROWS, 250_000, 1_000_000, 5_000_000]
    ours: dict[int, float] = {}
    limits: dict[int, float] = {}
    others: dict[str, dict[int, float]] = {"course (pandas to_sql)": {}, "pandas CSV COPY": {}, "ADBC ingest": {}}
    ways: dict[str, Callable[[Workplace, date], float]] = dict(
        zip(others, (baselines.course, baselines.pandas_csv, baselines.adbc), strict=True)
    )
    with workplace() as place:
        for size in sizes:
            place.publish(MONTH, size)
            times = 5 if size <= 1_000_000 else 3
            pairs = [_pair(place) for _ in range(times)]
            ours[size] = statistics.median(pair[0] for pair in pairs)
            limits[size] = statistics.median(pair[1] for pair in pairs)
            for name, way in ways.items():
                # Minutes for what is only the scale of the plot: the course's way is measured where it is used.
                if name.startswith("course") and size > MONTH_ROWS:
                    continue
                others[name][size] = way(place, MONTH)
    course = others["course (pandas to_sql)"][MONTH_ROWS]
    goals = [
        Goal(
            f"one month of {size:,} rows, rows a second against psql's \\copy of a ready file",
            limits[size] / ours[size],
            "×",
            at_least=0.75,
            measured=f"{size / ours[size]:,.0f} against {size / limits[size]:,.0f} rows/s",
        )
        for size in sizes
        if size >= 1_000_000
    ]
    goals.append(
        Goal(
            f"one month of {MONTH_ROWS:,} rows against the course's way",
            course / ours[MONTH_ROWS],
            "×",
            at_least=40,
            measured=f"{ours[MONTH_ROWS]:.2f} against {course:.1f} s",
        )
    )
    table = {"taxi": ours, "limit (psql \\copy)": limits, **others}
    _plot(table)
    return Section(
        "Load throughput",
        goals,
        ["rows a second", *(f"{size:,} rows" for size in sizes)],
        [
            [name, *(f"{size / seconds[size]:,.0f}" if size in seconds else "" for size in sizes)]
            for name, seconds in table.items()
        ],
        ["throughput.png"],
        "Ours includes the download, the checks of the file, its digest, the primary key and the entry in raw_loads; "
        "the limit is COPY alone, into a table without a key.",
    )


def _pair(place: Workplace) -> tuple[float, float]:
    """Seconds of ours and of the limit, one right after the other."""
    place.start_over()
    with place.loader() as loader:
        seconds = loader.load_month(MONTH).seconds
    return seconds, baselines.limit(place, MONTH)


def _plot(table: dict[str, dict[int, float]]) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, seconds in table.items():
        axes.plot(list(seconds), [size / taken for size, taken in seconds.items()], marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="rows of the month", ylabel="rows a second, URL to commit")
    axes.grid(alpha=0.3)
    axes.legend()
    PLOTS.mkdir(exist_ok=True)
    figure.savefig(PLOTS / "throughput.png", dpi=90)
    plt.close(figure)
