"""Shared fixtures: an embedded PostgreSQL, a Dagster storage for each test, a host of synthetic months."""

import gc
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance, Definitions
from psycopg import sql

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.cli.commands import main
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.instance.storage import DRIVER
from taxi_orchestration.loading import Loader, open_loader
from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, ensure_running, remove
from taxi_orchestration.settings import DEFAULT_SCHEMA, PROJECT_DIRECTORY, PostgresTarget, Settings, load_settings
from taxi_orchestration.warehouse.warehouse import open_warehouse
from taxi_orchestration_tests.support.interference import RefuseRows
from taxi_orchestration_tests.support.programs import Programs, delete_outer_variables
from taxi_orchestration_tests.support.tlc_host import TlcHost, running_tlc_host

HOME = "TAXI_TEST_HOME"


def pytest_configure(config: pytest.Config) -> None:
    """Remove the user's settings from the environment, and create the directory for the homes of all workers."""
    if (PROJECT_DIRECTORY / ".env").exists():
        # .env overrides the environment of every program that a test starts, and may select the user's own data.
        pytest.exit("Move .env out of the checkout while the tests run.", returncode=pytest.ExitCode.USAGE_ERROR)
    # As in `taxi`. Saves an eighth of the CPU time of tests that run the pipeline in this process.
    gc.set_threshold(100_000, 20, 100)
    if not hasattr(config, "workerinput"):
        # A shell script starts background commands with SIGINT ignored, and programs that tests interrupt inherit this.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        delete_outer_variables()
        os.environ[HOME] = tempfile.mkdtemp(prefix="taxi-tests-")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Move the slowest tests, those with a timeout mark, to the front: at the end one worker would run them alone.

    With --collect-only the tests stay in the order of their files.
    """
    if not config.option.collectonly:
        items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop all servers, and remove the homes."""
    if not hasattr(session.config, "workerinput"):
        homes = Path(os.environ[HOME])
        for home in homes.iterdir():
            remove(home)
        shutil.rmtree(homes, ignore_errors=True)


@pytest.fixture(scope="session")
def home(worker_id: str) -> Path:
    """TAXI_HOME of a worker. Each worker has its own server, so that all can use the default schema."""
    return Path(os.environ[HOME]) / worker_id


@pytest.fixture(scope="session")
def server(home: Path) -> PostgresTarget:
    """The warehouse database of the worker's embedded PostgreSQL, without fsync: no test simulates a power failure."""
    target = ensure_running(home).target(WAREHOUSE_DATABASE)
    with psycopg.connect(target.url(), autocommit=True) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(sql.SQL("alter system set {} = off").format(sql.SQL(name)))
        connection.execute("select pg_reload_conf()")
    return target


@pytest.fixture
def tlc(tmp_path: Path) -> Iterator[TlcHost]:
    """A download host with the zone table; the test publishes the months."""
    with running_tlc_host(tmp_path) as host:
        yield host


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, home: Path, server: PostgresTarget, tlc: TlcHost) -> dict[str, str]:
    """The environment of a user with an empty default schema, which the programs that a test starts inherit."""
    variables = {"TAXI_HOME": str(home), "TLC_BASE_URL": tlc.url, "PG_SCHEMA": DEFAULT_SCHEMA}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(server.url()) as connection:
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(variables["PG_SCHEMA"])))
    return variables


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings of `environment`."""
    return load_settings()


@pytest.fixture
def target(settings: Settings, server: PostgresTarget) -> PostgresTarget:
    """The warehouse of `settings`."""
    return server


@pytest.fixture
def refuse_rows(settings: Settings, target: PostgresTarget) -> RefuseRows:
    """A context manager that makes a table of the schema refuse new rows for the duration of the block."""

    @contextmanager
    def add_constraint(name: str) -> Iterator[None]:
        table = sql.Identifier(settings.schema_name, name)
        add = sql.SQL("alter table {} add constraint in_the_way check (false) not valid").format(table)
        drop = sql.SQL("alter table {} drop constraint in_the_way").format(table)
        with psycopg.connect(target.url(), autocommit=True) as connection:
            connection.execute(add)
            try:
                yield
            finally:
                connection.execute(drop)

    return add_constraint


@pytest.fixture
def loader(settings: Settings) -> Iterator[Loader]:
    """A loader of months into the test's schema."""
    with open_loader(settings, open_warehouse(settings)) as opened:
        yield opened


@pytest.fixture(scope="session")
def storage_template(server: PostgresTarget, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with Dagster's tables. A copy of it takes 0.1 s; creating the tables takes 2 s."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_URL", replace(server, dbname=name).url(DRIVER))
        with open_instance() as instance:
            instance.get_runs(limit=1)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        # Dagster keeps its connections for a while, and a database in use cannot be copied.
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
    return name


@pytest.fixture
def instance(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, server: PostgresTarget, storage_template: str
) -> Iterator[DagsterInstance]:
    """A Dagster instance configured by dagster.yaml, without runs. Programs that a test starts use it too."""
    name = f"storage_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(storage_template))
        )
    url = replace(server, dbname=name).url(DRIVER)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    environment["DAGSTER_POSTGRES_URL"] = url
    with open_instance() as opened:
        yield opened
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def definitions(settings: Settings) -> Definitions:
    """The project's definitions for the test's environment."""
    return build_definitions(settings)


@pytest.fixture
def backfill() -> Callable[..., int]:
    """A function that runs `taxi backfill` in this process, without the time for imports, and returns the exit code."""

    def run(*arguments: str) -> int:
        try:
            main(["backfill", *arguments], standalone_mode=False)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture
def direct_backfill(definitions: Definitions, instance: DagsterInstance) -> Backfill:
    """A backfill on the test's instance, without the command line, that loads two months at once."""
    return Backfill(definitions, instance, months_at_once=2)


@pytest.fixture(scope="session")
def real_months() -> Path:
    """The directory of the TLC's real files, beside the checkout."""
    directory = PROJECT_DIRECTORY.parent / "shared" / "tlc"
    if not directory.is_dir():
        pytest.skip(f"the TLC's real months are not in {directory}")
    return directory


@pytest.fixture
def programs() -> Iterator[Programs]:
    """The programs that the test starts, which end with it."""
    started = Programs()
    yield started
    started.end()
