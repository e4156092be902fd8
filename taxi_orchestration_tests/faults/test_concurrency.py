"""Concurrent loads and readers: a reader sees a complete old or new month, and the loads end with the newest file."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from email.utils import formatdate
from functools import partial

import psycopg
import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance, Definitions
from psycopg import sql

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs import dbt_step
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.schedules import MONTHLY_SCHEDULE
from taxi_orchestration.instance.dagster_names import LAUNCHED_BY
from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.instance.run_tags import REQUESTED_BY, TLC_PUBLICATIONS
from taxi_orchestration.instance.status import MonthStatus
from taxi_orchestration.loading import Loader, Progress
from taxi_orchestration.months import Window, next_month
from taxi_orchestration.settings import (
    DBT_PROJECT_DIRECTORY,
    PROJECT_DIRECTORY,
    PostgresTarget,
    Settings,
    load_settings,
)
from taxi_orchestration.tlc.client import TlcClient
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse
from taxi_orchestration_tests.support.daemon import Daemon, clock_at, list_materialized, schedule_tick
from taxi_orchestration_tests.support.http_host import ok
from taxi_orchestration_tests.support.interference import is_waiting_for_lock, table_lock
from taxi_orchestration_tests.support.keys import TABLES
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, content_of_file, contents_of_schema
from taxi_orchestration_tests.support.parquet_files import file_version
from taxi_orchestration_tests.support.programs import Programs
from taxi_orchestration_tests.support.stages import CallAtStage
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost, month_path
from taxi_orchestration_tests.support.waiting import until

YEAR = Window(JANUARY, date(2025, 1, 1)).months


def load_in_process(url: str, warehouse: Warehouse, scratch: object, month: date) -> None:
    Loader(TlcClient(url), warehouse, scratch).load_month(month)  # type: ignore[arg-type]


def execute_request(environment: dict[str, str], partition_key: str, tags: dict[str, str]) -> None:
    """Execute a run request of a schedule or sensor as the daemon does, but without the run queue."""
    os.environ.update(environment)
    with open_instance() as opened:
        build_definitions(load_settings()).resolve_job_def(TAXI_PIPELINE).execute_in_process(
            instance=opened, partition_key=partition_key, tags=tags
        )


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["taxi_orchestration.loading", "dbt.cli.main", __name__])


def test_a_month_that_eight_processes_load_at_once_is_stored_once(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    data = tlc.publish(JANUARY).path.read_bytes()
    arguments = (tlc.url, loader.warehouse, loader.scratch, JANUARY)
    processes = [FORKS.Process(target=load_in_process, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(data)}


def test_eight_threads_that_create_the_raw_tables_at_once_all_succeed(
    target: PostgresTarget, settings: Settings
) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: create_raw_tables(Warehouse(target, settings.schema_name)), range(8)))
    assert contents_of_schema(target, settings.schema_name) == {}


def test_twelve_months_loaded_at_once_are_all_exact(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    data = {month: tlc.publish(month, rows=100 + month.month).path.read_bytes() for month in YEAR}
    assert not [outcome for _, outcome in loader.load_months(YEAR, at_once=12) if isinstance(outcome, Exception)]
    assert contents_of_schema(target, settings.schema_name) == {
        month: content_of_file(file) for month, file in data.items()
    }


def test_months_with_a_new_column_loaded_at_once_keep_it_and_do_not_deadlock(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    # The first six loads, which run at once, are of every kind: first or again, with the new column or without it.
    again = [month for month in YEAR if month.month % 4 in (1, 2)]
    for month in again:
        tlc.publish_bytes(month, file_version(month, 1))
    list(loader.load_months(again, at_once=6))
    for month in YEAR:
        tlc.publish_bytes(month, file_version(month, 3 if month.month % 2 else 2))
    assert not [outcome for _, outcome in loader.load_months(YEAR, at_once=6) if isinstance(outcome, Exception)]
    found = contents_of_schema(target, settings.schema_name)
    assert found == {month: content_of_file(file_version(month, 3 if month.month % 2 else 2)) for month in YEAR}


def test_a_concurrent_reader_always_sees_the_complete_old_or_the_complete_new_month(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    first = tlc.publish(JANUARY, rows=5000)
    loader.load_month(JANUARY)
    allowed = {content_of_file(first.path.read_bytes()).sha256: first.rows}
    done = threading.Event()
    seen: set[tuple[str, int, int, int, int]] = set()

    def read_repeatedly() -> None:
        query = sql.SQL(
            "select (select sha256 from {loads}), (select rows from {loads}),"
            " count(*), max(source_row), count(distinct source_row) from {trips}"
        ).format(
            loads=sql.Identifier(settings.schema_name, "raw_loads"),
            trips=sql.Identifier(settings.schema_name, "raw_trips"),
        )
        with psycopg.connect(target.url(), autocommit=True) as connection:
            while not done.is_set():
                row = connection.execute(query).fetchone()
                assert row
                seen.add(row)

    with ThreadPoolExecutor(1) as threads:
        reader = threads.submit(read_repeatedly)
        for seed in range(1, 9):
            file = tlc.publish(JANUARY, rows=5000 + seed, seed=seed)
            allowed[content_of_file(file.path.read_bytes()).sha256] = file.rows
            loader.load_month(JANUARY)
        done.set()
        reader.result()
    assert len(seen) > 2
    assert all(set(numbers) == {allowed[sha256]} for sha256, *numbers in seen)


@contextmanager
def slow_reader(target: PostgresTarget, schema: str) -> Iterator[int]:
    """Keep a transaction open that has read every relation, for the duration of the block; yield its process ID."""
    with psycopg.connect(target.url(), application_name="slow reader") as connection:
        tables = connection.execute(
            "select tablename from pg_tables where schemaname = %s union all"
            " select viewname from pg_views where schemaname = %s",
            [schema] * 2,
        ).fetchall()
        for (name,) in tables:
            connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, name)))
        yield connection.info.backend_pid
        connection.rollback()


def test_an_open_transaction_of_a_reader_delays_only_a_changed_view_for_a_moment(
    loader: Loader,
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    definitions: Definitions,
) -> None:
    settings = settings.model_copy(update={"taxi_lock_timeout": "2s"})  # a longer wait is an error
    loader, definitions = replace(loader, warehouse=open_warehouse(settings)), build_definitions(settings)
    backfill = Backfill(definitions, instance, months_at_once=2)
    tlc.publish(JANUARY)
    assert backfill.run([JANUARY]).succeeded
    with slow_reader(target, settings.schema_name) as reader:
        tlc.publish(FEBRUARY, seed=2)
        tlc.publish(JANUARY, seed=1)
        began = time.monotonic()
        loader.load_month(FEBRUARY)
        loader.load_month(JANUARY)
        assert time.monotonic() - began < 5
        assert backfill.run([JANUARY, FEBRUARY]).succeeded

        # A record without a code version, as if the code of the view had changed since.
        instance.report_runless_asset_event(AssetMaterialization("trips"))
        build_month = partial(
            definitions.resolve_job_def(TAXI_PIPELINE).execute_in_process,
            instance=instance,
            partition_key="2024-01",
            asset_selection=[AssetKey("trip_quality")],
            raise_on_error=False,
        )
        began = time.monotonic()
        refused = build_month()
        assert time.monotonic() - began < 30
        (failure,) = [event for event in refused.all_events if event.is_step_failure]
        reason = failure.step_failure_data.error_display_string
        assert "trips: Database Error in model trips" in reason
        assert f"process {reader} of {target.user} (slow reader)" in reason
        assert "End that session, then run it again." in reason
    assert build_month().success


def test_pipelines_of_two_students_run_at_once_in_one_database_independently(
    tlc: TlcHost,
    target: PostgresTarget,
    instance: DagsterInstance,
    programs: Programs,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tlc.publish(JANUARY).path.read_bytes()
    monkeypatch.delenv("PG_SCHEMA")
    students = ("ada", "grace")
    with psycopg.connect(target.url(), autocommit=True) as connection:
        try:
            started = []
            for student in students:
                monkeypatch.setenv("DAGSTER_STUDENT", student)
                started.append(programs.taxi("backfill", "2024-01", "2024-01"))
            outputs = [program.communicate(timeout=240)[0] for program in started]
            assert [program.returncode for program in started] == [0, 0], "\n".join(outputs)
            for student in students:
                assert contents_of_schema(target, f"dagster_{student}") == {JANUARY: content_of_file(data)}
                query = sql.SQL("select fact_trips + rejected_trips from {} where raw_trips > 0")
                view = sql.Identifier(f"dagster_{student}", "trip_quality")
                assert connection.execute(query.format(view)).fetchall() == [(200,)]
            # Both students share one instance, but have separate asset keys and separate pools.
            for student in students:
                assert instance.get_materialized_partitions(AssetKeys(student).fct_trips) == {"2024-01"}
            assert not instance.get_materialized_partitions(AssetKeys().fct_trips)
            assert instance.event_log_storage.get_concurrency_keys() == {"dbt_ada", "dbt_grace"}
        finally:
            for student in students:
                schema = sql.Identifier(f"dagster_{student}")
                connection.execute(sql.SQL("drop schema if exists {} cascade").format(schema))


def test_loads_into_two_schemas_of_one_database_are_independent(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    other_schema = f"{settings.schema_name}_other"
    other_loader = replace(loader, warehouse=Warehouse(target, other_schema))
    create_raw_tables(other_loader.warehouse)
    try:
        data = tlc.publish(JANUARY).path.read_bytes()
        loaders = [loader, other_loader] * 3
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda one: one.load_month(JANUARY), loaders))
        newer = tlc.publish(JANUARY, seed=1).path.read_bytes()
        other_loader.load_month(JANUARY)
        assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(data)}
        assert contents_of_schema(target, other_schema) == {JANUARY: content_of_file(newer)}
    finally:
        with psycopg.connect(target.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(other_schema)))


def test_a_load_that_is_overtaken_by_one_of_a_newer_file_keeps_the_newer_file(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    tlc.publish(JANUARY)
    newer: list[bytes] = []

    def overtake() -> None:
        newer.append(tlc.publish(JANUARY, seed=1).path.read_bytes())
        loader.load_month(JANUARY)

    load = loader.load_month(JANUARY, progress=CallAtStage("opened", overtake))
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(newer[0])}
    assert load.file.sha256 == loaded_files(Warehouse(target, settings.schema_name))[JANUARY].sha256


def test_a_reissue_that_the_tlc_reverts_is_replaced_by_the_file_before_it(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    first = tlc.publish(JANUARY).path.read_bytes()
    tlc.publish(JANUARY, seed=1)
    loader.load_month(JANUARY)
    tlc.http.on(month_path(JANUARY), ok(first, Last_Modified=formatdate(1_600_000_000, usegmt=True)))
    loader.load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(first)}


def test_a_month_replaced_during_or_after_its_build_is_unfinished_until_built_again(
    loader: Loader,
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    backfill: Callable[..., int],
) -> None:
    tlc.publish(JANUARY)
    assert backfill("2024-01", "2024-01") == 0
    codes: list[int] = []
    with table_lock(target, settings.schema_name, "rejected_trips"):
        thread = threading.Thread(
            target=lambda: codes.append(backfill("2024-01", "2024-01", "--reprocess", "completed"))
        )
        thread.start()
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "rejected_trips"))
        tlc.publish(JANUARY, rows=250, seed=1)
        loader.load_month(JANUARY)
    thread.join()
    # The facts are of the new file, but Dagster has a record of the old file only: the month is unfinished.
    status = fetch_status(JANUARY, target, settings, instance)
    assert status.fact_rows + status.rejected_rows == 250
    assert status.state == "unfinished"
    assert backfill("2024-01", "2024-01") == 0
    assert fetch_status(JANUARY, target, settings, instance).state == "completed"
    # Another file with as many rows.
    tlc.publish(JANUARY, rows=250, seed=2)
    loader.load_month(JANUARY)
    status = fetch_status(JANUARY, target, settings, instance)
    assert (status.state, status.raw_rows, status.fact_rows + status.rejected_rows) == ("unfinished", 250, 250)


def test_a_month_that_is_replaced_during_every_build_is_not_reported_as_built(
    loader: Loader,
    tlc: TlcHost,
    instance: DagsterInstance,
    definitions: Definitions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tlc.publish(JANUARY)
    invoke = dbt_step.invoke_dbt

    def load_and_invoke(*args: object, **kwargs: object) -> object:
        loader.load_month(JANUARY)
        return invoke(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(dbt_step, "invoke_dbt", load_and_invoke)
    result = Daemon(definitions, instance, clock_at(2024, 6, 1)).execute("2024-01", TABLES)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "were replaced during each of" in failure.step_failure_data.error_display_string
    assert list_materialized(result) == ["raw_trips", "raw_zone_shapes", "raw_zones"]


@pytest.mark.timeout(600)
def test_ui_schedule_sensor_and_command_at_once_give_the_same_result(
    tlc: TlcHost,
    loader: Loader,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    programs: Programs,
    backfill: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT_DIRECTORY))
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    # January is re-issued and February published: on 20 April the schedule and the sensor request both.
    data = {month: tlc.publish(month, seed=month.month).path.read_bytes() for month in (JANUARY, FEBRUARY)}
    clock = clock_at(2024, 4, 20)
    definitions = build_definitions(settings, clock=clock)
    by_sensor = Daemon(definitions, instance, clock).tick().requests
    by_schedule = schedule_tick(definitions, instance, clock.now()).run_requests
    requested = [sorted(str(request.partition_key) for request in some) for some in (by_schedule, by_sensor)]
    assert requested == [["2024-01", "2024-02"]] * 2

    job = ["-m", "dagster", "job", "execute", "-m", "taxi_orchestration.definitions", "-j", "taxi_pipeline"]
    started = [
        programs.taxi("backfill", "2024-01", "2024-02", "--reprocess", "completed"),
        programs.start(sys.executable, *job, "--tags", '{"dagster/partition": "2024-02"}'),
    ]
    # The command, the schedule and the sensor load January; the command and the UI load February.
    runs = [
        FORKS.Process(target=execute_request, args=(dict(os.environ), str(request.partition_key), request.tags))
        for request in (*by_schedule, *by_sensor)
        if request.partition_key == "2024-01"
    ]
    for run in runs:
        run.start()
    outputs = [program.communicate(timeout=240)[0] for program in started]
    assert [program.returncode for program in started] == [0, 0], "\n".join(outputs)
    for run in runs:
        run.join(240)
    assert [run.exitcode for run in runs] == [0, 0]
    assert contents_of_schema(target, settings.schema_name) == {
        month: content_of_file(file) for month, file in data.items()
    }
    requesters = {
        run.tags.get(REQUESTED_BY) or run.tags.get(LAUNCHED_BY, "a person in the UI") for run in instance.get_runs()
    }
    assert requesters == {"taxi backfill", "a person in the UI", MONTHLY_SCHEDULE, TLC_PUBLICATIONS}
    assert backfill("2024-01", "2024-02") == 0
    for month in data:
        status = fetch_status(month, target, settings, instance)
        assert (status.state, status.fact_rows + status.rejected_rows) == ("completed", 200)


def fetch_status(month: date, target: PostgresTarget, settings: Settings, instance: DagsterInstance) -> MonthStatus:
    return month_statuses(Warehouse(target, settings.schema_name), instance, Window(month, next_month(month)))[month]


def test_manual_dbt_builds_need_no_loaded_month_and_wait_for_each_other(
    tlc: TlcHost, loader: Loader, programs: Programs, target: PostgresTarget, settings: Settings
) -> None:
    def is_waiting() -> bool:
        with psycopg.connect(target.url()) as connection:
            row = connection.execute(
                "select exists (select from pg_stat_activity where wait_event = 'advisory' and datname = %s)",
                [target.dbname],
            ).fetchone()
        return bool(row and row[0])

    in_empty_database = programs.taxi("dbt", "build", "--exclude-resource-type", "unit_test")
    output, _ = in_empty_database.communicate()
    assert in_empty_database.returncode == 0, output
    with psycopg.connect(target.url()) as connection:
        relations = connection.execute(
            "select relname from pg_class where relnamespace = to_regnamespace(%s) and relkind in ('r', 'p', 'v')",
            [settings.schema_name],
        ).fetchall()
    models = [*DBT_PROJECT_DIRECTORY.glob("models/**/*.sql"), *DBT_PROJECT_DIRECTORY.glob("seeds/*.csv")]
    assert {path.stem for path in models} < {name for (name,) in relations}
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    run = ("dbt", "run", "--select", "fct_trips")
    with table_lock(target, settings.schema_name, "fct_trips"):
        first = programs.taxi(*run)
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "fct_trips"))
        second = programs.taxi(*run)
        until(is_waiting)
    for program in (first, second):
        output, _ = program.communicate()
        assert program.returncode == 0, output
    assert f"Another dbt build runs in schema {settings.schema_name}" in output


def test_a_backfill_reports_that_it_waits_for_the_models_of_another_run(
    tlc: TlcHost, instance: DagsterInstance, definitions: Definitions
) -> None:
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("dbt")
    assert storage.claim_concurrency_slot("dbt", "another run", "dbt_models").is_claimed
    reported = []

    class Waiting(Progress):
        def warned(self, text: str) -> None:
            reported.append(text)
            storage.free_concurrency_slots_for_run("another run")

    tlc.publish(JANUARY)
    assert Backfill(definitions, instance, months_at_once=1, progress=Waiting()).run([JANUARY]).succeeded
    assert reported == [
        "Another run builds the models. This one waits until it ends. If its machine or container is gone, "
        "terminate it: make dev, Runs, Terminate."
    ]


def test_the_dbt_pool_that_another_run_has_just_created_is_used_unchanged(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    assert [storage.initialize_concurrency_limit_to_default("dbt") for _ in range(2)] == [True, True]
    assert [(pool.name, pool.limit) for pool in storage.get_pool_limits()] == [("dbt", 1)]
