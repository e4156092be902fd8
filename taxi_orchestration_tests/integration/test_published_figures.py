"""Figures that others published on real months, and questions asked of the marts and of raw_trips alike."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import dagster as dg
import psycopg
import pytest

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.settings import PostgresTarget, Settings, load_settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.mirror import mirror

pytestmark = pytest.mark.real_data

MONTHS = (date(2022, 1, 1), date(2024, 3, 1), date(2025, 1, 1))
MARCH = f"{DATASET.pickup} >= '2024-03-01' and {DATASET.pickup} < '2024-04-01'"
SECONDS = f"extract(epoch from {DATASET.dropoff} - {DATASET.pickup})"
# No trip of March but those of the 10th, when the clocks changed, takes another time than its clock's.
TIMED = (
    f"{MARCH} and trip_distance > 0 and trip_distance <= 500 and {SECONDS} > 0 and {SECONDS} <= 43200 "
    f"and {DATASET.pickup}::date not in ('2024-03-09', '2024-03-10')"
)
NEAR = f"{DATASET.pickup} >= source_month - 31 and {DATASET.pickup} < source_month + interval '1 month 31 days'"
QUESTIONS: dict[str, tuple[LiteralString, LiteralString]] = {
    "trips of a month": (
        "select trips from monthly_summary where pickup_month = '2024-03-01'",
        f"select count(*) from raw_trips where {MARCH}",
    ),
    "dollars of a month": (
        "select total_amount from monthly_summary where pickup_month = '2024-03-01'",
        f"select sum(total_amount::numeric) from raw_trips where {MARCH}",
    ),
    "trips a day": (
        "select round(trips_per_day, 2) from monthly_summary where pickup_month = '2024-03-01'",
        f"select round(count(*) / 31.0, 2) from raw_trips where {MARCH}",
    ),
    "complete months": (
        "select pickup_month from monthly_summary where is_complete order by 1",
        "select distinct source_month from raw_trips order by 1",
    ),
    "passengers a trip": (
        "select round(passengers_per_trip, 3) from monthly_summary where pickup_month = '2024-03-01'",
        f"select round(avg(passenger_count), 3) from raw_trips where {MARCH}",
    ),
    "speed": (
        "select round(sum(timed_miles) * 3600 / sum(timed_seconds), 3) from daily_zone_activity "
        "where date_trunc('month', pickup_date) = '2024-03-01' and pickup_date not in ('2024-03-09', '2024-03-10')",
        f"select round(sum(trip_distance::numeric) * 3600 / sum({SECONDS}), 3) from raw_trips where {TIMED}",
    ),
    "dollars a mile": (
        "select round(dollars_per_mile, 3) from monthly_summary where pickup_month = '2024-03-01'",
        "select round(sum(total_amount::numeric) / sum(trip_distance::numeric), 3) from raw_trips "
        f"where {MARCH} and trip_distance > 0 and trip_distance <= 500",
    ),
    "tip share of card trips": (
        "select round(card_tip_share, 3) from monthly_summary where pickup_month = '2024-03-01'",
        "select round(sum(tip_amount::numeric) / sum(total_amount::numeric - tip_amount::numeric), 3) from raw_trips "
        f"where {MARCH} and payment_type = 1",
    ),
    "refunds": (
        "select sum(refunds) from monthly_revenue where pickup_month = '2024-03-01'",
        f"select count(*) from raw_trips where {MARCH} and total_amount < 0",
    ),
    "trips by payment type, joined": (
        "select payment_type_id, count(*) from fct_trips join dim_payment_types using (payment_type_id) "
        "group by 1 order by 1",
        f"select coalesce(payment_type, -1), count(*) from raw_trips where {NEAR} group by 1 order by 1",
    ),
    "dollars by payment type": (
        "select payment_type_id, total_amount from monthly_revenue where pickup_month = '2024-03-01' order by 1",
        "select coalesce(payment_type, -1), sum(total_amount::numeric) from raw_trips "
        f"where {MARCH} group by 1 order by 1",
    ),
    "busiest pickup zones": (
        "select pickup_zone_id, sum(trips) from daily_zone_activity group by 1 order by 2 desc, 1 limit 5",
        f"select pulocationid, count(*) from raw_trips where {NEAR} group by 1 order by 2 desc, 1 limit 5",
    ),
    "busiest flow": (
        "select pickup_zone_id, dropoff_zone_id, trips from zone_flows where pickup_month = '2024-03-01' "
        "order by 3 desc, 1, 2 limit 5",
        f"select pulocationid, dolocationid, count(*) from raw_trips where {MARCH} group by 1, 2 "
        "order by 3 desc, 1, 2 limit 5",
    ),
    "trips by hour": (
        "select pickup_hour, sum(trips) from hourly_zone_activity group by 1 order by 1",
        f"select extract(hour from {DATASET.pickup}), count(*) from raw_trips where {NEAR} group by 1 order by 1",
    ),
    "trips at the weekend": (
        "select sum(trips) from daily_zone_activity join dim_dates using (pickup_date) where is_weekend",
        f"select count(*) from raw_trips where {NEAR} and extract(isodow from {DATASET.pickup}) >= 6",
    ),
    "trips from airports, Newark among them": (
        "select count(*) from trips where is_airport_pickup",
        f"select count(*) from raw_trips where {NEAR} and pulocationid in (1, 132, 138)",
    ),
    "trips by vendor, joined": (
        "select vendor_id, count(*) from trips group by 1 order by 1",
        f"select vendorid, count(*) from raw_trips where {NEAR} group by 1 order by 1",
    ),
    "fees of the Congestion Relief Zone": (
        "select sum(cbd_congestion_fee) from monthly_revenue",
        f"select sum(cbd_congestion_fee::numeric) from raw_trips where {NEAR}",
    ),
    "trips without a possible distance": (
        "select count(*) from fct_trips where has_implausible_distance",
        f"select count(*) from raw_trips where {NEAR} and (trip_distance > 500 or trip_distance < 0)",
    ),
    "dollars of all trips": (
        "select sum(total_amount) from zone_flows",
        f"select sum(total_amount::numeric) from raw_trips where {NEAR}",
    ),
}
# As in docs/published-figures.md.
PUBLISHED: dict[LiteralString, Any] = {
    "select round(avg(total_amount)::numeric, 6) from raw_trips where source_month = '2022-01-01'": Decimal(
        "17.490532"
    ),
    "select max(trip_distance) from raw_trips where source_month = '2022-01-01'": 224481.38,
    "select max(median) from (select percentile_cont(0.5) within group (order by fare_amount) as median from fct_trips "
    "where source_month = '2024-03-01' and not is_outside_month group by pickup_date) as days": 14.2,
    "select count(cbd_congestion_fee) from fct_trips where source_month = '2025-01-01'": 46_490,
    "select count(*) from raw_trips where source_month = '2022-01-01'": 62_495,
    "select count(*) from raw_trips where source_month = '2024-03-01'": 57_457,
    "select count(*) from raw_trips where source_month = '2025-01-01'": 48_326,
}


@pytest.fixture
def warehouse(
    real_months: Path,
    settings: Settings,
    target: PostgresTarget,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[psycopg.Connection]:
    with mirror(real_months) as url:
        monkeypatch.setenv("TLC_BASE_URL", url)
        assert Backfill(build_definitions(load_settings()), instance, 2, False).run(MONTHS).succeeded
    with psycopg.connect(target.url(), options=f"-c search_path={settings.schema_name}") as connection:
        yield connection


def test_the_marts_and_raw_trips_answer_alike_and_as_others_published(warehouse: psycopg.Connection) -> None:
    for query, figure in PUBLISHED.items():
        assert warehouse.execute(query).fetchone() == (figure,), query
    for question, (marts, raw) in QUESTIONS.items():
        assert warehouse.execute(marts).fetchall() == warehouse.execute(raw).fetchall(), question
