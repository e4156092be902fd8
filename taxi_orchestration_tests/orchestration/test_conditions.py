"""The automation condition of the models: its ticks on a real instance, and the runs that it requests."""

from collections.abc import Callable, Mapping
from datetime import date

import dagster as dg
import pytest

from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.instance.status import MonthStatus
from taxi_orchestration.loading import Loader
from taxi_orchestration.months import Window, newest_month, parse_partition_key, partition_key
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.daemon import Daemon, clock_at, list_materialized
from taxi_orchestration_tests.support.interference import RefuseRows
from taxi_orchestration_tests.support.keys import RAW_TRIPS
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost

# A partitioned check is a preview feature of Dagster. Merging it builds the job again, which repeats a warning.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Specifying a partitions_def on an AssetCheckSpec"),
    pytest.mark.filterwarnings("ignore:Asset job taxi_pipeline materializes assets with varying BackfillPolicies"),
]

Statuses = Callable[[Window], Mapping[date, MonthStatus]]

OLD = date(2013, 9, 1)
APRIL = date(2024, 4, 1)


@pytest.fixture
def failing_months() -> set[str]:
    """The months for which an additional blocking check fails."""
    return set()


@pytest.fixture
def definitions(settings: Settings, failing_months: set[str]) -> dg.Definitions:
    @dg.asset_check(asset=RAW_TRIPS, blocking=True, partitions_def=monthly_partitions())
    def additional_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=context.partition_key not in failing_months)

    return dg.Definitions.merge(build_definitions(settings), dg.Definitions(asset_checks=[additional_check]))


@pytest.fixture
def daemon(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Daemon:
    return Daemon(definitions, instance, clock_at(2024, 6, 20))


@pytest.fixture
def statuses(settings: Settings, target: PostgresTarget, instance: dg.DagsterInstance) -> Statuses:
    return lambda window: month_statuses(Warehouse(target, settings.schema_name), instance, window)


def publish_and_load(tlc: TlcHost, loader: Loader, month: date, seed: int = 0, *, resaved: bool = False) -> None:
    tlc.publish(month, rows=100, seed=seed, resaved=resaved)
    loader.load_month(month)


def test_every_loaded_month_is_built_once_whatever_its_age_and_outcome(
    tlc: TlcHost, loader: Loader, daemon: Daemon, statuses: Statuses, refuse_rows: RefuseRows
) -> None:
    assert daemon.evaluate() == set()

    # These loads record nothing in Dagster. The months: the newest one, two of 2024, and one of 2013.
    latest = partition_key(newest_month(Clock().now()))
    for month in (OLD, JANUARY, FEBRUARY, parse_partition_key(latest)):
        publish_and_load(tlc, loader, month)
    assert daemon.evaluate() == {"2013-09", "2024-01", "2024-02", latest}
    assert daemon.evaluate() == set()
    assert all(result.success for result in daemon.build({"2013-09", "2024-01", "2024-02", latest}))
    assert daemon.evaluate() == set()
    assert all(status.is_exact for status in statuses(Window(JANUARY, MARCH)).values())

    # Another file with the same rows requests no build. A file with other rows requests one.
    publish_and_load(tlc, loader, JANUARY, resaved=True)
    assert daemon.evaluate() == set()
    publish_and_load(tlc, loader, JANUARY, seed=1)
    assert daemon.evaluate() == {"2024-01"}

    # A failed build is not retried by its step and not requested again at every tick, but it is when the rows change.
    with refuse_rows("fct_trips"):
        (failed,) = daemon.build({"2024-01"})
    assert not failed.success
    assert not any(event.is_step_up_for_retry for event in failed.all_events)
    assert not {"fct_trips", "int_monthly_revenue_by_file"}.intersection(list_materialized(failed))
    assert [daemon.evaluate() for _ in range(3)] == [set(), set(), set()]
    publish_and_load(tlc, loader, JANUARY, seed=2)
    assert daemon.evaluate() == {"2024-01"}


def test_a_partly_built_month_is_requested_once_until_all_models_are_built(
    tlc: TlcHost, daemon: Daemon, statuses: Statuses, refuse_rows: RefuseRows
) -> None:
    def get_state() -> str:
        return statuses(Window(JANUARY, FEBRUARY))[JANUARY].state

    tlc.publish(JANUARY, rows=100)
    assert daemon.execute("2024-01").success
    assert get_state() == "completed"
    daemon.evaluate()

    # A model downstream of fct_trips fails.
    tlc.publish(JANUARY, rows=200, seed=1)
    with refuse_rows("int_monthly_revenue_by_file"):
        assert not daemon.execute("2024-01").success
    assert get_state() == "unfinished"
    assert [daemon.evaluate() for _ in range(3)] == [{"2024-01"}, set(), set()]
    assert all(result.success for result in daemon.build({"2024-01"}))
    assert get_state() == "completed"

    # A run builds only some of the models.
    tlc.publish(JANUARY, rows=300, seed=2)
    selected = [dg.AssetKey(name) for name in ("vendor_quality", "int_refunds", "fct_trips", "rejected_trips")]
    assert daemon.execute("2024-01", [RAW_TRIPS, *selected]).success
    assert get_state() == "unfinished"
    assert [daemon.evaluate() for _ in range(3)] == [{"2024-01"}, set(), set()]


def test_a_month_whose_blocking_check_failed_is_not_built_until_it_passes(
    tlc: TlcHost, daemon: Daemon, failing_months: set[str]
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month, rows=100)
    failing_months.add("2024-02")
    assert daemon.execute("2024-01", [RAW_TRIPS]).success
    assert not daemon.execute("2024-02", [RAW_TRIPS]).success
    assert daemon.evaluate() == {"2024-01"}
    assert daemon.evaluate() == set()
    failing_months.clear()
    assert daemon.execute("2024-02", [RAW_TRIPS]).success
    assert daemon.evaluate() == {"2024-02"}
