"""Published figures, and figures in dbt's descriptions, checked on real months; the marts agree with raw_trips."""

import json
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.dbt.runner import prepared_project, read_manifest
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings, load_settings
from taxi_orchestration_tests.support.mirror import mirror
from taxi_orchestration_tests.support.questions import answer_questions
from taxi_orchestration_tests.support.warehouses import connect_to_schema

pytestmark = pytest.mark.real_data

PAGE = (PROJECT_DIRECTORY / "docs" / "published-figures.md").read_text()
ANSWERS = re.findall(r"^\|[^|]*\|[^|]*\| `(select [^|`]+)` \| ([\d,.]*\d)\b[^|]*\|$", PAGE, re.MULTILINE)
TRIPS_A_DAY = re.findall(r"^\| (\d{4}-\d\d) \| ([\d,]+) \| ([\d,]+\.\d) \| (\d\.\d) % \|$", PAGE, re.MULTILINE)
MONTHS = [date.fromisoformat(f"{month}-01") for month, *_ in TRIPS_A_DAY]

# The figures of the eight months in dbt's descriptions, by query.
DESCRIBED = {
    "select count(*) - count(cbd_congestion_fee) from fct_trips where source_month = '2025-01-01'":
        "({:,} rows of 2025-01)",
    "select count(refunds_source_row), count(*) filter (where is_refund) from fct_trips":
        "{:,} of the {:,} refunds of eight real months match one trip",
    "select 100 * min(share), 100 * max(share) from (select avg(components_match_total::integer) as share "
    "from fct_trips group by source_month) as months":
        "True for {:.1f} % to {:.1f} % of the trips in each of eight real months",
    "select count(*) from fct_trips where trip_type_id = -1 and not is_missing_codes":
        "{:,} trips of eight real months lack the trip type alone",
    "select count(*) from trips where miles_per_hour > 100":
        "{:,} trips of eight real months exceed 100",
}  # fmt: skip


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
    with connect_to_schema(target, settings.schema_name) as connection:
        yield connection


@pytest.mark.timeout(600)
def test_the_marts_and_raw_trips_both_give_the_published_figures(
    warehouse: psycopg.Connection, settings: Settings
) -> None:
    # The patterns match every row of both tables; each table has two header lines.
    assert len(ANSWERS) + len(TRIPS_A_DAY) + 4 == len(re.findall(r"^\|", PAGE, re.MULTILINE))
    for query, figure in ANSWERS:
        (answer,) = fetch_one_row(warehouse, query)
        assert round(Decimal(str(answer)), len(figure.partition(".")[2])) == parse_number(figure), query
    # The clocks changed on 10 March.
    for question, mart, raw in answer_questions(warehouse, date(2024, 3, 1), [date(2024, 3, 9), date(2024, 3, 10)]):
        assert mart == raw, question

    query = "select to_char(pickup_month, 'YYYY-MM'), trips_per_day from monthly_summary where is_complete order by 1"
    assert [(month, round(trips, 1)) for month, trips in warehouse.execute(query)] == [
        (month, parse_number(here)) for month, _, here, _ in TRIPS_A_DAY
    ]
    for month, report, here, difference in TRIPS_A_DAY:
        assert round(100 * abs(parse_number(here) / parse_number(report) - 1), 1) == Decimal(difference), month

    descriptions = " ".join(json.dumps(read_manifest(prepared_project(settings))["nodes"]).replace("\\n", " ").split())
    for query, words in DESCRIBED.items():
        assert words.format(*fetch_one_row(warehouse, query)) in descriptions, query
    query = "select count(*) from fct_trips where is_missing_codes is distinct from (payment_type_id = -1)"
    assert fetch_one_row(warehouse, query) == (0,)
    # The basis of reliable_total_share in dbt_project.yml.
    query = "select min(matched_total_share) from vendor_quality where trips >= 10"
    assert fetch_one_row(warehouse, query)[0] >= Decimal("0.994")


def fetch_one_row(connection: psycopg.Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return row


def parse_number(figure: str) -> Decimal:
    return Decimal(figure.replace(",", ""))
