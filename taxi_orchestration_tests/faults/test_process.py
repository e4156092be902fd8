"""Killed processes: no partial result is visible, and one command restores everything."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest
from dagster import AssetKey, DagsterInstance, DagsterRun, DagsterRunStatus

from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.instance.processes import PROCESS_TAG, fail_orphaned_runs, is_orphaned, this_process
from taxi_orchestration.loading import Loader
from taxi_orchestration.months import Window
from taxi_orchestration.postgres.connection import WarehouseUnavailableError
from taxi_orchestration.postgres.postmaster import has_ended
from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, ensure_running, remove, stop
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.http_host import stalled
from taxi_orchestration_tests.support.interference import find_copy_pid, is_waiting_for_lock, table_lock
from taxi_orchestration_tests.support.jobs import empty_job
from taxi_orchestration_tests.support.keys import PLAIN
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH, content_of_file, contents_of_schema
from taxi_orchestration_tests.support.programs import Programs, kill_9, process_tree
from taxi_orchestration_tests.support.stages import CallAtStage
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost, month_path
from taxi_orchestration_tests.support.waiting import until
from taxi_orchestration_tests.support.warehouses import storage_database

BIG = 400_000


def fetch_states(target: PostgresTarget, settings: Settings, instance: DagsterInstance) -> list[str]:
    found = month_statuses(Warehouse(target, settings.schema_name), instance, Window(JANUARY, MARCH))
    return [status.state for status in found.values()]


def list_runs(instance: DagsterInstance, status: DagsterRunStatus) -> list[str]:
    return [run.run_id for run in instance.get_runs() if run.status is status]


def test_a_backfill_in_a_terminal_is_canceled_from_the_ui(
    tlc: TlcHost, instance: DagsterInstance, programs: Programs
) -> None:
    data = tlc.publish(JANUARY).path.read_bytes()
    tlc.http.on(month_path(JANUARY), stalled(data, len(data) // 2, 60))
    program = programs.taxi("backfill", "2024-01", "2024-02")
    until(lambda: tlc.requests_for(JANUARY))
    (run_id,) = list_runs(instance, DagsterRunStatus.STARTED)
    # The UI's buttons Terminate (for a run) and Cancel (for a backfill) call this method.
    assert instance.run_launcher.terminate(run_id)
    assert program.wait(60) == 130
    assert list_runs(instance, DagsterRunStatus.CANCELED) == [run_id]
    assert "Interrupted in the terminal." not in [entry.message for entry in instance.all_logs(run_id)]
    assert [record.status.value for record in instance.get_backfills()] == ["CANCELED"]


def test_a_backfill_killed_during_a_copy_leaves_the_month_as_it_was(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    loader: Loader,
    programs: Programs,
) -> None:
    before = content_of_file(tlc.publish(JANUARY).path.read_bytes())
    loader.load_month(JANUARY)
    tlc.publish(JANUARY, rows=BIG, seed=1)
    program = programs.taxi("backfill", "2024-01", "2024-01", "--reprocess", "completed")
    until(lambda: find_copy_pid(target, settings.schema_name), pause=0.001)
    kill_9(program.pid)
    program.wait()

    until(lambda: not find_copy_pid(target, settings.schema_name))
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: before}
    assert fetch_states(target, settings, instance)[0] == "unfinished"


def test_a_backfill_killed_just_before_its_commit_leaves_nothing_and_no_lock(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    loader: Loader,
    programs: Programs,
) -> None:
    tlc.publish(JANUARY)
    with table_lock(target, settings.schema_name, "raw_loads"):
        program = programs.taxi("backfill", "2024-01", "2024-01")
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "raw_loads"))
        kill_9(program.pid)
        program.wait()
    # The server process notices the kill only after it gets the lock, and then rolls back.
    assert loader.load_month(JANUARY).rows_before == 0
    assert fetch_states(target, settings, instance)[0] == "unfinished"


def test_a_month_committed_before_dagster_recorded_it_is_unfinished_and_repaired(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    server: PostgresTarget,
    instance: DagsterInstance,
    loader: Loader,
    programs: Programs,
    backfill: Callable[..., int],
) -> None:
    expected = content_of_file(tlc.publish(JANUARY).path.read_bytes())
    storage = replace(server, dbname=storage_database())
    with table_lock(target, settings.schema_name, "raw_loads") as loads_lock:
        program = programs.taxi("backfill", "2024-01", "2024-01")
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "raw_loads"))
        with table_lock(storage, "public", "event_logs") as events_lock:
            loads_lock.rollback()
            until(lambda: loaded_files(Warehouse(target, settings.schema_name)))
            until(lambda: is_waiting_for_lock(storage, "public", "event_logs"))
            kill_9(program.pid)
            program.wait()
            # Otherwise the server would still execute the waiting statement of the killed process.
            events_lock.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: expected}
    assert not instance.fetch_materializations(AssetKey("raw_trips"), limit=1).records
    assert fetch_states(target, settings, instance)[0] == "unfinished"
    assert backfill("2024-01", "2024-01") == 0
    assert fetch_states(target, settings, instance)[0] == "completed"


def test_a_backfill_killed_while_dbt_runs_releases_its_pool_slot(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    programs: Programs,
    backfill: Callable[..., int],
) -> None:
    tlc.publish(JANUARY)
    tlc.publish(FEBRUARY, seed=2)
    assert backfill("2024-01", "2024-01") == 0
    with table_lock(target, settings.schema_name, "fct_trips"):
        program = programs.taxi("backfill", "2024-02", "2024-02")
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "fct_trips"))
        kill_9(program.pid)
        program.wait()
        assert instance.event_log_storage.get_concurrency_info("dbt").active_slot_count == 1
    (dead,) = list_runs(instance, DagsterRunStatus.STARTED)
    assert fetch_states(target, settings, instance) == ["completed", "unfinished"]
    assert backfill("2024-01", "2024-02") == 0
    assert instance.get_run_by_id(dead).status is DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    assert instance.event_log_storage.get_concurrency_info("dbt").active_slot_count == 0
    assert fetch_states(target, settings, instance) == ["completed", "completed"]


def test_a_dry_run_lists_a_month_whose_repeated_load_was_killed(
    tlc: TlcHost,
    instance: DagsterInstance,
    programs: Programs,
    backfill: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    data = tlc.publish(JANUARY).path.read_bytes()
    assert backfill("2024-01") == 0
    tlc.http.on(month_path(JANUARY), stalled(data, len(data) // 2, 60))
    program = programs.taxi("backfill", "2024-01", "--reprocess", "completed")
    until(lambda: tlc.requests_for(JANUARY) == 2)
    kill_9(program.pid)
    program.wait()
    capfd.readouterr()
    assert backfill("2024-01", "--dry-run") == 0
    assert capfd.readouterr().out.splitlines()[0] == "would load 2024-01"


def test_the_embedded_server_stopped_during_a_copy_restarts_with_the_old_month(tlc: TlcHost, loader: Loader) -> None:
    before = content_of_file(tlc.publish(JANUARY).path.read_bytes())
    home = Path(tempfile.mkdtemp(prefix="taxi-stopped-"))
    home.chmod(0o755)
    try:
        target = ensure_running(home).target(WAREHOUSE_DATABASE)
        create_raw_tables(Warehouse(target, "taxi"))
        own_loader = replace(loader, warehouse=Warehouse(target, "taxi"))
        own_loader.load_month(JANUARY)
        after = content_of_file(tlc.publish(JANUARY, rows=300, seed=1).path.read_bytes())
        with pytest.raises(WarehouseUnavailableError):
            own_loader.load_month(JANUARY, progress=CallAtStage("copied", lambda: stop(home, "immediate")))
        assert ensure_running(home).target(WAREHOUSE_DATABASE) == target
        assert contents_of_schema(target, "taxi") == {JANUARY: before}
        own_loader.load_month(JANUARY)
        assert contents_of_schema(target, "taxi") == {JANUARY: after}
    finally:
        remove(home)
        shutil.rmtree(home, ignore_errors=True)


def test_only_runs_whose_process_has_ended_are_reported_as_abandoned(
    instance: DagsterInstance, programs: Programs
) -> None:
    def make_run(**change: Any) -> str:
        run_id = instance.create_run_for_job(empty_job, status=DagsterRunStatus.STARTED).run_id
        instance.add_run_tags(run_id, replace(this_process(run_id), **change).tags())
        return run_id

    own_run, current = make_run(), this_process("")
    another_host, inherited = make_run(host="elsewhere", pid=1), make_run(id="another-run", started=0.0)
    unreadable = make_run()
    instance.add_run_tags(unreadable, {PROCESS_TAG: f"{unreadable} {current.host} {current.pid}"})
    reused = make_run(started=current.started - 3600, uptime=current.uptime - 3600)
    # As after a suspend of the machine and a correction of its clock.
    clock_was_set = make_run(started=current.started - 3600)
    ended = programs.start("true")
    ended.wait()
    gone = make_run(pid=ended.pid)
    # As in a container whose PID 1 does not wait for orphaned processes.
    unreaped = programs.start("sleep", "60")
    created = psutil.Process(unreaped.pid).create_time()
    zombie = make_run(pid=unreaped.pid, started=created, uptime=created - psutil.boot_time())
    assert not is_orphaned(instance.get_run_by_id(zombie))  # type: ignore[arg-type]
    kill_9(unreaped.pid)
    until(lambda: has_ended(unreaped.pid))
    assert psutil.pid_exists(unreaped.pid)

    assert set(fail_orphaned_runs(instance, PLAIN)) == {reused, gone, zombie}
    assert fail_orphaned_runs(instance, PLAIN) == []
    for run_id in (another_host, inherited, own_run, unreadable, clock_was_set):
        assert not is_orphaned(instance.get_run_by_id(run_id))  # type: ignore[arg-type]


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME with the project's dagster.yaml, but with run monitoring every second instead of every 30."""
    text = (PROJECT_DIRECTORY / "dagster.yaml").read_text()
    interval = "poll_interval_seconds: 30"
    assert interval in text
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(text.replace(interval, "poll_interval_seconds: 1"))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home


WORKSPACE = ["-w", str(PROJECT_DIRECTORY / "workspace.yaml")]
DAGSTER = [sys.executable, "-m", "dagster"]
DAEMON = [sys.executable, "-m", "dagster._daemon", "run", *WORKSPACE]


def launch(programs: Programs, month: str) -> None:
    """Submit a run of the pipeline to the run queue, as the UI's button does."""
    tags = json.dumps({"dagster/partition": month})
    program = programs.start(*DAGSTER, "job", "launch", *WORKSPACE, "-j", "taxi_pipeline", "--tags", tags)
    assert program.wait() == 0, program.communicate()[0]


@pytest.mark.timeout(600)
def test_a_run_continues_after_a_killed_daemon_and_fails_with_its_code_server(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    programs: Programs,
    dagster_home: Path,
    backfill: Callable[..., int],
) -> None:
    data = {month: tlc.publish(month, seed=month.month).path.read_bytes() for month in (JANUARY, FEBRUARY)}
    healthy = {month: tlc.http.answers[month_path(month)] for month in data}
    # The host closes the connection in the middle, and the client retries.
    tlc.http.on(month_path(JANUARY), stalled(data[JANUARY], len(data[JANUARY]) // 2, 10), *healthy[JANUARY])
    tlc.http.on(month_path(FEBRUARY), stalled(data[FEBRUARY], len(data[FEBRUARY]) // 2, 600))

    def get_worker_pid(run: DagsterRun | None) -> int | None:
        return int(json.loads(run.tags[PROCESS_TAG])["pid"]) if run and PROCESS_TAG in run.tags else None

    daemon = programs.start(*DAEMON)
    launch(programs, "2024-01")
    until(lambda: tlc.requests_for(JANUARY))
    kill_9(daemon.pid)
    daemon.wait()
    (first,) = instance.get_runs()
    assert first.status is DagsterRunStatus.STARTED
    until(lambda: instance.get_run_by_id(first.run_id).status is DagsterRunStatus.SUCCESS, 120)  # type: ignore[union-attr]

    programs.start(*DAEMON)
    launch(programs, "2024-02")
    until(lambda: tlc.requests_for(FEBRUARY))
    second = instance.get_runs(limit=1)[0]
    worker = get_worker_pid(second)
    assert worker
    code_server = psutil.Process(worker).parent()
    assert code_server
    tlc.http.on(month_path(FEBRUARY), *healthy[FEBRUARY])
    kill_9(code_server.pid)
    kill_9(worker)
    until(lambda: instance.get_run_by_id(second.run_id).status is DagsterRunStatus.FAILURE, 120)  # type: ignore[union-attr]
    assert backfill("2024-01", "2024-02") == 0
    assert contents_of_schema(target, settings.schema_name) == {
        month: content_of_file(file) for month, file in data.items()
    }
    assert fetch_states(target, settings, instance) == ["completed", "completed"]
    assert instance.event_log_storage.get_concurrency_info("dbt").active_slot_count == 0


def test_after_all_processes_are_killed_one_command_recovers_everything(
    tlc: TlcHost, environment: dict[str, str], programs: Programs, monkeypatch: pytest.MonkeyPatch, dagster_home: Path
) -> None:
    home = Path(tempfile.mkdtemp(prefix="taxi-power-"))
    home.chmod(0o755)
    monkeypatch.setenv("TAXI_HOME", str(home))
    data = {month: tlc.publish(month, seed=month.month).path.read_bytes() for month in (JANUARY, FEBRUARY, MARCH)}
    healthy = dict(tlc.http.answers)
    for month in (FEBRUARY, MARCH):
        tlc.http.on(month_path(month), stalled(data[month], len(data[month]) // 2, 600))
    try:
        running = ensure_running(home)
        programs.start(*DAEMON)
        launch(programs, "2024-03")
        programs.taxi("backfill", "2024-01", "2024-02")
        until(lambda: len({path.name[:23] for path in home.glob("download-*/*.part")} & DOWNLOADING) == 2, 120)
        target = running.target(WAREHOUSE_DATABASE)
        until(lambda: loaded_files(Warehouse(target, environment["PG_SCHEMA"])))

        postmaster_pid = int((running.data_directory / "postmaster.pid").read_text().splitlines()[0])
        dying = [p for program in programs.started for p in process_tree(program.pid)] + process_tree(postmaster_pid)
        for process in dying:
            kill_9(process.pid)
        tlc.http.answers.update(healthy)

        again = programs.taxi("backfill", "2024-01", "2024-03")
        assert again.wait() == 0, again.communicate()[0]
        with open_instance() as instance:
            assert contents_of_schema(target, environment["PG_SCHEMA"]) == {
                m: content_of_file(file) for m, file in data.items()
            }
            found = month_statuses(
                Warehouse(target, environment["PG_SCHEMA"]), instance, Window(JANUARY, date(2024, 4, 1))
            )
            assert [status.state for status in found.values()] == ["completed"] * 3
            ended = [run.status for run in instance.get_runs()]
            assert set(ended) == {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE}
            assert ended.count(DagsterRunStatus.FAILURE) == 2
            # Newest first. No daemon ran any more that could have ended the killed backfill.
            backfills = [record.status.value for record in instance.get_backfills()]
            assert backfills == ["COMPLETED_SUCCESS", "COMPLETED_FAILED"]
            assert instance.event_log_storage.get_concurrency_info("dbt").active_slot_count == 0
        assert not [path for path in home.glob("download-*") if path.exists()]
    finally:
        programs.end()
        remove(home)
        shutil.rmtree(home, ignore_errors=True)


DOWNLOADING = {f"{Path(DATASET.file_name(month)).stem}." for month in (FEBRUARY, MARCH)}
