"""Edge cases of calendar and clock: the ends of months and years, and the repeated hour in November."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from dagster import DagsterInstance, Definitions

from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.schedules import MONTHLY_SCHEDULE
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.loading import Loader
from taxi_orchestration.months import MonthError, Window, newest_month, parse_month, partition_key
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.daemon import Daemon, FakeClock, schedule_tick
from taxi_orchestration_tests.support.months import content_of_file, contents_of_schema
from taxi_orchestration_tests.support.parquet_files import file_of
from taxi_orchestration_tests.support.synthetic import month_table
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import fetch_rows

NOVEMBER = date(2024, 11, 1)


@pytest.mark.parametrize(
    ("now", "newest"),
    [
        ("2024-01-31T23:59:59.999999", "2023-11"),
        ("2024-02-01T00:00:00", "2023-11"),
        ("2024-02-14T23:59:59", "2023-11"),
        ("2024-02-15T00:00:00", "2023-12"),
        ("2024-12-31T23:59:59", "2024-10"),
        ("2025-01-01T00:00:00", "2024-10"),
    ],
)
def test_at_the_end_of_a_month_or_year_the_newest_month_is_one_that_can_be_published(now: str, newest: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert partition_key(newest_month(moment)) == newest
    assert monthly_partitions().get_partition_keys(moment)[-1] == newest
    assert partition_key(parse_month(newest, moment)) == newest
    with pytest.raises(MonthError, match="cannot be published yet"):
        parse_month(moment.strftime("%Y-%m"), moment)


def test_the_schedule_requests_each_month_once_over_new_year_and_the_repeated_hour(
    tlc: TlcHost, loader: Loader, definitions: Definitions, instance: DagsterInstance
) -> None:
    for month in Window(date(2024, 8, 1), date(2025, 2, 1)).months:
        tlc.publish(month)
    # UTC has no repeated hour, so the end of daylight saving time adds no tick.
    assert definitions.get_repository_def().get_schedule_def(MONTHLY_SCHEDULE).execution_timezone == "UTC"
    ticks = [datetime(2024, 11, 1, 6, tzinfo=UTC), datetime(2024, 12, 1, 6, tzinfo=UTC)]
    ticks += [datetime(2025, 1, 1, 6, tzinfo=UTC), datetime(2025, 2, 1, 6, tzinfo=UTC)]
    requested = [
        request.partition_key for tick in ticks for request in schedule_tick(definitions, instance, tick).run_requests
    ]
    assert requested == ["2024-08", "2024-09", "2024-10", "2024-11"]


def test_the_sensor_requests_december_from_the_moment_it_can_be_published(
    tlc: TlcHost, loader: Loader, settings: Settings, instance: DagsterInstance
) -> None:
    tlc.publish(NOVEMBER)
    loader.load_month(NOVEMBER)
    tlc.publish(date(2024, 12, 1))
    clock = FakeClock(datetime(2025, 2, 14, 23, 59, 59, 999_999, tzinfo=UTC))
    daemon = Daemon(build_definitions(settings, clock=clock), instance, clock)
    assert daemon.tick().months == []
    clock.forward(microseconds=1)
    assert daemon.tick().months == ["2024-12"]


def test_trips_of_new_year_and_of_the_repeated_hour_are_kept_on_the_day_they_began(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: object,
    backfill: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A session in the time zone in which the hour is repeated.
    monkeypatch.setenv("PGTZ", "America/New_York")
    repeated = [
        ("2024-11-03 01:30:00", "2024-11-03 01:45:00"),
        ("2024-11-03 01:30:00", "2024-11-03 01:45:00"),
        # The trip ended in the second of the two hours: in local time before it began.
        ("2024-11-03 01:50:00", "2024-11-03 01:05:00"),
        ("2024-11-03 02:30:00", "2024-11-03 02:45:00"),
    ]
    december, january = date(2024, 12, 1), date(2025, 1, 1)
    across = make_trips(december, [("2024-12-31 23:59:59", "2025-01-01 00:20:00")])
    first = make_trips(january, [("2025-01-01 00:00:00", "2025-01-01 00:10:00")])
    # A trip of the old year in the file of the new year.
    late = make_trips(january, [("2024-12-31 23:30:00", "2025-01-01 00:10:00")])
    files = {
        NOVEMBER: file_of(make_trips(NOVEMBER, repeated)),
        december: file_of(across),
        january: file_of(pa.concat_tables([first, late, month_table(january, 50)])),
    }
    for month, data in files.items():
        tlc.publish_bytes(month, data)
    assert backfill("2024-11", "2025-01") == 0
    assert contents_of_schema(target, settings.schema_name) == {m: content_of_file(data) for m, data in files.items()}
    days = fetch_rows(
        target,
        settings.schema_name,
        "select source_month, pickup_date from fct_trips "
        "where source_month >= '2024-12-01' and source_row <= 2 order by source_month, source_row",
    )
    assert days == [(december, date(2024, 12, 31)), (january, january), (january, date(2024, 12, 31))]
    of_november = "select pickup_date, pickup_at::text, dropoff_at::text from {} where source_month = '2024-11-01'"
    query = f"{of_november.format('fct_trips')} union all {of_november.format('rejected_trips')} order by 2, 3"
    # In local time the first two trips took 15 or 75 minutes, so their ends are not reliable.
    ends = [None, None, "2024-11-03 01:05:00", "2024-11-03 02:45:00"]
    assert fetch_rows(target, settings.schema_name, query) == [
        (date(2024, 11, 3), began, end) for (began, _), end in zip(sorted(repeated), ends, strict=True)
    ]


def make_trips(month: date, times: list[tuple[str, str]]) -> pa.Table:
    """Return a table of synthetic trips with these times of pickup and dropoff."""
    table = month_table(month, 300).slice(0, len(times))
    for column, moments in zip((DATASET.pickup, DATASET.dropoff), zip(*times, strict=True), strict=True):
        values = pa.array([datetime.fromisoformat(moment) for moment in moments], pa.timestamp("us"))
        table = table.set_column(table.column_names.index(column), column, values)
    return table
