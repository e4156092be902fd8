"""Real months of the TLC, if they are beside the checkout: row counts, sums to the cent, and published figures."""

import json
import os
import re
import shutil
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import DagsterInstance

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.dbt.runner import prepared_project, read_manifest
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.loading import open_loader
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings, load_settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.tlc.errors import BadFileError
from taxi_orchestration.warehouse.warehouse import open_warehouse
from taxi_orchestration_tests.support.mirror import mirror
from taxi_orchestration_tests.support.questions import answer_questions
from taxi_orchestration_tests.support.warehouses import MARTS, connect_to_schema, fetch_rows

pytestmark = pytest.mark.real_data

WINTER = {
    date(2023, 12, 1): (64_215, Decimal("1557922.15")),
    date(2024, 1, 1): (56_551, Decimal("1266922.59")),
    date(2024, 2, 1): (53_577, Decimal("1212653.08")),
    date(2024, 3, 1): (57_457, Decimal("1316042.93")),
    date(2024, 4, 1): (56_471, Decimal("1319373.05")),
}
OTHERS = {
    date(2022, 1, 1): (62_495, Decimal("1093070.80")),
    date(2022, 2, 1): (69_399, Decimal("1234537.15")),
    date(2025, 1, 1): (48_326, Decimal("1093822.36")),
}
OUTSIDE = {(2022, 1): 4, (2022, 2): 23, (2023, 12): 4, (2024, 1): 2, (2024, 2): 6, (2024, 3): 10, (2024, 4): 4,
           (2025, 1): 43}  # fmt: skip
PAGE = (PROJECT_DIRECTORY / "docs" / "published-figures.md").read_text()
ANSWERS = re.findall(r"^\|[^|]*\|[^|]*\| `(select [^|`]+)` \| ([\d,.]*\d)\b[^|]*\|$", PAGE, re.MULTILINE)
TRIPS_A_DAY = re.findall(r"^\| (\d{4}-\d\d) \| ([\d,]+) \| ([\d,]+\.\d) \| (\d\.\d) % \|$", PAGE, re.MULTILINE)

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

RAW = "select source_month, count(*), sum(total_amount::numeric) from raw_trips group by 1 order by 1"


def assert_published_figures(connection: psycopg.Connection, settings: Settings) -> None:
    """Assert the figures of docs/published-figures.md and of dbt's descriptions, and that marts and raw_trips agree."""
    # The patterns match every row of both tables; each table has two header lines.
    assert len(ANSWERS) + len(TRIPS_A_DAY) + 4 == len(re.findall(r"^\|", PAGE, re.MULTILINE))
    for query, figure in ANSWERS:
        (answer,) = fetch_one_row(connection, query)
        assert round(Decimal(str(answer)), len(figure.partition(".")[2])) == parse_number(figure), query
    # The clocks changed on 10 March.
    for question, mart, raw in answer_questions(connection, date(2024, 3, 1), [date(2024, 3, 9), date(2024, 3, 10)]):
        assert mart == raw, question

    query = "select to_char(pickup_month, 'YYYY-MM'), trips_per_day from monthly_summary where is_complete order by 1"
    assert [(month, round(trips, 1)) for month, trips in connection.execute(query)] == [
        (month, parse_number(here)) for month, _, here, _ in TRIPS_A_DAY
    ]
    for month, report, here, difference in TRIPS_A_DAY:
        assert round(100 * abs(parse_number(here) / parse_number(report) - 1), 1) == Decimal(difference), month

    descriptions = " ".join(json.dumps(read_manifest(prepared_project(settings))["nodes"]).replace("\\n", " ").split())
    for query, words in DESCRIBED.items():
        assert words.format(*fetch_one_row(connection, query)) in descriptions, query
    query = "select count(*) from fct_trips where is_missing_codes is distinct from (payment_type_id = -1)"
    assert fetch_one_row(connection, query) == (0,)
    # The basis of reliable_total_share in dbt_project.yml.
    query = "select min(matched_total_share) from vendor_quality where trips >= 10"
    assert fetch_one_row(connection, query)[0] >= Decimal("0.994")


def fetch_one_row(connection: psycopg.Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return row


def parse_number(figure: str) -> Decimal:
    return Decimal(figure.replace(",", ""))


@pytest.mark.timeout(600)
def test_real_months_are_complete_and_exact_to_the_cent_however_they_are_loaded(
    real_months: Path,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fetch = partial(fetch_rows, target, settings.schema_name)

    def load(url: str, *months: date, newest_first: bool = False) -> None:
        monkeypatch.setenv("TLC_BASE_URL", url)
        definitions = build_definitions(load_settings())
        outcome = Backfill(definitions, instance, os.cpu_count() or 1, newest_first).run(months)
        assert outcome.succeeded, outcome

    def assert_exact(expected: dict[date, tuple[int, Decimal]]) -> None:
        assert fetch(RAW) == [(month, *counts) for month, counts in sorted(expected.items())]
        both = "select source_month, sum(fact_trips + rejected_trips) from trip_quality group by 1 order by 1"
        assert fetch(both) == [(month, count) for month, (count, _) in sorted(expected.items())]
        facts = fetch("select count(*), sum(total_amount) from fct_trips")
        assert facts == fetch("select sum(trips), sum(total_amount) from daily_zone_activity")
        assert facts == fetch("select sum(trips), sum(total_amount) from monthly_revenue")

    def digest_marts() -> list[Any]:
        return [fetch(f"select md5(string_agg(t::text, '' order by t::text)) from {name} as t") for name in MARTS]

    with mirror(real_months) as url:
        load(url, *WINTER)
        assert_exact(WINTER)
        assert fetch("select sum(raw_trips), sum(fact_trips) from trip_quality") == [(288_271, 288_269)]
        first = digest_marts()
        load(url, *WINTER, newest_first=True)
        assert digest_marts() == first

    overlay = tmp_path / "overlay"
    overlay.mkdir()
    shutil.copy(real_months / "reissued" / DATASET.file_name(date(2024, 3, 1)), overlay)
    with mirror(real_months, overlay) as url:
        load(url, date(2024, 3, 1))
        assert_exact(WINTER)
        assert digest_marts() == first

    with mirror(real_months) as url:
        load(url, *sorted(OTHERS, reverse=True))
        assert_exact(WINTER | OTHERS)
    assert fetch("select source_month, count(*) from raw_trips where cbd_congestion_fee is not null group by 1") == [
        (date(2025, 1, 1), 46_490)
    ]
    outside = fetch(
        "select source_month, count(*) from raw_trips "
        f"where date_trunc('month', {DATASET.pickup}) <> source_month group by 1"
    )
    assert {(month.year, month.month): count for month, count in outside} == OUTSIDE
    with connect_to_schema(target, settings.schema_name) as connection:
        assert_published_figures(connection, settings)


def test_a_real_truncated_download_is_refused_and_changes_nothing(
    real_months: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirror(real_months, real_months / "broken") as url:
        monkeypatch.setenv("TLC_BASE_URL", url)
        with open_loader(settings := load_settings(), open_warehouse(settings)) as loader:
            with pytest.raises(BadFileError, match=r"2025-02.*truncated before publication"):
                loader.load_month(date(2025, 2, 1))
            assert list(loader.scratch.iterdir()) == []
