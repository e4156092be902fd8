"""Synthetic months of every era: raw_trips equals the newest file of every month, whatever the order of the loads."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.months import Window
from taxi_orchestration.settings import PostgresTarget, Settings, load_settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.synthetic import SyntheticMonth
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import MARTS, fetch_rows

WINTER = Window(date(2023, 12, 1), date(2024, 5, 1)).months
# The last month of the first era, the first one of the second era, and a month of the third era.
OLD = [date(2023, 1, 1), date(2023, 2, 1)]
NEW = date(2025, 1, 1)
REISSUED = date(2024, 3, 1)

# Row counts and amounts to the cent: of the files, of facts with rejected trips, and of the marts.
RAW = """
    select source_month, count(*), round(sum(total_amount)::numeric * 100)::bigint
    from raw_trips group by 1 order by 1
"""
BOTH = """
    select source_month, count(*), (sum(total_amount) * 100)::bigint
    from (
        select source_month, total_amount from fct_trips
        union all select source_month, total_amount from rejected_trips
    ) as trips
    group by 1 order by 1
"""
FACTS = "select count(*), sum(total_amount) from fct_trips"
DAILY = "select sum(trips), sum(total_amount) from daily_zone_activity"
MONTHLY = "select sum(trips), sum(total_amount) from monthly_revenue"


def fetch(query: str) -> list[tuple[Any, ...]]:
    warehouse = open_warehouse(load_settings())
    return fetch_rows(warehouse.target, warehouse.schema, query)


def assert_exact(published: Iterable[tuple[date, SyntheticMonth]]) -> None:
    expected = [(month, m.rows, m.total_cents) for month, m in sorted(published)]
    assert fetch(RAW) == expected
    assert fetch(BOTH) == expected
    assert fetch(FACTS) == fetch(DAILY) == fetch(MONTHLY)


def fetch_marts() -> list[list[tuple[Any, ...]]]:
    return [fetch(f"select * from {name} order by {name}::text") for name in MARTS]


def test_every_order_and_repetition_of_loads_ends_with_exactly_the_newest_files(
    tlc: TlcHost, direct_backfill: Backfill, settings: Settings, target: PostgresTarget
) -> None:
    published = {month: tlc.publish(month, rows=300 + month.month, seed=1) for month in WINTER}
    assert direct_backfill.run(WINTER).succeeded
    assert_exact(published.items())
    in_order = fetch_marts()

    # Files have pickups of other months: a delete by the month of the pickup would lose or duplicate rows.
    (outside,) = fetch(f"select count(*) from raw_trips where date_trunc('month', {DATASET.pickup}) <> source_month")
    assert outside[0] > 10

    assert Backfill(**{**vars(direct_backfill), "newest_first": True}).run(WINTER).succeeded
    assert fetch_marts() == in_order
    tlc.publish(REISSUED, rows=303, seed=1, resaved=True)
    assert direct_backfill.run([REISSUED]).succeeded
    assert fetch_marts() == in_order

    published[REISSUED] = tlc.publish(REISSUED, rows=100, seed=2)
    assert direct_backfill.run([REISSUED]).succeeded
    assert_exact(published.items())
    statuses = month_statuses(
        Warehouse(target, settings.schema_name), direct_backfill.instance, Window(WINTER[0], date(2024, 5, 1))
    )
    assert all(status.is_exact and status.state == "completed" for status in statuses.values())


def test_months_of_all_eras_can_be_loaded_in_any_order(tlc: TlcHost, direct_backfill: Backfill) -> None:
    published = {month: tlc.publish(month, rows=400) for month in [NEW, *OLD]}
    assert len({DATASET.era_of(month) for month in published}) == len(DATASET.eras)
    assert direct_backfill.run([NEW]).succeeded
    assert direct_backfill.run(OLD).succeeded
    assert_exact(published.items())
    charged = dict(fetch("select source_month, count(cbd_congestion_fee) from raw_trips group by 1"))
    assert charged[NEW] > 0
    assert sum(charged.values()) == charged[NEW]
