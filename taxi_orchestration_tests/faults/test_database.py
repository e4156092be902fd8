"""Database faults and interference of other sessions: bounded waits, errors with a next step, no partial changes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult
from psycopg import sql

from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.loading import Loader, Progress
from taxi_orchestration.months import Window
from taxi_orchestration.postgres.connection import WarehouseError, WarehouseUnavailableError
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.clusters import can_mount, running_cluster, small_disk
from taxi_orchestration_tests.support.daemon import Daemon, clock_at
from taxi_orchestration_tests.support.interference import is_waiting_for_lock, table_lock
from taxi_orchestration_tests.support.keys import RAW_TRIPS, TABLES
from taxi_orchestration_tests.support.months import (
    FEBRUARY,
    JANUARY,
    MARCH,
    MonthContent,
    content_of_file,
    contents_of_schema,
)
from taxi_orchestration_tests.support.stages import CallAtStage
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.waiting import until


@pytest.fixture
def before(loader: Loader, tlc: TlcHost) -> MonthContent:
    """The content of January, which is loaded; a re-issued file of January is published."""
    data = tlc.publish(JANUARY).path.read_bytes()
    loader.load_month(JANUARY)
    tlc.publish(JANUARY, rows=300, seed=1)
    return content_of_file(data)


@pytest.fixture
def execute(target: PostgresTarget, settings: Settings) -> Iterator[Callable[[str], object]]:
    """A function that executes a statement on a table of the schema; `{}` stands for the schema."""
    with psycopg.connect(target.url(), autocommit=True) as connection:
        yield lambda text: connection.execute(sql.SQL(text).format(sql.Identifier(settings.schema_name)))


def cut_connections(target: PostgresTarget, schema: str) -> None:
    with psycopg.connect(target.url()) as connection:
        connection.execute(
            """
            select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid() and application_name <> 'other_session'
              and query ilike %s
            """,
            [f'%"{schema}"%'],
        )


def make_loader(loader: Loader, target: PostgresTarget) -> Loader:
    """Return a copy of the loader that connects to another target."""
    return replace(loader, warehouse=replace(loader.warehouse, target=target))


def test_a_connection_cut_during_a_copy_leaves_the_month_as_it_was(
    loader: Loader, before: MonthContent, target: PostgresTarget, settings: Settings
) -> None:
    with pytest.raises(WarehouseUnavailableError, match="Loading 2024-01"):
        loader.load_month(
            JANUARY, progress=CallAtStage("copied", lambda: cut_connections(target, settings.schema_name))
        )
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: before}
    assert loader.load_month(JANUARY).rows_before == 200


def test_a_load_whose_connection_is_cut_is_retried_by_its_run(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    loader: Loader,
) -> None:
    warnings: list[str] = []

    class RecordingProgress(Progress):
        def warned(self, text: str) -> None:
            warnings.append(text)

    data = tlc.publish(JANUARY).path.read_bytes()
    daemon = Daemon(build_definitions(settings, progress=RecordingProgress()), instance, clock_at(2024, 6, 1))
    results: list[ExecuteInProcessResult] = []
    with table_lock(target, settings.schema_name, "raw_loads"):
        thread = threading.Thread(target=lambda: results.append(daemon.execute("2024-01", [RAW_TRIPS])))
        thread.start()
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "raw_loads"))
        cut_connections(target, settings.schema_name)
    thread.join()
    (result,) = results
    assert result.success
    assert [event.step_key for event in result.all_events if event.is_step_up_for_retry] == ["raw_trips"]
    assert [text for text in warnings if text.startswith("2024-01 is loaded again in a moment. Loading 2024-01")]
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(data)}


def test_connections_cut_while_dbt_runs_are_reopened_and_models_are_exact(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    definitions: Definitions,
    backfill: Callable[..., int],
) -> None:
    tlc.publish(JANUARY)
    assert backfill("2024-01", "2024-01") == 0
    tlc.publish(JANUARY, rows=300, seed=1)
    codes: list[int] = []
    with table_lock(target, settings.schema_name, "fct_trips"):
        thread = threading.Thread(
            target=lambda: codes.append(backfill("2024-01", "2024-01", "--reprocess", "completed"))
        )
        thread.start()
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "fct_trips"))
        cut_connections(target, settings.schema_name)
    thread.join()
    status = month_statuses(Warehouse(target, settings.schema_name), instance, Window(JANUARY, FEBRUARY))[JANUARY]
    assert (codes, status.state, status.fact_rows + status.rejected_rows) == ([0], "completed", 300)
    # The step that runs dbt was retried, and each model is recorded once.
    entries = instance.all_logs(instance.get_runs(limit=1)[0].run_id)
    events = [event for entry in entries if (event := entry.dagster_event)]
    (retry,) = [event.step_retry_data for event in events if event.is_step_up_for_retry]
    assert "dbt failed for a temporary reason, such as a lost connection, and is retried: " in str(retry.error)
    assert "fct_trips" in str(retry.error)
    models = Daemon(definitions, instance, clock_at(2024, 6, 1)).models
    made = sorted((event.asset_key, event.partition) for event in events if event.is_step_materialization)
    assert made == [(key, "2024-01") for key in models]


def test_a_dbt_build_waits_for_the_lock_of_another_session_and_then_names_it(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
) -> None:
    definitions = build_definitions(settings.model_copy(update={"taxi_lock_timeout": "500ms"}))
    daemon = Daemon(definitions, instance, clock_at(2024, 6, 1))
    tlc.publish(JANUARY)
    assert daemon.execute("2024-01", TABLES).success
    with table_lock(target, settings.schema_name, "rejected_trips") as other_session:
        result = daemon.execute("2024-01", TABLES)
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        reason = failure.step_failure_data.error_display_string
        assert "rejected_trips" in reason
        assert f"process {other_session.info.backend_pid} of {target.user} (other_session)" in reason
    assert daemon.execute("2024-01", TABLES).success


def test_a_lock_that_is_released_in_time_only_delays_the_load(
    loader: Loader, before: MonthContent, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    with table_lock(target, settings.schema_name, "raw_trips_2024_01"):
        thread = threading.Thread(target=loader.load_month, args=[JANUARY])
        thread.start()
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "raw_trips_2024_01"))
    thread.join()
    assert len(contents_of_schema(target, settings.schema_name)[JANUARY].rows) == 300


@pytest.mark.skipif(not can_mount(), reason="a small file system needs the right to mount")
def test_a_full_disk_leaves_the_month_as_it_was_and_the_error_names_it(loader: Loader, tlc: TlcHost) -> None:
    data = tlc.publish(JANUARY).path.read_bytes()
    with small_disk(10) as disk, running_cluster() as target:
        with psycopg.connect(target.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("create tablespace small location {}").format(sql.Literal(str(disk))))
            connection.execute("alter database postgres set default_tablespace = small")
        create_raw_tables(Warehouse(target, "taxi"))
        on_small_disk = replace(loader, warehouse=Warehouse(target, "taxi"))
        on_small_disk.load_month(JANUARY)
        tlc.publish(JANUARY, rows=100_000, seed=1)
        with pytest.raises(WarehouseUnavailableError, match="disk is full"):
            on_small_disk.load_month(JANUARY)
        assert contents_of_schema(target, "taxi") == {JANUARY: content_of_file(data)}


def test_a_role_that_is_read_only_by_default_is_an_error_that_says_so(
    loader: Loader, before: MonthContent, target: PostgresTarget, settings: Settings
) -> None:
    with psycopg.connect(target.url(), autocommit=True) as connection:
        connection.execute("create role reader_only login superuser password 'x'")
        connection.execute("alter role reader_only set default_transaction_read_only = on")
    try:
        with pytest.raises(WarehouseError, match="read-only by default"):
            make_loader(loader, replace(target, user="reader_only", password="x")).load_month(JANUARY)
    finally:
        with psycopg.connect(target.url(), autocommit=True) as connection:
            connection.execute("drop role reader_only")
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: before}


def test_an_unreachable_server_is_an_error_that_names_the_variables(loader: Loader) -> None:
    with pytest.raises(WarehouseUnavailableError, match="PG_HOST"):
        make_loader(loader, replace(loader.warehouse.target, port=9)).load_zones()


def test_the_error_of_a_role_without_privileges_names_the_missing_privilege(
    loader: Loader, before: MonthContent, target: PostgresTarget, settings: Settings
) -> None:
    with psycopg.connect(target.url(), autocommit=True) as connection:
        connection.execute("create role nobody_special login password 'x'")
    try:
        with pytest.raises(WarehouseError, match="owner of the schema"):
            make_loader(loader, replace(target, user="nobody_special", password="x")).load_month(JANUARY)
    finally:
        with psycopg.connect(target.url(), autocommit=True) as connection:
            connection.execute("drop role nobody_special")
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: before}


def test_a_schema_dropped_during_a_load_is_an_error_and_the_next_run_recreates_it(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    execute: Callable[[str], object],
    loader: Loader,
    backfill: Callable[..., int],
) -> None:
    def fetch_states() -> list[str]:
        statuses = month_statuses(Warehouse(target, settings.schema_name), instance, Window(JANUARY, MARCH))
        return [status.state for status in statuses.values()]

    data = {month: tlc.publish(month, seed=month.month).path.read_bytes() for month in (JANUARY, FEBRUARY)}
    expected = {month: content_of_file(file) for month, file in data.items()}
    with pytest.raises(WarehouseError, match="dropped meanwhile"):
        loader.load_month(JANUARY, progress=CallAtStage("opened", lambda: execute("drop schema {} cascade")))
    assert backfill("2024-01", "2024-01") == 0
    execute("drop schema {} cascade")
    # Dagster still has a record of the dropped month, but the status follows the database.
    assert fetch_states() == ["missing", "missing"]
    assert backfill("2024-01", "2024-02") == 0
    assert contents_of_schema(target, settings.schema_name) == expected
    # Rows that are deleted by hand from raw_trips or from a model are detected and restored.
    execute("delete from {}.raw_trips where source_month = '2024-01-01' and source_row < 50")
    execute("delete from {}.fct_trips where source_month = '2024-02-01' and source_row < 50")
    assert fetch_states() == ["unfinished", "unfinished"]
    assert backfill("2024-01", "2024-02") == 0
    assert fetch_states() == ["completed", "completed"]
    assert contents_of_schema(target, settings.schema_name) == expected


ALTERED = {
    "the type of a column": ("alter table {}.raw_trips alter column fare_amount type numeric", "fare_amount should be"),
    "a column dropped": ("alter table {}.raw_trips drop column fare_amount", "fare_amount should be"),
    "a month detached": ("alter table {0}.raw_trips detach partition {0}.raw_trips_2024_01", "is not a partition"),
    "a constraint added": ("alter table {}.raw_trips add check (fare_amount < 10) not valid", "violates check"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_a_table_altered_by_hand_is_refused_and_the_error_names_the_change(
    what: str,
    loader: Loader,
    before: MonthContent,
    target: PostgresTarget,
    settings: Settings,
    execute: Callable[[str], object],
) -> None:
    statement, message = ALTERED[what]
    execute(statement)
    with psycopg.connect(target.url()) as connection:
        table = sql.Identifier(settings.schema_name, "raw_trips_2024_01")
        rows = connection.execute(sql.SQL("select count(*) from {}").format(table)).fetchone()
    with pytest.raises(WarehouseError, match=message):
        loader.load_month(JANUARY)
    with psycopg.connect(target.url()) as connection:
        assert connection.execute(sql.SQL("select count(*) from {}").format(table)).fetchone() == rows == (200,)


def test_a_month_whose_partition_was_dropped_by_hand_is_loaded_again(
    loader: Loader, before: MonthContent, target: PostgresTarget, settings: Settings, execute: Callable[[str], object]
) -> None:
    execute("drop table {}.raw_trips_2024_01")
    loader.load_month(JANUARY)
    assert len(contents_of_schema(target, settings.schema_name)[JANUARY].rows) == 300


def test_a_server_that_crashes_during_a_copy_keeps_the_month_as_it_was(tlc: TlcHost, loader: Loader) -> None:
    data = tlc.publish(JANUARY).path.read_bytes()
    with running_cluster() as target:
        create_raw_tables(Warehouse(target, "taxi"))
        own_loader = replace(loader, warehouse=Warehouse(target, "taxi"))
        own_loader.load_month(JANUARY)
        tlc.publish(JANUARY, rows=300, seed=1)

        def crash() -> None:
            # If one of its processes crashes, the server ends all sessions at once and replays its write-ahead log.
            with psycopg.connect(target.url(), autocommit=True) as connection:
                row = connection.execute(
                    "select pid from pg_stat_activity where application_name = 'taxi' and state = 'active'"
                ).fetchone()
            assert row
            os.kill(row[0], signal.SIGKILL)

        with pytest.raises(WarehouseUnavailableError):
            own_loader.load_month(JANUARY, progress=CallAtStage("copied", crash))

        def is_back() -> bool:
            try:
                return contents_of_schema(target, "taxi") == {JANUARY: content_of_file(data)}
            except psycopg.OperationalError:
                return False

        until(is_back)
