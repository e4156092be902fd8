"""The queries that read the frames from the warehouse. Charts and sentences belong elsewhere."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import LiteralString, NamedTuple

import pandas as pd
import psycopg
from psycopg import sql

from taxi_orchestration.report.frames import MOMENT, Frames, empty_frame
from taxi_orchestration.warehouse.warehouse import Warehouse

NO_SHAPES = (
    "raw_zone_shapes is empty. Materialize that asset, if the download host of TLC_BASE_URL has /misc/taxi_zones.zip."
)


class Source(NamedTuple):
    """A table or view of the schema, the names of the result's columns, and the query; `{}` is the table."""

    table: str
    columns: Sequence[str]
    query: LiteralString


SOURCES = {
    "months": Source(
        "monthly_summary",
        ["month", "is_complete", "trips", "total_amount", "miles_per_trip", "minutes_per_trip", "dollars_per_mile"],
        """
        select
            pickup_month, is_complete, trips, total_amount::float8,
            (trip_miles / nullif(trips_with_distance, 0))::float8,
            (trip_seconds / 60.0 / nullif(trips_with_duration, 0))::float8,
            dollars_per_mile::float8
        from {}
        """,
    ),
    "activity": Source(
        "hourly_activity",
        ["day", "hour", "trips", "trips_with_cbd_fee", "total_amount"],
        "select pickup_date, pickup_hour, trips, trips_with_cbd_fee, total_amount::float8 from {}",
    ),
    "zone_months": Source(
        "monthly_zone_activity",
        ["month", "zone_id", "pickups", "dropoffs", "total_amount"],
        "select pickup_month, zone_id, pickups, dropoffs, total_amount::float8 from {}",
    ),
    "zones": Source("dim_zones", ["zone_id", "zone_name", "borough"], "select zone_id, zone_name, borough from {}"),
    "payments": Source(
        "monthly_revenue",
        ["month", "payment_type_id", "payment_type_name", "trips", "total_amount", "fare_amount", "tip_amount"],
        """
        select
            pickup_month, payment_type_id, payment_type_name, trips, total_amount::float8, fare_amount::float8,
            tip_amount::float8
        from {}
        """,
    ),
    "findings": Source(
        "trip_quality",
        ["source_month", "column", "trips"],
        """
        select source_month, key, value::bigint
        from {} as quality, jsonb_each_text(to_jsonb(quality) - 'source_month') where key not like '%total_amount'
        """,
    ),
    "loads": Source(
        "raw_loads",
        ["source_month", "published_at", "loaded_at", "file", "sha256", "file_rows"],
        "select source_month, last_modified, loaded_at, regexp_replace(url, '^.*/', ''), sha256, rows from {}",
    ),
    "zone_shapes": Source("raw_zone_shapes", ["zone_id", "polygons"], "select zone_id, polygons from {}"),
}

# The columns of trip_quality that count all rows of a month, and the labels of those that count flags.
_ROWS = {"raw_trips": "raw_rows", "fact_trips": "fact_rows", "rejected_trips": "rejected_rows"}
_FLAGS = {
    "outside_month_trips": "pickup outside the month",
    "refund_trips": "refund",
    "zero_distance_trips": "no distance",
    "over_12_hours_trips": "longer than 12 hours",
    "missing_codes_trips": "codes not recorded",
    "implausible_distance_trips": "impossible distance",
    "invalid_duration_trips": "no usable duration",
    "unreliable_times_trips": "vendor without reliable times",
    "unreliable_amounts_trips": "vendor without reliable amounts",
    "refunded_trips": "refunded",
    "tied_refund_trips": "refund of a known trip",
    "unusual_value_trips": "unusual value",
    "unmatched_total_trips": "total is not the sum of its parts",
}
_REJECTED = "rejected_"


def read_frames(
    warehouse: Warehouse, now: datetime, checks: Mapping[date, tuple[int, int]] = MappingProxyType({})
) -> Frames:
    """Read the frames of the report in one snapshot. A frame is empty if its table does not exist yet.

    `checks` has, by month, the number of checks and the number of passed checks. Raises WarehouseError.
    """
    with warehouse.connect(f"Reading the report from schema {warehouse.schema}", snapshot=True) as connection:
        tables = warehouse.find_tables(connection, [source.table for source in SOURCES.values()])
        read = {name: _read(connection, warehouse, source, tables) for name, source in SOURCES.items()}
    findings, loads, activity = (read.pop(name) for name in ("findings", "loads", "activity"))
    frames = {
        **read,
        **_sum_activity(activity),
        "quality": _name_findings(findings),
        "pipeline": _trace_files(loads, findings, checks),
    }
    return Frames(
        **{name: empty_frame(name) if frame.empty else frame for name, frame in frames.items()},
        made_at=now,
        no_shapes_reason=NO_SHAPES if frames["zone_shapes"].empty else None,
    )


def _read(
    connection: psycopg.Connection, warehouse: Warehouse, source: Source, tables: Collection[str]
) -> pd.DataFrame:
    query = sql.SQL(source.query).format(warehouse.identifier(source.table))
    rows = connection.execute(query).fetchall() if source.table in tables else []
    return pd.DataFrame(rows, columns=list(source.columns))


def _sum_activity(activity: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Sum activity by day, and by month, weekday and hour: two queries would take PostgreSQL twice as long."""
    day = pd.to_datetime(activity["day"])
    of_month = activity.assign(month=day.dt.to_period("M").dt.to_timestamp(), weekday=day.dt.day_of_week + 1)
    sums = ["trips", "trips_with_cbd_fee", "total_amount"]
    return {
        "days": activity.groupby("day", as_index=False)[sums].sum().round({"total_amount": 2}),
        "hours": of_month.groupby(["month", "weekday", "hour"], as_index=False)["trips"].sum(),
    }


def _name_findings(findings: pd.DataFrame) -> pd.DataFrame:
    """Return flags and rejection reasons with their labels."""
    columns = findings["column"]
    is_reason = columns.str.startswith(_REJECTED) & (columns != "rejected_trips")
    named = findings.assign(
        kind=is_reason.map({True: "rejected", False: "flag"}),
        name=[_FLAGS.get(c) or c.removeprefix(_REJECTED).removesuffix("_trips").replace("_", " ") for c in columns],
    )
    return named[~columns.isin(_ROWS)]


def _trace_files(loads: pd.DataFrame, findings: pd.DataFrame, checks: Mapping[date, tuple[int, int]]) -> pd.DataFrame:
    """Return every loaded file with its checks and its row counts, which are 0 before a model counts the rows."""
    rows = findings.pivot(index="source_month", columns="column", values="trips").reindex(columns=list(_ROWS))
    files = loads.merge(rows.rename(columns=_ROWS), how="left", left_on="source_month", right_index=True)
    counted = [checks.get(month, (None, None)) for month in files["source_month"]]
    return files.fillna(dict.fromkeys(_ROWS.values(), 0)).assign(
        published_at=pd.to_datetime(files["published_at"], utc=True).astype(MOMENT),
        loaded_at=pd.to_datetime(files["loaded_at"], utc=True).astype(MOMENT),
        checks=pd.array([count for count, _ in counted], dtype="Int64"),
        checks_passed=pd.array([passed for _, passed in counted], dtype="Int64"),
    )
