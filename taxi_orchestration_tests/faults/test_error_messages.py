"""Messages of expected faults: one message without a traceback, in the shell and in the Dagster run."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from dagster import DagsterInstance
from psycopg import sql

from taxi_orchestration import settings as settings_module
from taxi_orchestration.cli.commands import main
from taxi_orchestration.cli.programs import program_command
from taxi_orchestration.loading import Loader
from taxi_orchestration.postgres import postmaster
from taxi_orchestration.postgres.connection import (
    WarehouseError,
    WarehouseUnavailableError,
    advice_on_text,
    connect,
    lock_advice,
    translate_errors,
)
from taxi_orchestration.postgres.server import remove, stop
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings, SettingsError, read_dotenv
from taxi_orchestration.tlc.client import TlcClient
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.interference import is_waiting_for_lock, table_lock
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.programs import TAXI, taxi
from taxi_orchestration_tests.support.stages import CallAtStage
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.waiting import until
from taxi_orchestration_tests.support.warehouses import point_at, storage_database

(DAGSTER,) = program_command("dagster")


@pytest.fixture
def execute(target: PostgresTarget, settings: Settings) -> Iterator[Callable[[str], object]]:
    """A function that executes a statement as the superuser; `{}` stands for the test's schema."""
    with psycopg.connect(target.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(settings.schema_name)))
        yield lambda text: connection.execute(sql.SQL(text).format(sql.Identifier(settings.schema_name)))


@pytest.fixture
def role(target: PostgresTarget, settings: Settings, execute: Callable[[str], object]) -> Iterator[PostgresTarget]:
    """A new role that may create tables in the test's schema."""
    name = f"role_{os.getpid()}"
    with psycopg.connect(target.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'x'").format(sql.Identifier(name)))
        grant = sql.SQL("grant usage, create on schema {} to {}")
        connection.execute(grant.format(sql.Identifier(settings.schema_name), sql.Identifier(name)))
        yield replace(target, user=name, password="x")
        connection.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


# Foreign objects with the name of a table of the project


FOREIGN = {
    "a table of another shape": ("create table {}.%s (id integer, note text)", "is a table"),
    "a view": ("create view {}.%s as select 1 as id", "is a view"),
    "a materialized view": ("create materialized view {}.%s as select 1 as id", "is a materialized view"),
    "a sequence": ("create sequence {}.%s", "is a sequence"),
    "a type": ("create type {}.%s as enum ('a')", "is a type"),
    "a composite type": ("create type {}.%s as (id integer)", "is a composite type"),
}


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("name", ["raw_trips", "raw_loads", "raw_zones", "raw_zone_shapes"])
def test_a_raw_table_whose_name_is_taken_is_refused_before_anything_is_created(
    name: str, what: str, target: PostgresTarget, settings: Settings, execute: Callable[[str], object]
) -> None:
    statement, words = FOREIGN[what]
    execute(statement % name)
    with pytest.raises(WarehouseError, match=f"{settings.schema_name}.{name} {words}") as raised:
        create_raw_tables(Warehouse(target, settings.schema_name))
    assert f"belongs to {target.user}" in str(raised.value)
    assert "Nothing was changed" in str(raised.value)
    # The SQL in the advice works without changes.
    advice = str(raised.value).partition("rename it (")[2].partition(")")[0]
    execute(advice)
    create_raw_tables(Warehouse(target, settings.schema_name))


@pytest.mark.parametrize("what", ["a table of another shape", "a view", "a type"])
def test_a_model_whose_name_is_taken_is_refused_by_the_run_and_by_taxi(
    what: str,
    tlc: TlcHost,
    settings: Settings,
    execute: Callable[[str], object],
    instance: DagsterInstance,
    backfill: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    statement, words = FOREIGN[what]
    execute(statement % "dim_zones")
    tlc.publish(JANUARY)
    assert backfill("2024-01", "2024-01") == 1
    message = " ".join(capfd.readouterr().err.split())
    assert f"{settings.schema_name}.dim_zones {words} that belongs to" in message
    assert "Traceback" not in message
    assert "dagster._core" not in message
    assert execute("select to_regclass('{}.fct_trips')").fetchone() == (None,)  # type: ignore[attr-defined]


def test_a_raw_table_with_fewer_columns_of_another_version_is_accepted(
    target: PostgresTarget, settings: Settings, execute: Callable[[str], object]
) -> None:
    create_raw_tables(Warehouse(target, settings.schema_name))
    execute("alter table {}.raw_trips drop column fare_amount")
    execute("alter table {}.raw_loads drop column etag")
    create_raw_tables(Warehouse(target, settings.schema_name))


def test_a_table_that_another_role_owns_is_refused_and_the_error_names_the_owner(
    target: PostgresTarget, role: PostgresTarget, settings: Settings
) -> None:
    create_raw_tables(Warehouse(target, settings.schema_name))
    with pytest.raises(WarehouseError, match=f"belongs to {target.user}, and {role.user} may not change it"):
        create_raw_tables(Warehouse(role, settings.schema_name))


def test_reading_a_raw_loads_table_of_another_application_is_an_error(
    target: PostgresTarget, settings: Settings, execute: Callable[[str], object]
) -> None:
    execute("create table {}.raw_loads (id integer)")
    with pytest.raises(WarehouseError, match="raw_loads is a table that belongs to"):
        loaded_files(Warehouse(target, settings.schema_name))


# Timeouts of the server


LIMITS = ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_load_ended_by_a_server_timeout_names_the_timeout_and_how_to_change_it(
    limit: str, tlc: TlcHost, role: PostgresTarget, settings: Settings, tmp_path: Path
) -> None:
    tlc.publish(JANUARY)
    create_raw_tables(Warehouse(role, settings.schema_name))
    with psycopg.connect(role.url(), autocommit=True) as connection, TlcClient(tlc.url) as client:
        loader = Loader(client, Warehouse(role, settings.schema_name), tmp_path)
        connection.execute(sql.SQL("alter role current_user set {} = '300ms'").format(sql.SQL(limit)))
        # During the pause the server receives nothing: a COPY continues, and a transaction is idle.
        stage = "opened" if limit == "idle_in_transaction_session_timeout" else "copied"
        with pytest.raises(WarehouseError, match=f"The server's {limit} ended it") as raised:
            pause_in(loader, stage)
        assert not isinstance(raised.value, WarehouseUnavailableError)
        statement = str(raised.value).partition("this role (")[2].partition(")")[0]
        connection.execute(statement)
        pause_in(loader, stage)


def pause_in(loader: Loader, stage: str) -> None:
    """Pause for 0.7 s in the COPY of January (`copied`), or in a transaction between two statements."""
    if stage == "copied":
        loader.load_month(JANUARY, progress=CallAtStage("copied", lambda: time.sleep(0.7)))
        return
    with translate_errors("Waiting", loader.warehouse.target), connect(loader.warehouse.target) as connection:
        connection.execute("select 1")
        time.sleep(0.7)
        connection.execute("select 1")


def test_a_statement_that_another_session_canceled_is_not_reported_as_a_timeout(
    target: PostgresTarget, settings: Settings
) -> None:
    with pytest.raises(WarehouseError, match="Another session canceled the statement"):
        sleep_until_canceled(target)


def sleep_until_canceled(target: PostgresTarget) -> None:
    with translate_errors("Waiting", target), connect(target) as connection:
        threading.Timer(0.3, cancel, [target, connection.info.backend_pid]).start()
        connection.execute("select pg_sleep(30)")


def cancel(target: PostgresTarget, pid: int) -> None:
    with psycopg.connect(target.url()) as connection:
        connection.execute("select pg_cancel_backend(%s)", [pid])


@pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
def test_the_error_of_dbt_names_a_server_timeout_in_any_language(
    limit: str, role: PostgresTarget, settings: Settings
) -> None:
    with psycopg.connect(role.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("alter role current_user set {} = '2s'").format(sql.SQL(limit)))
    text = "storniere Anfrage wegen Zeitüberschreitung der Anfrage"
    assert f"The server's {limit} ended it" in str(advice_on_text(text, 2.1, role))
    assert advice_on_text("division by zero", 0.1, role) is None


def test_a_run_whose_model_is_ended_by_statement_timeout_names_the_timeout(
    tlc: TlcHost,
    role: PostgresTarget,
    target: PostgresTarget,
    settings: Settings,
    instance: DagsterInstance,
    backfill: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    tlc.publish(JANUARY)
    point_at(role, monkeypatch)
    assert backfill("2024-01", "2024-01") == 0
    capfd.readouterr()
    with psycopg.connect(role.url(), autocommit=True) as connection:
        connection.execute("alter role current_user set statement_timeout = '3s'")
    with table_lock(target, settings.schema_name, "fct_trips"):
        assert backfill("2024-01", "2024-01", "--reprocess", "completed") == 1
    message = " ".join(capfd.readouterr().err.split())
    assert "The server's statement_timeout ended it. Disable that for this role (alter role" in message
    assert "Traceback" not in message


# Locks of other sessions


def test_a_running_query_that_blocks_a_lock_is_named(target: PostgresTarget, settings: Settings) -> None:
    create_raw_tables(Warehouse(target, settings.schema_name))
    raw_trips, hasty = sql.Identifier(settings.schema_name, "raw_trips"), replace(target, lock_timeout="200ms")
    with (
        psycopg.connect(target.url(), autocommit=True, application_name="analyst") as analyst,
        ThreadPoolExecutor(1) as pool,
    ):
        pid = analyst.info.backend_pid
        query = pool.submit(analyst.execute, sql.SQL("select pg_sleep(30), count(*) from {}").format(raw_trips))
        try:
            until(lambda: is_locked(target, raw_trips))
            with pytest.raises(WarehouseError) as raised:
                lock_exclusively(hasty, raw_trips)
        finally:
            analyst.cancel_safe()
        assert isinstance(query.exception(), psycopg.errors.QueryCanceled)
    assert f"process {pid} of {target.user} (analyst), in 'select pg_sleep(30)" in str(raised.value)
    assert str(raised.value).endswith("End that session, then run it again.")


def is_locked(target: PostgresTarget, table: sql.Identifier) -> bool:
    """Return whether a session has a lock on a table."""
    query = "select exists (select from pg_locks where granted and relation = to_regclass(%s))"
    with psycopg.connect(target.url()) as connection:
        return connection.execute(query, [table.as_string()]).fetchone() == (True,)


def lock_exclusively(target: PostgresTarget, table: sql.Identifier) -> None:
    with translate_errors("Locking", target), connect(target) as connection:
        connection.execute(sql.SQL("lock table {} in access exclusive mode").format(table))


def test_a_role_that_is_no_superuser_is_given_the_name_of_the_holder_of_a_lock(
    target: PostgresTarget, role: PostgresTarget, settings: Settings
) -> None:
    create_raw_tables(Warehouse(role, settings.schema_name))
    with table_lock(target, settings.schema_name, "raw_trips") as lock:
        advice = lock_advice(role)
        assert f"process {lock.info.backend_pid} of {target.user} (other_session)" in advice


def test_a_lock_that_nobody_holds_any_more_names_no_session_to_end(target: PostgresTarget) -> None:
    unused = replace(target, dbname="postgres")
    assert lock_advice(unused) == "Another session held the lock and has released it since. Run it again."


# Shared memory of the server's processes


def run_unshared(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Return the result of a shell script, run as root in a new mount namespace, which ends with the script."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def can_unshare() -> bool:
    """Return whether this account may mount in a new namespace, which some containers forbid even root."""
    try:
        return os.geteuid() == 0 and run_unshared("mount -t tmpfs tmpfs /dev/shm").returncode == 0
    except FileNotFoundError:
        return False


needs_unshare = pytest.mark.skipif(
    not can_unshare(), reason="a separate /dev/shm needs root with the right to mount, and unshare (Debian: util-linux)"
)


@needs_unshare
@pytest.mark.parametrize("options", ["ro", "size=4k"])
@pytest.mark.parametrize("when", ["initdb", "start"])
def test_an_embedded_server_without_space_in_dev_shm_names_dev_shm(when: str, options: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    try:
        if when == "start":
            taxi("url", TAXI_HOME=str(home))
            taxi("stop", TAXI_HOME=str(home))
        mount = f"mount -t tmpfs -o {options},mode=1777 tmpfs /dev/shm"
        done = run_unshared(f'{mount}; exec "$1" url', TAXI, TAXI_HOME=str(home))
        if done.returncode == 0 and (when, options) == ("initdb", "ro"):
            pytest.skip("initdb chose another kind of shared memory")
        assert done.returncode == 2, done.stderr
        assert "/dev/shm, through which PostgreSQL's processes share memory, is full, too small" in done.stderr
        assert "Free some space on the disk" not in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        remove(home)


PARALLEL = """
from taxi_orchestration.postgres.connection import connect, translate_errors
from taxi_orchestration_tests.support.clusters import running_cluster

with running_cluster(settings={"dynamic_shared_memory_type": "posix"}) as target:
    with translate_errors("Counting", target), connect(target) as connection:
        connection.execute("create table numbers as select generate_series(1, 500000) as n")
        connection.execute("analyze numbers")
        for name in ("min_parallel_table_scan_size", "parallel_setup_cost", "parallel_tuple_cost"):
            connection.execute("select set_config(%s, '0', false)", [name])
        connection.execute("set enable_mergejoin = off")
        connection.execute("select count(*) from numbers a join numbers b using (n)")
"""


@needs_unshare
def test_a_parallel_query_without_space_in_dev_shm_names_dev_shm_and_not_the_disk() -> None:
    done = run_unshared('mount -t tmpfs -o size=3m tmpfs /dev/shm; exec "$1" -c "$2"', sys.executable, PARALLEL)
    assert "disk is full" not in done.stderr
    assert "WarehouseUnavailableError" in done.stderr, done.stderr
    assert "/dev/shm, through which PostgreSQL's processes share memory, is full, too small" in done.stderr
    assert 'alter role "postgres" in database "postgres" set max_parallel_workers_per_gather = 0' in done.stderr


# Dagster's home and storage, and .env


@pytest.fixture
def poor_storage(target: PostgresTarget) -> Iterator[str]:
    """The URL of a database whose role may not create tables."""
    name = f"poor_{os.getpid()}"
    name_ = sql.Identifier(name)
    with psycopg.connect(target.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(name_))
        connection.execute(sql.SQL("create role {} login password 's3cret'").format(name_))
        yield replace(target, user=name, password="s3cret", dbname=name).url()
        connection.execute(sql.SQL("drop database {} with (force)").format(name_))
        connection.execute(sql.SQL("drop role {}").format(name_))


def dagster_dev(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DAGSTER, "dev", "--port", "0"],
        cwd=PROJECT_DIRECTORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_error_of_a_storage_role_that_may_not_create_tables_names_the_grant(
    environment: dict[str, str], poor_storage: str
) -> None:
    for done in (taxi("status", DAGSTER_POSTGRES_URL=poor_storage), dagster_dev(DAGSTER_POSTGRES_URL=poor_storage)):
        message = " ".join(done.stderr.split())
        assert done.returncode in (1, 2), message
        assert "permission denied for schema public. The role" in message
        assert "create database dagster owner" in message
        assert "Traceback" not in message
        assert "CREATE TABLE" not in message
        assert "s3cret" not in message


def test_a_dagster_storage_that_is_lost_during_a_backfill_is_one_error_message(
    instance: DagsterInstance, server: PostgresTarget, target: PostgresTarget, settings: Settings, tlc: TlcHost
) -> None:
    tlc.publish(JANUARY)
    create_raw_tables(Warehouse(target, settings.schema_name))
    storage = storage_database()
    allow = sql.SQL("alter database {} allow_connections {}")
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(server.url(), autocommit=True) as administrator,
        table_lock(target, settings.schema_name, "raw_loads") as lock,
    ):
        backfill = pool.submit(taxi, "backfill", "2024-01")
        until(lambda: is_waiting_for_lock(target, settings.schema_name, "raw_loads"))
        administrator.execute(allow.format(sql.Identifier(storage), sql.Literal(False)))
        administrator.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [storage])
        lock.rollback()
        done = backfill.result()
        administrator.execute(allow.format(sql.Identifier(storage), sql.Literal(True)))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "Retrying" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("taxi: Dagster's storage failed: ")
    assert last.endswith("Run the same command again when it works; it skips what is done.")


HOMES = {
    "relative": ("dagster_home", "is not an absolute path"),
    "missing": ("{}/missing", "is no directory"),
    "a file": ("{}/file", "is no directory"),
    "without a dagster.yaml": ("{}/empty", "has no dagster.yaml"),
    "with a broken dagster.yaml": ("{}/broken", "dagster.yaml cannot be used"),
}


@pytest.mark.parametrize("kind", HOMES)
def test_a_dagster_home_that_cannot_be_used_is_an_error_that_says_what_to_set(
    kind: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "dagster.yaml").write_text("storage: [")
    value, words = HOMES[kind]
    done = taxi("status", DAGSTER_HOME=value.format(tmp_path))
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if kind != "with a broken dagster.yaml":
        # `make dev` prints the same error, because Dagster itself would end with a traceback.
        dev = taxi("dev", "--port", str(postmaster.free_port()), DAGSTER_HOME=value.format(tmp_path))
        assert (dev.returncode, dev.stderr) == (2, done.stderr)


def test_dagster_dev_in_a_home_without_a_dagster_yaml_loads_no_definitions(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from taxi_orchestration.definitions import defs

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")
    with pytest.raises(SettingsError, match=r"has no dagster\.yaml"):
        defs()


DOTENVS = {
    "in UTF-16 with a byte order mark": ("PG_SCHEMA=x\n".encode("utf-16"), "is in UTF-16, as PowerShell's > writes it"),
    "in UTF-16 without a byte order mark": (
        "PG_SCHEMA=x\n".encode("utf-16-le"),
        "is in UTF-16, as PowerShell's > writes it",
    ),
    "in Latin-1": (b"PG_SCHEMA=\xe9\n", "is not in UTF-8"),
}


@pytest.mark.parametrize("kind", DOTENVS)
def test_a_dotenv_that_is_not_in_utf_8_is_an_error_that_says_how_to_save_it(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, words = DOTENVS[kind]
    monkeypatch.setattr(settings_module, "PROJECT_DIRECTORY", tmp_path)
    (tmp_path / ".env").write_bytes(content)
    done = CliRunner().invoke(main, ["url"])
    assert done.exit_code == 2
    assert f"taxi: {tmp_path / '.env'} {words}: save it as UTF-8" in done.stderr


def test_a_dotenv_with_the_byte_order_mark_of_utf_8_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings_module, "PROJECT_DIRECTORY", tmp_path)
    monkeypatch.setenv("PG_SCHEMA", "of_the_shell")
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfPG_SCHEMA=of_the_file\n")
    read_dotenv()
    assert os.environ["PG_SCHEMA"] == "of_the_file"


# Shutdown of `dagster dev`


SHUTS_DOWN = re.compile(rb"(\d\d:\d\d:\d\d) .*(?:shutting down daemon threads|Daemon threads shut down)")


@pytest.mark.timeout(400)
def test_dagster_dev_exits_soon_even_if_its_embedded_server_was_stopped(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [DAGSTER, "dev", "--port", str(postmaster.free_port())],
            cwd=PROJECT_DIRECTORY,
            env={**os.environ, "TAXI_HOME": str(home), "DAGSTER_STUDENT": "words"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: b"following daemons" in log.read_bytes() and b"Serving" in log.read_bytes(), 200)
        assert stop(home)
        # Wait until the threads of the daemon have lost the server and retry.
        until(lambda: b"Retrying failed database connection" in log.read_bytes(), 60)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        # Only this part of the shutdown waits for the server; the rest depends on the load of the machine.
        began, ended = (datetime.strptime(t.decode(), "%H:%M:%S") for t in SHUTS_DOWN.findall(log.read_bytes()))
        assert (ended - began) % timedelta(days=1) <= timedelta(seconds=8)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        remove(home)
