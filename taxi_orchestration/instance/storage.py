"""Dagster's own storage: runs, events, schedules and step logs of this checkout, without any configuration.

dagster.yaml names these classes, so that `dagster dev`, its daemon, every run and `taxi` share one history. The
pipeline's data is elsewhere: in the warehouse.
"""

import os
import selectors
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import psycopg2.errors
from click import ClickException
from dagster import AssetKey, DagsterEventType, EventLogEntry
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from sqlalchemy import Table, and_, create_engine, event, exists, select, text
from sqlalchemy.engine import URL, Dialect, Engine, make_url
from sqlalchemy.exc import DisconnectionError, InternalError, SQLAlchemyError
from sqlalchemy.pool import NullPool, Pool

from taxi_orchestration.instance.dagster_internals import (
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionsTable,
    CapturedLogContext,
    DagsterPostgresException,
    LocalComputeLogManager,
    SqlEventLogStorageTable,
    close_pooled_connections,
)
from taxi_orchestration.instance.dagster_names import WITHDRAWS_PLAN
from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.postgres.connection import CONNECT_TIMEOUT_SECONDS
from taxi_orchestration.postgres.server import STORAGE_DATABASE, ensure_running
from taxi_orchestration.postgres.session import MARKED, POOLER_REFUSES, startup_options
from taxi_orchestration.settings import Settings, SettingsError, load_settings, make_home

# SQLAlchemy 2.1 takes a plain postgresql:// for psycopg 3, which dagster-postgres cannot use.
DRIVER = "postgresql+psycopg2"

EVENTS_AT_ONCE = "500"
STATEMENT_TIMEOUT_MS = 300_000
POOL_RECYCLE_SECONDS = 600
MAX_OVERFLOW = 20
# Dagster tries each connection six times within 6 s. A server that has been gone for so long is not tried again: the
# threads of its daemon would wait so again and again, and `dagster dev` take 40 s to end (measured by hand).
PATIENCE_SECONDS = 2.0

_SPACING_SECONDS = 0.002
_PLANNED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_IS_PLANNED_CHECK = AssetCheckExecutionsTable.c.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value
_ENDS = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}


def storage_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL of Dagster's storage: DAGSTER_POSTGRES_URL, or the embedded server, then started.

    Raises SettingsError for a URL of another database system, ServerError where the embedded server does not start.
    """
    target = settings.storage or ensure_running(make_home(settings)).target(STORAGE_DATABASE)
    return _with_session(make_url(target.url(DRIVER)).update_query_dict(target.parameters))


def _with_session(url: URL) -> str:
    """Return the URL with the session settings that Dagster depends on, whatever the defaults of the database are."""
    # The last option wins: that of the URL itself.
    options = f"{startup_options()} {url.query.get('options', '')}".strip()
    url = url.update_query_dict({"options": options, "client_encoding": "UTF8"})
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_SECONDS)})
    return url.render_as_string(hide_password=False)


class StorageError(SettingsError, ClickException):
    """Dagster's storage cannot be opened. Dagster's own commands print a ClickException without a traceback."""


def find_reason(error: BaseException) -> tuple[BaseException, str]:
    """Return the driver's error behind an error of the storage, and its reason in one line."""
    cause = error
    while not isinstance(cause, psycopg2.Error) and cause.__cause__:
        cause = cause.__cause__
    primary = cause.diag.message_primary if isinstance(cause, psycopg2.Error) else None
    # After its first line libpq only adds hints: "Is the server running on that host?".
    return cause, primary or str(cause).strip().partition("\n")[0]


def _storage_error(error: Exception, url: URL, *, is_embedded: bool) -> StorageError:
    """Return an error with the reason and the next step."""
    place = f"Dagster's storage at {url.set(query={})!r}"
    cause, reason = find_reason(error)
    if isinstance(cause, psycopg2.errors.InsufficientPrivilege):
        return StorageError(
            f"{place} cannot be used: {reason}. The role {url.username} cannot create tables there. Give the role "
            f'a database of its own (create database dagster owner "{url.username}") and set DAGSTER_POSTGRES_URL to '
            f'that, or let the role create tables (grant create on schema public to "{url.username}").'
        )
    # A start of the command found the embedded server running: somebody has stopped it since.
    advice = (
        "Run the same command again" if is_embedded else "Check that it runs and that DAGSTER_POSTGRES_URL is right"
    )
    return StorageError(f"{place} cannot be used: {reason}. {advice}.")


class TaxiEventLog(PostgresEventLogStorage):
    """Dagster's event log with fewer round trips, safe for two concurrent first runs.

    It also deletes the plans that a run did not reach, which the UI would show as failed.
    """

    def __init__(self, postgres_url: str, *others: Any) -> None:
        self._tables: set[str] = set()
        # The storages of runs and schedules, which have no end of their own.
        self._others = others
        super().__init__(postgres_url)

    def dispose(self) -> None:
        """Close the pooled connections with the instance; by default they stay open until garbage collection.

        A code server opens an instance for each tick of a sensor: twelve students had up to 267 connections (counted by
        hand).
        """
        super().dispose()
        for storage in (self, *self._others):
            close_pooled_connections(storage)

    def has_table(self, table_name: str) -> bool:
        """Return whether a table exists; a positive answer is cached.

        By default every check queries the catalog: 200 checks take 1.4 s of CPU, and 1.2 s cached (measured by hand).
        """
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        """Return True where a concurrent first run has created the pool's limit; by default the second run fails."""
        try:
            return super().initialize_concurrency_limit_to_default(concurrency_key)
        except InternalError:
            return True

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event; at the end of a run, and for an unpublished month, delete the plans that were not reached.

        By default a check that could not be evaluated fails for the whole asset, and an unpublished month is failed.
        """
        super().store_event(event)
        if event.dagster_event_type in _ENDS:
            self._withdraw_checks(event.run_id)
        elif event.dagster_event_type is DagsterEventType.ASSET_OBSERVATION:
            observation = event.get_dagster_event().asset_observation_data.asset_observation
            if WITHDRAWS_PLAN in observation.tags:
                self._withdraw_month(event.run_id, observation.partition)

    def _withdraw_checks(self, run_id: str) -> None:
        """Delete the planned checks of assets that the run did not materialize: they keep their last result."""
        checks = AssetCheckExecutionsTable.c

        def of_checked(kind: DagsterEventType) -> Any:
            events = SqlEventLogStorageTable.alias()
            is_event = (events.c.run_id == run_id) & (events.c.dagster_event_type == kind.value)
            is_of_month = checks.partition.is_(None) | (events.c.partition == checks.partition)
            return exists().where(is_event & (events.c.asset_key == checks.asset_key) & is_of_month)

        self._delete(
            AssetCheckExecutionsTable,
            checks.run_id == run_id,
            _IS_PLANNED_CHECK,
            of_checked(_PLANNED),
            ~of_checked(DagsterEventType.ASSET_MATERIALIZATION),
        )

    def _withdraw_month(self, run_id: str, key: str | None) -> None:
        """Delete the run's plans for a month and its checks, and those of earlier failed attempts."""
        events, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
        is_planned = (events.dagster_event_type == _PLANNED.value) & (events.partition == key)
        with self.index_connection() as connection:
            of_run = connection.execute(select(events.asset_key).where(is_planned, events.run_id == run_id))
            assets: Sequence[str] = of_run.scalars().all()
        self._delete(SqlEventLogStorageTable, is_planned, events.asset_key.in_(assets))
        self._delete(
            AssetCheckExecutionsTable, _IS_PLANNED_CHECK, checks.partition == key, checks.asset_key.in_(assets)
        )
        for asset in filter(None, map(AssetKey.from_db_string, assets)):
            # The cache has the month as failed until it is materialized.
            self.wipe_asset_cached_status(asset)

    def _delete(self, table: Table, *which: Any) -> None:
        with self.index_connection() as connection:
            connection.execute(table.delete().where(and_(*which)))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events; write plans in one statement, where Dagster batches only materializations.

        324 plans, of 36 months of nine tables: 0.13 s of CPU, and 1.8 s one by one (measured by hand).
        """
        planned = [e for e in events if e.dagster_event_type is _PLANNED]
        if planned:
            statement = self.prepare_insert_event_batch(planned)
            with self.index_connection() as connection:
                ids: Sequence[int] = connection.execute(statement.returning(statement.table.c.id)).scalars().all()
            # The newest event of an asset is written once for each asset, not once for each month.
            newest = {e.get_dagster_event().asset_key: (e, id_) for e, id_ in zip(planned, ids, strict=True)}
            for of_asset, id_ in newest.values():
                self.store_asset_event(of_asset, id_)
        super().store_event_batch(_space_timestamps([e for e in events if e.dagster_event_type is not _PLANNED]))


def _space_timestamps(events: Sequence[EventLogEntry]) -> list[EventLogEntry]:
    """Return the events in distinct milliseconds: an asset's page merges events of the same one."""
    apart: list[EventLogEntry] = []
    for entry in events:
        earliest = apart[-1].timestamp + _SPACING_SECONDS if apart else entry.timestamp
        apart.append(entry._replace(timestamp=max(entry.timestamp, earliest)))
    return apart


class TaxiStorage(DagsterPostgresStorage):
    """Dagster's storage in the PostgreSQL that the environment names, or in the embedded one."""

    def __init__(self, postgres_url: str, inst_data: Any = None) -> None:
        super().__init__(postgres_url=postgres_url, inst_data=inst_data)
        self._event_log = TaxiEventLog(postgres_url, self._run_storage, self._schedule_storage)

    @property
    def event_log_storage(self) -> TaxiEventLog:
        """Return the event log of runs, the daemon and the UI."""
        return self._event_log

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return no options: the environment has the URL, so that its password is in no file and on no page."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "TaxiStorage":
        """Open the storage; Dagster calls this in each process that opens the instance. Raises StorageError."""
        # The months of a range are recorded together: 324 materializations, of 36 months of nine tables, take 0.2 s of
        # CPU, and 2.0 s one by one (measured by hand).
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", EVENTS_AT_ONCE)
        # A backfill waits for a code server that is down; by default the daemon fails it and cancels its runs.
        os.environ.setdefault("DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR", "1")
        try:
            settings = load_settings()
            url = storage_url(settings)
            if settings.storage is not None:
                _refuse_pooler(url)
        except (SettingsError, ServerError) as error:
            raise StorageError(str(error)) from error
        try:
            storage = cls(postgres_url=url, inst_data=inst_data)
        except (DagsterPostgresException, SQLAlchemyError) as error:
            raise _storage_error(error, make_url(url), is_embedded=settings.storage is None) from None
        _servers.add(_server_of(make_url(url).translate_connect_args(database="dbname")))
        if not event.contains(Pool, "checkout", _refuse_if_cut):
            event.listen(Pool, "checkout", _refuse_if_cut)
            event.listen(Engine, "do_connect", _connect)
        # By default only the webserver pools connections, and a run opens three for each event: 200 events take 3.4 s
        # of CPU, and 1.1 s with a pool (measured by hand).
        for part in (storage.event_log_storage, storage.run_storage, storage.schedule_storage):
            part.optimize_for_webserver(
                statement_timeout=STATEMENT_TIMEOUT_MS, pool_recycle=POOL_RECYCLE_SECONDS, max_overflow=MAX_OVERFLOW
            )
        return storage


# The storages that this process has opened, by host, port and database, and when one stopped to answer.
_servers: set[tuple[object, ...]] = set()
_gone_since: dict[tuple[object, ...], float] = {}


def _server_of(parameters: Mapping[str, Any]) -> tuple[object, ...]:
    return parameters.get("host"), int(parameters.get("port") or 5432), parameters.get("dbname")


def _connect(dialect: Dialect, record: object, args: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    """Connect; raise an error that Dagster does not retry once the server has been gone for PATIENCE_SECONDS."""
    # SQLAlchemy calls this for every connection of the process, also those of an asset to its own database.
    if dialect.name != "postgresql" or (server := _server_of(parameters)) not in _servers:
        return None
    try:
        connection = dialect.connect(*args, **parameters)
    except dialect.loaded_dbapi.OperationalError as error:
        if time.monotonic() - _gone_since.setdefault(server, time.monotonic()) < PATIENCE_SECONDS:
            raise
        raise DagsterPostgresException(f"Dagster's storage does not answer: {str(error).strip()}") from error
    _gone_since.pop(server, None)
    return connection


def _refuse_pooler(url: str) -> None:
    """Raise SettingsError where a pooler is in front of the storage: Dagster sets options for whole sessions."""
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            # Some poolers are configured to drop the options that they do not pass on.
            is_refused = not connection.execute(text(MARKED)).scalar()
    except SQLAlchemyError as error:
        # Dagster reports all other errors after some attempts; this one too, but only after 25 seconds.
        is_refused = POOLER_REFUSES in str(error)
    if is_refused:
        raise SettingsError(
            f"Dagster's storage at {make_url(url).set(query={})!r} is behind a pooler that does not pass on what a "
            "session is started with: Dagster needs sessions of its own. Set DAGSTER_POSTGRES_URL to the server "
            "itself (its own port, most often 5432), or leave it out for the embedded PostgreSQL. The trips (PG_HOST) "
            "may go through the pooler."
        )


def _refuse_if_cut(connection: Any, record: object, proxy: object) -> None:
    """Make SQLAlchemy reconnect where a pooled connection was cut: one event that cannot be written ends a run."""
    if not hasattr(connection, "fileno"):
        # A connection to another database system, as that of Dagster's storage in memory.
        return
    # An idle server sends data only when it ends the session. A query would be a round trip more for every event.
    with selectors.DefaultSelector() as selector:
        if connection.closed or (selector.register(connection, selectors.EVENT_READ) and selector.select(0)):
            raise DisconnectionError


class TaxiStepLogs(LocalComputeLogManager):
    """The output of steps, in TAXI_HOME, written to the file alone.

    Dagster's own manager starts four processes for every step, 0.06 s of CPU (measured by hand), to print the output
    once more to the terminal.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return no options: the directory is in TAXI_HOME."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "TaxiStepLogs":
        """Open the logs; Dagster calls this in each process that opens the instance."""
        return cls(base_dir=str(load_settings().taxi_home / "step_logs"), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Redirect the output of this process, at the level of file descriptors, to the files of `log_key`."""
        paths = [Path(self.get_captured_local_path(log_key, extension, partial=False)) for extension in ("out", "err")]
        with _redirected(sys.stdout, paths[0]), _redirected(sys.stderr, paths[1]):
            yield CapturedLogContext(log_key)
        Path(self.complete_artifact_path(log_key)).touch()


@contextmanager
def _redirected(stream: TextIO, path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream.flush()
    descriptor = stream.fileno()
    original = os.dup(descriptor)
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
        yield
    finally:
        try:
            # Fails on a full disk.
            stream.flush()
        finally:
            os.dup2(original, descriptor)
            os.close(original)
