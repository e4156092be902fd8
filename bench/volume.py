"""100 months of half a million rows, loaded one after the other: the last ten must be as fast as the first ten."""

import statistics
from datetime import date

from bench.plots import line_plot
from bench.results import Goal, Section
from bench.workplace import FIRST_MONTH, Workplace, workplace
from taxi_orchestration.months import add_months

ROWS = 500_000


def run(quick: bool) -> Section:
    """Measure the rows per second of every load, of 50,000,000 rows in all (quick: 30 months)."""
    count = 30 if quick else 100
    with workplace() as place:
        place.start_over()
        rates = [_measure_rate(place, add_months(FIRST_MONTH, number)) for number in range(count)]
    first, last = statistics.median(rates[:10]), statistics.median(rates[-10:])
    return Section(
        "Volume",
        [
            Goal(
                f"{count} months of {ROWS:,} rows, throughput of the last ten loads against the first ten",
                last / first,
                "×",
                at_least=0.9,
                measured=f"{last:,.0f} against {first:,.0f} rows/s",
            )
        ],
        plots={
            "volume.png": line_plot(
                {"load": dict(enumerate(rates, 1))}, f"month of {ROWS:,} rows", "rows a second, URL to commit"
            )
        },
        note=f"{count * ROWS:,} rows loaded.",
        quotes={"volume_first": f"{first:,.0f}", "volume_last": f"{last:,.0f}", "volume_rows": f"{count * ROWS:,}"},
    )


def _measure_rate(place: Workplace, month: date) -> float:
    file = place.publish(month, ROWS)
    with place.loader() as loader:
        load = loader.load_month(month)
    file.unlink()
    return load.rows_per_second
