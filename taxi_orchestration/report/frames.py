"""The frames of the report: their names, columns, types and units. The queries belong to `read`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

import pandas as pd

MONTH = "datetime64[s]"
MOMENT = "datetime64[s, UTC]"

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "months": {
        "month": MONTH,
        "is_complete": "bool",
        "trips": "int64",
        "total_amount": "float64",
        "miles_per_trip": "float64",
        "minutes_per_trip": "float64",
        "dollars_per_mile": "float64",
    },
    "days": {"day": MONTH, "trips": "int64", "trips_with_cbd_fee": "int64", "total_amount": "float64"},
    "hours": {"month": MONTH, "weekday": "int64", "hour": "int64", "trips": "int64"},
    "zones": {"zone_id": "int64", "zone_name": "str", "borough": "str"},
    "zone_months": {
        "month": MONTH,
        "zone_id": "int64",
        "pickups": "int64",
        "dropoffs": "int64",
        "total_amount": "float64",
    },
    "payments": {
        "month": MONTH,
        "payment_type_id": "int64",
        "payment_type_name": "str",
        "trips": "int64",
        "total_amount": "float64",
        "fare_amount": "float64",
        "tip_amount": "float64",
    },
    "quality": {"source_month": MONTH, "kind": "str", "name": "str", "trips": "int64"},
    "pipeline": {
        "source_month": MONTH,
        "published_at": MOMENT,
        "loaded_at": MOMENT,
        "file": "str",
        "sha256": "str",
        "file_rows": "int64",
        "raw_rows": "int64",
        "fact_rows": "int64",
        "rejected_rows": "int64",
        "checks": "Int64",
        "checks_passed": "Int64",
    },
    "zone_shapes": {"zone_id": "int64", "polygons": "object"},
}


@dataclass(frozen=True)
class Frames:
    """The data of the report, as aggregates of the marts. Any frame may be empty; `COLUMNS` has the types.

    A month is the first day of a month of New York's wall-clock time: of the pickup as `month`, of the file as
    `source_month`. Amounts are dollars, to the cent; money and trips include refunds.

    months       a month of pickups (monthly_summary). Quotients are over the trips that have the divisor, NaN if no
                 trip has it: `miles_per_trip` and `minutes_per_trip` over trips with a distance and with a duration,
                 `dollars_per_mile` the total cost of the trips with a distance divided by their miles.
    days         a day of pickups, and the number of its trips that paid the fee of Manhattan's congestion zone
                 (hourly_activity).
    hours        a month of pickups, weekday (1 Monday to 7 Sunday) and hour (0 to 23) (hourly_activity).
    zones        a taxi zone (dim_zones), with -1 for a zone that was not recorded.
    zone_months  a month and zone: trips that began in the zone, trips that ended in it, and total_amount of the trips
                 that began in it (monthly_zone_activity).
    payments     a month of pickups and payment type (monthly_revenue).
    quality      a month's file, and a flag or rejection reason of its rows (trip_quality): `kind` is "flag" or
                 "rejected", `name` the label. A row counts under each of its flags and reasons.
    pipeline     a month's file (raw_loads, trip_quality, checks): the times of publication (Last-Modified) and of
                 load, the last part of the URL, and the rows in each place, as the month's last build counted them (0
                 before it); `checks` is missing if none was recorded.
    zone_shapes  a zone's outline as the coordinates of a GeoJSON MultiPolygon, in any planar unit, north up
                 (`tlc.zone_shapes.simplify_zone_shapes`).
    """

    months: pd.DataFrame
    days: pd.DataFrame
    hours: pd.DataFrame
    zones: pd.DataFrame
    zone_months: pd.DataFrame
    payments: pd.DataFrame
    quality: pd.DataFrame
    pipeline: pd.DataFrame
    zone_shapes: pd.DataFrame
    made_at: datetime
    """The time of the report, with its time zone."""
    no_shapes_reason: str | None = None
    """The reason, as a sentence, if `zone_shapes` is empty."""

    def __post_init__(self) -> None:
        """Cast and sort every frame to its columns and types. Raises ValueError if a frame lacks columns."""
        for field in fields(self):
            if columns := COLUMNS.get(field.name):
                frame = getattr(self, field.name)
                if missing := [name for name in columns if name not in frame]:
                    raise ValueError(f"The frame {field.name} of the report lacks the columns {', '.join(missing)}.")
                typed = frame[list(columns)].astype(columns)
                object.__setattr__(self, field.name, typed.sort_values(next(iter(columns))).reset_index(drop=True))

    @property
    def complete_months(self) -> pd.Series:
        """Return the months whose file is loaded and built: they are drawn. Files have single trips of other months."""
        return self.months.loc[self.months["is_complete"], "month"]

    def within_complete_months(self, frame: pd.DataFrame, column: str = "month") -> pd.DataFrame:
        """Return the rows of a frame by pickup in the complete months."""
        months = frame[column].dt.to_period("M").dt.to_timestamp().astype(MONTH)
        return frame[months.isin(self.complete_months)].reset_index(drop=True)


def empty_frame(name: str) -> pd.DataFrame:
    """Return a frame of `Frames` without rows."""
    return pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in COLUMNS[name].items()})
