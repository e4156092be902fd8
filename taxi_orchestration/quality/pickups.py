"""The check of pickups outside the month of their file: every real file has some, none has many."""

from collections.abc import Mapping, Sequence
from typing import Any

from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.warehouse.measures import MonthMeasure

# 31 real months each have at most one such pickup in a thousand, and at most 43.
MANY, FEW = 0.01, 100


def has_many_outside(measure: MonthMeasure) -> bool:
    """Return whether more pickups lie outside the month than in any real file."""
    return measure.pickups_outside > max(MANY * measure.rows, FEW)


def check_pickups(month: str, measure: MonthMeasure, sample: Sequence[Mapping[str, Any]] = ()) -> Finding:
    """Check that the pickups of a month's file lie in the month, but for a few."""
    share = measure.pickups_outside / measure.rows if measure.rows else 0.0
    counts: dict[str, int | float | str] = {
        "pickups outside": measure.pickups_outside,
        "percent of the rows": round(100 * share, 3),
        "first pickup": str(measure.first_pickup),
        "last pickup": str(measure.last_pickup),
    }
    summary = f"{month}: {measure.pickups_outside:,} of {measure.rows:,} pickups lie outside the month."
    if has_many_outside(measure):
        return Finding(
            "warn",
            f"{summary} Other months have at most one in a thousand.",
            "See the sample: part of the file may be of another month. All trips count, each on its own day.",
            counts,
            sample,
        )
    return Finding("pass", summary, counts=counts)
