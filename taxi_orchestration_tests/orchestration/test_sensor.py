"""The sensor tlc_publications: its HTTP requests, run requests and messages, with a real warehouse and instance."""

import time
from datetime import date
from typing import Any

import dagster as dg
import pytest
from psycopg import sql

from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.run_requests import request_of
from taxi_orchestration.instance.run_tags import TLC_PUBLICATIONS
from taxi_orchestration.loading import Loader
from taxi_orchestration.months import Window, parse_partition_key, partition_key
from taxi_orchestration.postgres.connection import connect
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.daemon import Daemon, clock_at
from taxi_orchestration_tests.support.http_host import silent, status
from taxi_orchestration_tests.support.keys import RAW_TRIPS, TLC_FILES
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.tlc_host import TlcHost, month_path


@pytest.fixture
def daemon(settings: Settings, instance: dg.DagsterInstance) -> Daemon:
    """A daemon in May 2024, when March can be published."""
    clock = clock_at(2024, 5, 20)
    return Daemon(build_definitions(settings, clock=clock), instance, clock)


def load(loader: Loader, *months: date) -> None:
    for month in months:
        loader.load_month(month)


def test_a_newly_published_month_is_requested_alone_and_only_until_it_is_loaded(
    tlc: TlcHost, loader: Loader, daemon: Daemon
) -> None:
    tlc.publish(JANUARY)
    load(loader, JANUARY)
    assert daemon.tick().months == []
    tlc.publish(FEBRUARY)
    tick = daemon.tick()
    assert tick.months == ["2024-02"]
    assert tick.requests[0].job_name == "taxi_pipeline"
    etag = tick.observed[0].metadata["etag"].value
    assert str(etag).strip('"') in str(tick.requests[0].run_key), (
        "the run key contains the ETag: another file causes another run"
    )
    load(loader, FEBRUARY)
    assert daemon.tick().requests == []


def test_a_month_that_is_published_after_its_successor_is_requested(
    tlc: TlcHost, loader: Loader, daemon: Daemon
) -> None:
    tlc.publish(JANUARY)
    load(loader, JANUARY)
    assert daemon.tick().months == []
    tlc.publish(MARCH)
    assert daemon.tick().months == ["2024-03"]
    load(loader, MARCH)
    assert "Not yet published: 2024-02" in daemon.tick().skip_reason
    tlc.publish(FEBRUARY)
    assert daemon.tick().months == ["2024-02"]


def test_a_month_without_an_answer_is_requested_after_its_successor_is_loaded(
    tlc: TlcHost, loader: Loader, daemon: Daemon
) -> None:
    tlc.publish(JANUARY)
    load(loader, JANUARY)
    tlc.publish(FEBRUARY)
    tlc.publish(MARCH)
    tlc.http.on(month_path(FEBRUARY), status(503), *tlc.http.answers[month_path(FEBRUARY)])
    assert daemon.tick().months == ["2024-03"]
    load(loader, MARCH)
    assert daemon.tick().months == ["2024-02"]


def test_of_more_months_than_a_tick_requests_none_is_forgotten(tlc: TlcHost, loader: Loader, daemon: Daemon) -> None:
    months = Window.through(DATASET.first_month, MARCH).months
    tlc.publish(months[0], rows=10)
    load(loader, months[0])
    for month in months[1:]:
        tlc.publish_bytes(month, b"a file")
    # As a load records a month, without the load.
    record = sql.SQL(
        "insert into {0} select (jsonb_populate_record(known, jsonb_build_object('source_month', %s::date))).* "
        "from {0} as known limit 1"
    ).format(loader.warehouse.identifier("raw_loads"))
    loaded = {months[0]}
    for _ in range(12):
        new = {parse_partition_key(key) for key in daemon.tick().months} - loaded
        with loader.warehouse.connect("Recording months") as connection:
            for month in new:
                connection.execute(record, [month])
        loaded |= new
    assert loaded == set(months)


def test_a_reissued_month_is_requested_unless_it_was_reloaded_manually(
    tlc: TlcHost, loader: Loader, daemon: Daemon
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
        load(loader, month)
    assert daemon.tick().requests == []
    tlc.publish(JANUARY, seed=1)
    tlc.publish(FEBRUARY, seed=1)
    load(loader, FEBRUARY)
    assert daemon.tick().months == ["2024-01"]


def test_the_settings_say_how_many_months_are_watched_for_a_reissue(
    tlc: TlcHost, loader: Loader, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month in (JANUARY, FEBRUARY, MARCH):
        tlc.publish(month)
        load(loader, month)
    assert Settings().taxi_reissue_months == 24
    monkeypatch.setenv("TAXI_REISSUE_MONTHS", "2")
    daemon = Daemon(build_definitions(Settings(), clock=daemon.clock), daemon.instance, daemon.clock)
    for month in (JANUARY, FEBRUARY, MARCH):
        tlc.publish(month, seed=1)
    assert daemon.tick().months == ["2024-02", "2024-03"]
    monkeypatch.setenv("TAXI_REISSUE_MONTHS", "0")
    daemon = Daemon(build_definitions(Settings(), clock=daemon.clock), daemon.instance, daemon.clock)
    assert daemon.tick().skip_reason == "The newest possible month is loaded."


@pytest.mark.parametrize("first", ["sensor tick", "manual load of each month", "manual load of both months"])
def test_the_ui_marks_changed_months_as_stale_after_any_first_observation(
    first: str, tlc: TlcHost, loader: Loader, daemon: Daemon
) -> None:
    # The UI computes the mark "stale" with these classes. Dagster does not export them.
    from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
    from dagster._core.loader import LoadingContextForTest

    def get_status(key: str) -> StaleStatus:
        graph = daemon.definitions.resolve_asset_graph()
        context = LoadingContextForTest(daemon.instance)
        return CachingStaleStatusResolver(daemon.instance, graph, context).get_status(RAW_TRIPS, key)

    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
    if first == "sensor tick":
        daemon.tick()
    if first == "manual load of both months":
        ends = {"dagster/asset_partition_range_start": "2024-01", "dagster/asset_partition_range_end": "2024-02"}
        assert daemon.execute(None, [RAW_TRIPS], tags=ends).success
    else:
        assert all(daemon.execute(key, [RAW_TRIPS]).success for key in ("2024-01", "2024-02"))
    assert [get_status(key) for key in ("2024-01", "2024-02")] == [StaleStatus.FRESH, StaleStatus.FRESH]
    # The sensor now observes the files that were loaded.
    daemon.tick()
    assert [get_status(key) for key in ("2024-01", "2024-02")] == [StaleStatus.FRESH, StaleStatus.FRESH]
    tlc.publish(JANUARY, seed=1)
    daemon.tick()
    assert [get_status(key) for key in ("2024-01", "2024-02")] == [StaleStatus.STALE, StaleStatus.FRESH]
    assert daemon.execute("2024-01", [RAW_TRIPS]).success
    assert get_status("2024-01") is StaleStatus.FRESH


def test_every_tick_has_a_skip_reason_that_lists_the_months(tlc: TlcHost, loader: Loader, daemon: Daemon) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
        load(loader, month)
    assert daemon.tick().skip_reason == "Unchanged: 2024-01 to 2024-02. Not yet published: 2024-03."
    tlc.withdraw(JANUARY)
    assert "2024-01 is no longer published; its loaded rows are kept." in daemon.tick().skip_reason


def test_the_source_is_observed_once_for_each_change(
    tlc: TlcHost, loader: Loader, daemon: Daemon, instance: dg.DagsterInstance
) -> None:
    tlc.publish(JANUARY)
    load(loader, JANUARY)
    observed = {event.partition: event for event in daemon.tick().observed}
    assert set(observed) == {"2024-01", "2024-02", "2024-03"}
    january: dict[str, Any] = {name: value.value for name, value in observed["2024-01"].metadata.items()}
    assert january["published"] is True
    assert january["bytes"] > 0
    assert january["last modified"] > 0
    assert january["etag"].strip('"') == observed["2024-01"].data_version
    assert observed["2024-02"].metadata["published"].value is False
    assert daemon.tick().observed == []
    tlc.publish(JANUARY, seed=1)
    (event,) = daemon.tick().observed
    assert event.data_version != observed["2024-01"].data_version
    assert len(instance.fetch_observations(TLC_FILES, limit=100).records) == 4


def test_with_nothing_loaded_the_sensor_requests_the_newest_published_month(tlc: TlcHost, daemon: Daemon) -> None:
    assert "load one with `taxi backfill`" in daemon.tick().skip_reason
    tlc.publish(JANUARY)
    tlc.publish(FEBRUARY)
    assert daemon.tick().months == ["2024-02"]


def test_a_file_that_fails_is_requested_again_with_growing_pauses_and_a_limit(
    tlc: TlcHost, loader: Loader, daemon: Daemon
) -> None:
    tlc.publish(JANUARY)
    load(loader, JANUARY)
    tlc.publish_bytes(FEBRUARY, b"PAR1 damaged PAR1")
    hours = []
    for hour in range(100):
        tick = daemon.tick()
        for request in tick.requests:
            hours.append(hour)
            assert not daemon.execute("2024-02", selection=[dg.AssetKey("raw_trips")], tags=request.tags).success
        if hour == 2:
            assert "attempt 2 did not load it, the next one is due after" in tick.skip_reason
        daemon.clock.forward(hours=1)
    assert hours == [0, 1, 5, 21, 85]
    assert "was not loaded by 5 attempts" in daemon.tick().skip_reason
    # The failed month is still known after a later month is loaded.
    tlc.publish(MARCH)
    load(loader, MARCH)
    assert daemon.tick().months == []
    tlc.publish(FEBRUARY)
    assert daemon.tick().months == ["2024-02"]


@pytest.mark.parametrize("action", ["delete", "re-execute"])
def test_a_deleted_and_a_reexecuted_run_keep_the_number_of_attempts(
    action: str, tlc: TlcHost, loader: Loader, daemon: Daemon, instance: dg.DagsterInstance
) -> None:
    tlc.publish(JANUARY)
    load(loader, JANUARY)
    tlc.publish_bytes(FEBRUARY, b"PAR1 damaged PAR1")
    runs = []
    for hours in (0, 1):
        daemon.clock.forward(hours=hours)
        (request,) = daemon.tick().requests
        runs.append(daemon.execute("2024-02", [RAW_TRIPS], tags=request.tags))
    if action == "delete":
        instance.delete_run(runs[0].run_id)
    else:
        # A re-execution has the tags of its run.
        daemon.execute("2024-02", [RAW_TRIPS], tags=request.tags)
    daemon.clock.forward(hours=4)
    (request,) = daemon.tick().requests
    assert str(request.run_key).endswith(" 3")


def test_a_month_in_the_range_of_a_queued_run_is_not_requested(
    tlc: TlcHost, loader: Loader, daemon: Daemon, instance: dg.DagsterInstance
) -> None:
    tlc.publish(JANUARY)
    load(loader, JANUARY)
    tlc.publish(FEBRUARY)
    job = daemon.definitions.resolve_job_def("taxi_pipeline")
    tags = {"dagster/asset_partition_range_start": "2024-02", "dagster/asset_partition_range_end": "2024-03"}
    run = instance.create_run_for_job(job, tags=tags)
    tick = daemon.tick()
    assert tick.requests == []
    assert "2024-02 is published; a run of it is queued or in progress." in tick.skip_reason
    instance.delete_run(run.run_id)
    assert daemon.tick().months == ["2024-02"]


def test_a_failing_host_makes_a_tick_skip_with_the_reason_and_never_fail(
    tlc: TlcHost, loader: Loader, daemon: Daemon
) -> None:
    tlc.publish(JANUARY)
    tlc.publish(FEBRUARY)
    load(loader, JANUARY)
    answers = dict(tlc.http.answers)
    for month in (JANUARY, FEBRUARY, MARCH):
        tlc.http.on(month_path(month), status(503))
    assert "Unknown, requested again at the next tick: 2024-01 to 2024-03." in daemon.tick().skip_reason
    assert "503" in daemon.tick().skip_reason
    tlc.http.on(month_path(MARCH), silent(60))
    tlc.http.on(month_path(FEBRUARY), *answers[month_path(FEBRUARY)])
    began = time.monotonic()
    assert daemon.tick().months == ["2024-02"]
    assert time.monotonic() - began < 10


def test_a_month_is_built_again_by_the_sensor_after_its_schema_was_dropped(
    tlc: TlcHost, target: PostgresTarget, daemon: Daemon, settings: Settings
) -> None:
    tlc.publish(JANUARY)
    assert daemon.execute("2024-01").success
    schema = sql.Identifier(settings.schema_name)
    with connect(target) as connection:
        connection.execute(sql.SQL("drop schema {} cascade").format(schema))
    (request,) = daemon.tick().requests
    assert daemon.run(request).success
    with connect(target) as connection:
        trips = sql.Identifier(settings.schema_name, "fct_trips")
        assert connection.execute(sql.SQL("select from {} limit 1").format(trips)).fetchone() == ()


def record_loads(daemon: Daemon, months: list[date]) -> None:
    """Record a run and a materialization for each month, as if the sensor had requested the months."""
    for month in months:
        request = request_of(month, "a file", 1, TLC_PUBLICATIONS, daemon.clock.now())
        tags = {**request.tags, "dagster/partition": partition_key(month)}
        daemon.instance.add_run(dg.DagsterRun(TAXI_PIPELINE, tags=tags, status=dg.DagsterRunStatus.SUCCESS))
        daemon.instance.report_runless_asset_event(dg.AssetMaterialization(RAW_TRIPS, partition=partition_key(month)))


def test_a_tick_over_a_full_history_takes_under_five_seconds_and_thirty_requests(
    tlc: TlcHost, loader: Loader, settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    tlc.publish(JANUARY)
    load(loader, JANUARY)
    with connect(loader.warehouse.target) as connection:
        connection.execute(
            sql.SQL(
                """
                insert into {0}
                    (source_month, url, etag, bytes, sha256, rows, columns, drift, rows_sha256)
                select month::date, url, etag, bytes, sha256, rows, columns, drift, rows_sha256
                from {0}, generate_series(date '2013-08-01', date '2026-02-01', '1 month') as month
                where source_month = '2024-01-01' and month <> source_month
                """
            ).format(sql.Identifier(settings.schema_name, "raw_loads"))
        )
    monkeypatch.setenv("TAXI_REISSUE_MONTHS", "200")
    clock = clock_at(2026, 5, 20)
    daemon = Daemon(build_definitions(Settings(), clock=clock), instance, clock)
    record_loads(daemon, Window(DATASET.first_month, date(2026, 3, 1)).months)
    before = sum(len(seen) for seen in tlc.http.requests.values())
    for _ in range(6):
        began = time.monotonic()
        daemon.tick()
        assert time.monotonic() - began < 5
        after = sum(len(seen) for seen in tlc.http.requests.values())
        assert after - before <= 30
        before = after
    # The cursor must stay small: the UI shows it, and the daemon stores it again at each tick.
    assert len(str(daemon.sensors[TLC_PUBLICATIONS].cursor)) < 30 * 152
    paths = {path for path, seen in tlc.http.requests.items() if any(command == "HEAD" for command, _ in seen)}
    assert len(paths) == 152
    for evaluate in (daemon.watch, daemon.evaluate):
        began = time.monotonic()
        evaluate()
        assert time.monotonic() - began < 5
    assert sum(len(seen) for seen in tlc.http.requests.values()) - before <= 30
