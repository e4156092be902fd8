"""100 months of half a million rows, one after the other: the last ten as fast as the first ten."""

import statistics
from datetime import date

import matplotlib.pyplot as plt

from bench.results import Goal, Section, as_png
from bench.workplace import FIRST_MONTH, Workplace, workplace
from taxi_orchestration.months import add_months

ROWS = 500_000


def run(quick: bool) -> Section:
    """Rows a second of every load; 50,000,000 rows in all (quick: 30 months)."""
    count = 30 if quick else 100
    with workplace() as place:
        place.start_over()
        rates = [_rate(place, add_months(FIRST_MONTH, number)) for number in range(count)]
    first, last = statistics.median(rates[:10]), statistics.median(rates[-10:])
    return Section(
        "Volume",
        [
            Goal(
                f"{count} months of {ROWS:,} rows: rate of the last ten loads against the first ten",
                last / first,
                "×",
                at_least=0.9,
                measured=f"{last:,.0f} against {first:,.0f} rows/s",
            )
        ],
        plots={"volume.png": _plot(rates)},
        note=f"{count * ROWS:,} rows loaded.",
        quotes={"volume_first": f"{first:,.0f}", "volume_last": f"{last:,.0f}", "volume_rows": f"{count * ROWS:,}"},
    )


def _rate(place: Workplace, month: date) -> float:
    file = place.publish(month, ROWS)
    with place.loader() as loader:
        load = loader.load_month(month)
    file.unlink()
    return load.rows_per_second


def _plot(rates: list[float]) -> bytes:
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(range(1, len(rates) + 1), rates, marker=".", linewidth=0.8)
    axes.set(xlabel=f"month of {ROWS:,} rows", ylabel="rows a second, URL to commit")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return as_png(figure)
