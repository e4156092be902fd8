"""Synthetic files for five real months, with the same number of rows and the same pickups outside the month.

The documentation quotes the numbers of rows, and a lesson is about these pickups; amounts and zones are synthetic.
"""

import io
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_orchestration.months import next_month
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.synthetic import month_table

# The number of rows, and the pickups outside the month, as the TLC published them.
ROWS_AND_PICKUPS_OUTSIDE: dict[date, tuple[int, tuple[str, ...]]] = {
    date(2023, 12, 1): (
        64_215,
        ("2023-11-30 23:06:05", "2023-11-30 23:57:51", "2023-11-24 21:03:34", "2023-11-27 00:46:39"),
    ),
    date(2024, 1, 1): (56_551, ("2023-12-31 14:38:47", "2023-12-31 23:38:54")),
    date(2024, 2, 1): (
        53_577,
        ("2024-01-31 22:59:22", "2024-01-31 23:56:42", "2024-01-31 20:09:59",
         "2024-01-25 19:10:32", "2024-01-25 19:10:32", "2024-01-26 14:39:06"),
    ),
    date(2024, 3, 1): (
        57_457,
        ("2024-02-29 23:52:29", "2024-02-29 23:56:54", "2024-02-29 23:59:52", "2024-02-23 23:14:54",
         "2024-02-24 02:26:58", "2024-02-25 20:34:17", "2024-02-25 23:11:49", "2008-12-31 23:02:24",
         "2008-12-31 23:02:24", "2024-04-01 00:01:45"),
    ),
    date(2024, 4, 1): (
        56_471,
        ("2024-03-31 22:34:23", "2024-03-31 23:21:41", "2024-03-31 23:45:17", "2024-03-31 23:29:17"),
    ),
}  # fmt: skip


def documented_month(month: date) -> bytes:
    """Return the synthetic file of one of the months, as Parquet."""
    rows, strays = ROWS_AND_PICKUPS_OUTSIDE[month]
    table = month_table(month, rows)
    start, end = (datetime.combine(day, datetime.min.time()) for day in (month, next_month(month)))
    pickups = table.column(DATASET.pickup).to_pylist()
    pickups = [pickup if start <= pickup < end else start for pickup in pickups]
    pickups[: len(strays)] = [datetime.fromisoformat(stray) for stray in strays]
    for name, minutes in ((DATASET.pickup, 0), (DATASET.dropoff, 10)):
        index = table.column_names.index(name)
        times = pa.array([pickup + timedelta(minutes=minutes) for pickup in pickups], pa.timestamp("us"))
        table = table.set_column(index, table.field(index), times)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
