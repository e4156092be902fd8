"""The check of a month's rows: in the file's footer, copied, in raw_loads, and in raw_trips."""

from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.warehouse.measures import MonthMeasure


def check_rows(month: str, measure: MonthMeasure, footer_rows: int | None = None) -> Finding:
    """Check that raw_trips holds the whole file. `footer_rows` is the footer's count of a file that this run copied."""
    counts: dict[str, int | float | str] = {
        "rows in raw_loads": measure.rows_logged if measure.rows_logged is not None else "no such month",
        "rows in raw_trips": measure.rows,
        "last source_row": measure.last_row,
    }
    if footer_rows is not None:
        # Both counts are equal: a load in which they differ is rolled back.
        counts = {"rows in the file's footer": footer_rows, "rows copied": footer_rows, **counts}
    if measure.rows_logged == measure.rows == measure.last_row:
        return Finding(
            "pass", f"{month}: {measure.rows:,} rows in the file, in raw_loads and in raw_trips.", counts=counts
        )
    logged = f"{measure.rows_logged:,} rows" if measure.rows_logged is not None else "no load"
    return Finding(
        "error",
        f"{month}: raw_loads records {logged}, raw_trips has {measure.rows:,} rows up to source_row "
        f"{measure.last_row:,}: the tables were changed by hand.",
        f"Load the month again: taxi backfill {month} {month} --reprocess completed",
        counts,
    )
