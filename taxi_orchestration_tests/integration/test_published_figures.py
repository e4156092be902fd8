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
from taxi_orchestration_tests.support.mirror import mirror
from taxi_orchestration_tests.support.questions import ask_each

pytestmark = pytest.mark.real_data

MONTHS = (
    date(2022, 1, 1),
    date(2022, 2, 1),
    date(2023, 12, 1),
    *(date(2024, month, 1) for month in (1, 2, 3, 4)),
    date(2025, 1, 1),
)
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
# Trips a day of this kind of taxi in the TLC's monthly report (data_reports_monthly.csv).
TRIPS_A_DAY = {
    date(2022, 1, 1): 2016,
    date(2022, 2, 1): 2477,
    date(2023, 12, 1): 2071,
    date(2024, 1, 1): 1824,
    date(2024, 2, 1): 1847,
    date(2024, 3, 1): 1853,
    date(2024, 4, 1): 1879,
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
    # The clocks changed on 10 March.
    for question, mart, raw in ask_each(warehouse, date(2024, 3, 1), [date(2024, 3, 9), date(2024, 3, 10)]):
        assert mart == raw, question

    complete = warehouse.execute("select pickup_month, trips_per_day from monthly_summary where is_complete")
    per_day: dict[date, Decimal] = dict(complete.fetchall())
    for month, published in TRIPS_A_DAY.items():
        assert abs(float(per_day[month]) / published - 1) < 0.0025, month
    # From 2024-11 on the report counts fewer trips than the files hold: 1,523 a day for 2025-01.
    assert round(float(per_day[date(2025, 1, 1)])) == 1558
