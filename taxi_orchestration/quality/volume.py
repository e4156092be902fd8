"""The check of a month's rows against the same month of the year before and the preceding months."""

from collections.abc import Mapping
from datetime import date
from statistics import median

from taxi_orchestration.months import add_months, partition_key
from taxi_orchestration.quality.finding import Finding

TRAILING_MONTHS = 12
# The median of fewer months is not representative.
FEWEST_MONTHS = 3
DRAWN_MONTHS = 25
FACTOR = 2.0
MEDIAN = f"median of the last {TRAILING_MONTHS} months"
SAME_MONTH = "same month last year"


def check_volume(month: date, rows: Mapping[date, int]) -> Finding:
    """Check that a month has half to twice the expected rows. `rows` are the counts of all loaded months."""
    trailing = [rows[m] for m in (add_months(month, -back) for back in range(1, TRAILING_MONTHS + 1)) if m in rows]
    counts: dict[str, int | float | str] = {"rows": rows[month]}
    references: dict[str, float] = {}
    if len(trailing) >= FEWEST_MONTHS:
        # Dagster draws one plot a name over all months: the name does not have the number of loaded months.
        counts[MEDIAN] = references[f"{MEDIAN}, {len(trailing)} loaded"] = median(trailing)
    if (last_year := add_months(month, -12)) in rows:
        counts[SAME_MONTH] = references[SAME_MONTH] = rows[last_year]
    if not references:
        return Finding(
            "pass", f"{partition_key(month)}: {rows[month]:,} rows; no month to compare with.", "Nothing.", counts
        )
    compared = "; ".join(f"{name}: {value:,.0f}" for name, value in references.items())
    summary = f"{partition_key(month)}: {rows[month]:,} rows ({compared})."
    # One of two references may itself be an outlier, as April 2020 is for April 2021.
    if all(not value / FACTOR <= rows[month] <= value * FACTOR for value in references.values()):
        return Finding(
            "warn",
            f"{summary} That is less than half or more than twice the expected number.",
            "See whether the TLC gives a reason. If the TLC published half a file, wait until the file is re-issued.",
            counts,
            rows_by_month={m: rows[m] for m in sorted(rows) if add_months(month, -DRAWN_MONTHS) < m <= month},
        )
    return Finding("pass", summary, counts=counts)
