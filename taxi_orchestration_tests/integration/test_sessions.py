"""Changed defaults of the database, the role or the shell: the pipeline produces the same rows."""

import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from dagster import DagsterInstance
from psycopg import sql
from sqlalchemy import NullPool, create_engine, text

from taxi_orchestration.cli.backfill import Backfill, Outcome
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.instance.storage import storage_url
from taxi_orchestration.loading import open_loader
from taxi_orchestration.months import Window
from taxi_orchestration.postgres.connection import WarehouseError, connect
from taxi_orchestration.postgres.server import ensure_running
from taxi_orchestration.settings import PostgresTarget, load_settings
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse
from taxi_orchestration_tests.support.programs import TAXI
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import point_at, storage_database

# Two eras, with a column that only the second has.
MONTHS = [date(2024, 12, 1), date(2025, 1, 1)]
TABLES = ("raw_trips", "fct_trips", "rejected_trips", "daily_zone_activity", "monthly_revenue", "trip_quality")


# Not changed on the database of Dagster's storage, where the setting locates the tables.
NOT_FOR_STORAGE = ("search_path",)


class Default(NamedTuple):
    """A setting, its changed default, and the text of the error if the pipeline cannot run with that default."""

    name: str
    value: str
    error: str | None = None


# A test sets all defaults of a list at once, and one by one if that fails. Three settings have a value in both lists.
DEFAULTS = [
    # The text format of a value.
    Default("datestyle", "SQL, DMY"),
    Default("intervalstyle", "sql_standard"),
    Default("timezone", "Pacific/Chatham"),
    Default("extra_float_digits", "-15"),
    Default("client_encoding", "LATIN1"),
    # The meaning of a statement, or of a name in it.
    Default("search_path", "impostor, pg_catalog"),
    Default("standard_conforming_strings", "off"),
    Default("quote_all_identifiers", "on"),
    # The isolation of a transaction.
    Default("default_transaction_isolation", "serializable"),
]
OTHER_DEFAULTS = [
    # Other values for the same aspects, and the storage of a table.
    Default("datestyle", "German"),
    Default("search_path", "nowhere"),
    Default("transform_null_equals", "on"),
    Default("default_tablespace", "pg_default"),
    Default("default_transaction_isolation", "repeatable read"),
    # The timeouts of a lock and of an idle session.
    Default("lock_timeout", "1ms"),
    Default("idle_session_timeout", "3s"),
]

# Settings on which no result depends.
WITHOUT_CONSEQUENCE = [
    Default("bytea_output", "escape"),
    Default("xmlbinary", "hex"),
    Default("backslash_quote", "off"),
    Default("array_nulls", "off"),
    Default("row_security", "off"),
    Default("check_function_bodies", "off"),
    Default("session_replication_role", "replica"),
    Default("client_min_messages", "debug5"),
    Default("default_transaction_deferrable", "on"),
    Default("synchronous_commit", "off"),
    Default("jit_above_cost", "0"),
    Default("plan_cache_mode", "force_generic_plan"),
    Default("constraint_exclusion", "on"),
    Default("enable_partition_pruning", "off"),
    Default("debug_parallel_query", "regress"),
    Default("work_mem", "64kB"),
]
TRIED = {
    **{"; ".join(f"{name} = {value}" for name, value, _ in tried): tried for tried in (DEFAULTS, OTHER_DEFAULTS)},
    "defaults that change nothing": WITHOUT_CONSEQUENCE,
}

# Defaults with which the pipeline cannot run.
REFUSED = [
    Default("default_transaction_read_only", "on", "default_transaction_read_only"),
    Default("statement_timeout", "1ms", "statement.timeout"),
    Default("transaction_timeout", "1ms", "set transaction_timeout"),
    Default("idle_in_transaction_session_timeout", "1ms", "idle_in_transaction_session_timeout"),
]


@pytest.fixture
def database(server: PostgresTarget, worker_id: str) -> Iterator[PostgresTarget]:
    """A new database, with the same name in every test of a worker, so that the dbt project is parsed once."""
    with temporary_database(server, f"sessions_{worker_id}") as temporary:
        yield temporary


@contextmanager
def temporary_database(server: PostgresTarget, name: str, encoding: str = "UTF8") -> Iterator[PostgresTarget]:
    identifier = sql.Identifier(name)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(identifier))
        connection.execute(
            sql.SQL("create database {} encoding {} template template0 locale_provider libc locale 'C'").format(
                identifier, sql.Literal(encoding)
            )
        )
    yield replace(server, dbname=name)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(identifier))


Pipeline = Callable[[PostgresTarget], Outcome]


@pytest.fixture
def pipeline(
    environment: dict[str, str], tlc: TlcHost, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Pipeline:
    """A function that loads and builds two months at once in a database, and asserts that both are completed."""
    for month in MONTHS:
        tlc.publish(month, rows=150, seed=month.month)

    def run(target: PostgresTarget) -> Outcome:
        point_at(target, monkeypatch)
        settings = load_settings()
        # Opened here, so that its sessions begin after the test has changed the defaults.
        with open_instance() as opened:
            outcome = Backfill(build_definitions(settings), opened, months_at_once=2).run(MONTHS)
            if outcome.succeeded:
                window = Window(MONTHS[0], date(2025, 2, 1))
                statuses = month_statuses(Warehouse(target, settings.schema_name), opened, window)
                assert {status.state for status in statuses.values()} == {"completed"}
                assert all(status.is_exact for status in statuses.values())
        return outcome

    return run


def fetch_contents(target: PostgresTarget, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table as text, from a session whose options override changed defaults."""
    options = f"-c search_path={schema} -c datestyle=ISO -c timezone=UTC -c extra_float_digits=1"
    options += " -c client_encoding=UTF8 -c statement_timeout=0 -c default_transaction_read_only=off"
    with psycopg.connect(target.url(), options=options) as connection:
        return {
            table: connection.execute(
                sql.SQL("select t::text from {} as t order by 1").format(sql.Identifier(table))
            ).fetchall()
            for table in TABLES
        }


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, list[tuple[Any, ...]]]]:
    """A cache of the table contents with PostgreSQL's defaults, filled by the first test of a worker."""
    return {}


@pytest.fixture
def expected_contents(
    expected: dict[str, Any], database: PostgresTarget, environment: dict[str, str], pipeline: Pipeline
) -> dict[str, Any]:
    """The contents of the tables with PostgreSQL's defaults."""
    if not expected:
        assert pipeline(database).succeeded
        expected.update(fetch_contents(database, environment["PG_SCHEMA"]))
        assert len(expected["raw_trips"]) == 300
        with psycopg.connect(database.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(environment["PG_SCHEMA"])))
    return expected


def set_default(default: Default, database: PostgresTarget, environment: dict[str, str]) -> None:
    """Set a default of the warehouse's database and, unless an error is expected, of Dagster's storage."""
    names = [database.dbname]
    if default.error is None and default.name not in NOT_FOR_STORAGE:
        names.append(storage_database())
    value = sql.SQL(", ").join(map(sql.Literal, default.value.split(", ")))
    with psycopg.connect(database.url(), autocommit=True) as connection:
        for name in names:
            connection.execute(
                sql.SQL("alter database {} set {} = {}").format(sql.Identifier(name), sql.SQL(default.name), value)
            )


@pytest.mark.parametrize("defaults", TRIED.values(), ids=TRIED)
def test_defaults_of_the_database_change_no_row(
    defaults: list[Default],
    expected_contents: dict[str, Any],
    pipeline: Pipeline,
    database: PostgresTarget,
    environment: dict[str, str],
) -> None:
    schema = sql.Identifier(environment["PG_SCHEMA"])
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute("create schema impostor")
        # If the search path does not begin with pg_catalog, count() and pg_class resolve to these.
        connection.execute("create function impostor.count(bigint) returns bigint language sql return 7")
        connection.execute("create table impostor.pg_class (oid oid, relname name)")

    def changes_result(*defaults: Default) -> bool:
        names = [database.dbname, storage_database()]
        with psycopg.connect(database.url(), autocommit=True, options="-c search_path=pg_catalog") as connection:
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(schema))
            for name in names:
                connection.execute(sql.SQL("alter database {} reset all").format(sql.Identifier(name)))
        for default in defaults:
            set_default(default, database, environment)
        outcome = pipeline(database)
        return not outcome.succeeded or fetch_contents(database, environment["PG_SCHEMA"]) != expected_contents

    if changes_result(*defaults):
        assert [default for default in defaults if changes_result(default)] == []
        raise AssertionError("all defaults together change the result, but none of them alone")


@pytest.mark.parametrize("default", REFUSED, ids=lambda default: f"{default.name} = {default.value}")
def test_a_default_that_the_pipeline_cannot_run_with_is_named_by_the_error(
    default: Default,
    tlc: TlcHost,
    database: PostgresTarget,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tlc.publish(MONTHS[0])
    set_default(default, database, environment)
    point_at(database, monkeypatch)
    with (
        pytest.raises(WarehouseError, match=default.error),
        open_loader(settings := load_settings(), open_warehouse(settings)) as loader,
    ):
        # A pause between two statements may be shorter than 1 ms, but not in each of 100 loads.
        deque((loader.load_month(MONTHS[0]) for _ in range(100)), maxlen=0)


def test_a_database_in_sql_ascii_gets_the_same_rows_as_any_other(
    expected_contents: dict[str, Any],
    pipeline: Pipeline,
    server: PostgresTarget,
    environment: dict[str, str],
    worker_id: str,
) -> None:
    # The same name as that of `database`, so that the dbt project is not parsed again.
    with temporary_database(server, f"sessions_{worker_id}", "SQL_ASCII") as database:
        assert pipeline(database).succeeded
        assert fetch_contents(database, environment["PG_SCHEMA"]) == expected_contents


# The libpq variables of a shell that is set up for another server.
OTHER_SERVER = {
    "PGAPPNAME": "other",
    "PGCHANNELBINDING": "require",
    "PGCLIENTENCODING": "nonsense",
    "PGCONNECT_TIMEOUT": "nonsense",
    "PGDATABASE": "other",
    "PGDATESTYLE": "nonsense",
    "PGGEQO": "nonsense",
    "PGGSSDELEGATION": "1",
    "PGGSSENCMODE": "require",
    "PGGSSLIB": "nonsense",
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGKRBSRVNAME": "other",
    "PGLOADBALANCEHOSTS": "nonsense",
    "PGMAXPROTOCOLVERSION": "3.0",
    "PGMINPROTOCOLVERSION": "3.0",
    "PGOPTIONS": "-c nonsense=1",
    "PGPASSFILE": "/nowhere",
    "PGPASSWORD": "other",
    "PGPORT": "9",
    "PGREQUIREAUTH": "none",
    "PGREQUIREPEER": "other",
    "PGSERVICE": "other",
    "PGSERVICEFILE": "services",
    "PGSSLCERT": "/nowhere",
    "PGSSLCERTMODE": "require",
    "PGSSLCOMPRESSION": "1",
    "PGSSLCRL": "/nowhere",
    "PGSSLCRLDIR": "/nowhere",
    "PGSSLKEY": "/nowhere",
    "PGSSLMAXPROTOCOLVERSION": "nonsense",
    "PGSSLMINPROTOCOLVERSION": "nonsense",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "/nowhere",
    "PGSSLSNI": "0",
    "PGSYSCONFDIR": "/nowhere",
    "PGTARGETSESSIONATTRS": "standby",
    "PGTZ": "Nowhere/At_All",
    "PGUSER": "other",
}


def test_every_variable_that_libpq_reads_is_tested() -> None:
    read = {option.envvar.decode() for option in psycopg.pq.Conninfo.get_defaults() if option.envvar}
    assert read <= OTHER_SERVER.keys()


@pytest.mark.parametrize("is_own", [True, False], ids=["both databases embedded", "PG_HOST names a warehouse"])
@pytest.mark.parametrize("name", OTHER_SERVER)
def test_connections_to_the_embedded_server_ignore_libpq_variables(
    name: str, is_own: bool, environment: dict[str, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_own:
        point_at(ensure_running(home).target("taxi"), monkeypatch)
    services = tmp_path / "services"
    services.write_text("[other]\nhost=192.0.2.1\nhostaddr=192.0.2.1\nchannel_binding=require\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    if name != "PGSERVICEFILE":
        monkeypatch.setenv(name, OTHER_SERVER[name])
    settings = load_settings()
    with connect(ensure_running(home).target("postgres")) as connection:
        assert connection.execute("show timezone").fetchone() == ("UTC",)
    with create_engine(storage_url(settings), poolclass=NullPool).connect() as connection:
        assert connection.execute(text("show timezone")).scalar() == "UTC"


def test_the_whole_pipeline_on_the_embedded_server_ignores_libpq_variables(
    tlc: TlcHost, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tlc.publish(MONTHS[0])
    for name, value in OTHER_SERVER.items():
        monkeypatch.setenv(name, value)
    for arguments in (
        ["backfill", "2024-12", "2024-12"],
        ["status"],
        ["dbt", "debug", "--connection"],
        ["psql", "--", "-Atc", "select count(*) || ' rows' from raw_trips"],
    ):
        done = subprocess.run([TAXI, *arguments], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert arguments != ["status"] or "1 loaded" in done.stdout
    assert "200 rows" in done.stdout
