"""A month with every kind of anomaly: each is flagged, counted and summed correctly; marts and raw_trips agree."""

from datetime import date, datetime
from typing import Any

import dagster as dg
import psycopg
import pyarrow as pa
import pytest

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.parquet_files import file_of
from taxi_orchestration_tests.support.questions import answer_questions
from taxi_orchestration_tests.support.synthetic import month_table
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import connect_to_schema

# Tables, views and columns without a comment, except the partitions of raw_trips.
WITHOUT_COMMENT = """
    select relname, attname from pg_class join pg_attribute on attrelid = pg_class.oid
    where relnamespace = current_schema::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
        and attnum > 0 and not attisdropped and coalesce(col_description(attrelid, attnum), '') = ''
    union all
    select relname, null from pg_class
    where relnamespace = current_schema::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
        and obj_description(oid, 'pg_class') is null
"""

MONTH = date(2024, 11, 1)
"""The month in which daylight saving time ends: on the 3rd, one hour occurs twice."""

LOST_MINUTES = 6
"""The ID of a vendor whose times all have the number of the month as their minute."""

OTHER_FARES = 5
"""The ID of a vendor whose fare components do not add up to the total."""

Trip = dict[str, Any]


def make_trip(**changes: Any) -> Trip:
    """Return an ordinary trip of vendor 2 with the given changes, by the column names of the file."""
    values = month_table(MONTH, 1, seed=1).to_pylist()[0]
    ordinary = {
        "VendorID": 2, DATASET.pickup: datetime(2024, 11, 12, 9), DATASET.dropoff: datetime(2024, 11, 12, 9, 20),
        "RatecodeID": 1, "PULocationID": 74, "DOLocationID": 75, "passenger_count": 1, "trip_distance": 2.5,
        "fare_amount": 12.0, "extra": 0.0, "mta_tax": 0.5, "tip_amount": 0.0, "tolls_amount": 0.0,
        "improvement_surcharge": 1.0, "total_amount": 13.5, "payment_type": 2, "trip_type": 1,
        "congestion_surcharge": 0.0,
    }  # fmt: skip
    names = {name.lower(): name for name in values}
    return values | {names[name.lower()]: value for name, value in (ordinary | changes).items()}


def make_refund(**changes: Any) -> Trip:
    """Return the refund of an ordinary trip."""
    amounts = ("fare_amount", "mta_tax", "improvement_surcharge", "total_amount")
    return make_trip(**{name: -make_trip()[name] for name in amounts}, payment_type=4, **changes)


def make_time(hour: int, minute: int, day: int = 3) -> datetime:
    return datetime(2024, 11, day, hour, minute)


def make_times(begin: datetime, end: datetime) -> Trip:
    return {DATASET.pickup: begin, DATASET.dropoff: end}


ODD_TRIPS: list[Trip] = [
    *(
        make_trip(VendorID=LOST_MINUTES, **make_times(make_time(hour, 11, day), make_time(hour + 1, 11, day)))
        for day in range(4, 9)
        for hour in range(8, 18)
    ),
    *(
        make_trip(VendorID=OTHER_FARES, fare_amount=1.0, **make_times(make_time(9, n, 11), make_time(10, n, 11)))
        for n in range(30)
    ),
    *(make_trip(VendorID=1, trip_distance=90_000.0 + n) for n in range(7)),
    # Refunds of a trip, of one of two equal trips, and of no trip.
    make_trip(PULocationID=41), make_refund(PULocationID=41),
    make_trip(PULocationID=42), make_trip(PULocationID=42), make_refund(PULocationID=42),
    make_refund(PULocationID=43),
    # Across the repeated hour: 20 minutes; 20 or 80 minutes; and 60 minutes more than by the clock.
    make_trip(PULocationID=61, **make_times(make_time(1, 50), make_time(1, 10))),
    make_trip(PULocationID=62, **make_times(make_time(1, 20), make_time(1, 40))),
    make_trip(PULocationID=63, **make_times(make_time(0, 50), make_time(2, 10))),
    # One trip with a null in each of these columns.
    *(make_trip(**{name: None}) for name in
      ("VendorID", "RatecodeID", "PULocationID", "DOLocationID", "payment_type", "trip_type", "passenger_count")),
]  # fmt: skip


@pytest.fixture
def warehouse(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> psycopg.Connection:
    """A connection to the warehouse with a month of 2,000 synthetic trips and the anomalies, and the month before."""
    table = month_table(MONTH, 2000)
    odd = pa.Table.from_pylist(ODD_TRIPS, schema=table.schema)
    tlc.publish(date(2024, 10, 1), rows=500)
    tlc.publish_bytes(MONTH, file_of(pa.concat_tables([table, odd])))
    assert Backfill(definitions, instance, 2, False).run([date(2024, 10, 1), MONTH]).succeeded
    return connect_to_schema(target, settings.schema_name)


def test_each_anomaly_is_flagged_and_marts_and_raw_trips_give_the_same_answers(
    warehouse: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    def fetch(query: str) -> list[tuple[Any, ...]]:
        return warehouse.execute(query.encode()).fetchall()

    def fetch_warning(check: str) -> list[str]:
        """Return the file, vendor, trips and share of each row that a check warns about."""
        key = dg.AssetCheckKey(dg.AssetKey("vendor_quality"), check)
        record = instance.get_latest_asset_check_evaluation_record(key)
        assert record
        assert record.evaluation
        assert (record.evaluation.passed, record.evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
        return str(record.evaluation.metadata["sample"].value).splitlines()[2:]

    with warehouse:
        assert fetch(WITHOUT_COMMENT) == []

        odd = f"source_month = '{MONTH}' and source_row > 2000"
        assert fetch(
            f"select vendor_id, count(*), count(trip_seconds), bool_and(has_unreliable_times) from fct_trips "
            f"where {odd} and has_unreliable_times group by 1"
        ) == [(LOST_MINUTES, 50, 0, True)]
        assert fetch(
            f"select vendor_id, count(*), count(trip_miles), sum(total_amount)::float from fct_trips "
            f"where {odd} and has_implausible_distance group by 1"
        ) == [(1, 7, 0, 94.5)]
        assert fetch(
            "select pickup_zone_id, is_refund, refunds_source_row is not null, is_refunded from fct_trips "
            f"where {odd} and pickup_zone_id in (41, 42, 43) order by 1, 2"
        ) == [
            (41, False, False, True), (41, True, True, False),
            (42, False, False, False), (42, False, False, False), (42, True, False, False),
            (43, True, False, False),
        ]  # fmt: skip
        assert fetch(
            "select pickup_zone_id, trip_seconds, has_invalid_duration from fct_trips "
            f"where {odd} and pickup_zone_id in (61, 62, 63) order by 1"
        ) == [(61, 1200, False), (62, None, True), (63, 8400, False)]
        assert fetch_warning("vendors_have_reliable_times") == [
            "| 2024-11-01 | 6 | Myle Technologies Inc | 54 | 0.9259 |"
        ]
        assert fetch_warning("vendors_have_reliable_amounts") == ["| 2024-11-01 | 5 | Unknown (5) | 31 | 0.0323 |"]
        # No trip is lost by any join.
        for key, dimension in (
            ("vendor_id", "dim_vendors"),
            ("rate_code_id", "dim_rate_codes"),
            ("payment_type_id", "dim_payment_types"),
            ("trip_type_id", "dim_trip_types"),
        ):
            assert fetch(f"select count(*) from fct_trips join {dimension} using ({key}) where {odd}") == [
                (len(ODD_TRIPS),)
            ]
        assert fetch(
            "select count(*) from fct_trips join dim_zones as f on f.zone_id = pickup_zone_id "
            f"join dim_zones as t on t.zone_id = dropoff_zone_id where {odd}"
        ) == [(len(ODD_TRIPS),)]

        clock_changes = [date(2024, 11, 2), date(2024, 11, 3)]
        for question, mart, raw in answer_questions(warehouse, MONTH, clock_changes, [LOST_MINUTES]):
            assert mart == raw, question

        # In Cairo some days have no midnight.
        warehouse.execute("set local timezone = 'Africa/Cairo'")
        assert fetch("select count(*) - 1, max(pickup_date) from dim_dates") == fetch(
            "select current_date + 31 - date '2013-07-01', current_date + 31"
        )
        # PostgreSQL knows how few codes there are, without which it estimates joins of `trips` far too large.
        assert fetch(
            "select relname, reltuples from pg_class join pg_namespace on relnamespace = pg_namespace.oid "
            "where nspname = current_schema and relkind = 'r' and relname like 'tlc_%' order by 1"
        ) == [("tlc_payment_types", 7), ("tlc_rate_codes", 7), ("tlc_trip_types", 2), ("tlc_vendors", 3)]
