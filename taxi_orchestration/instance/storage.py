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
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy import Table, and_, create_engine, event, exists, select, text
from sqlalchemy.engine import URL, Dialect, Engine, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, InternalError, SQLAlchemyError
from sqlalchemy.pool import NullPool, Pool

from taxi_orchestration.instance.dagster_internals import (
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionsTable,
    CapturedLogContext,
    LocalComputeLogManager,
    SqlEventLogStorageTable,
)
from taxi_orchestration.instance.dagster_names import WITHDRAWS_PLAN
from taxi_orchestration.postgres.connection import CONNECT_TIMEOUT_SECONDS
from taxi_orchestration.postgres.server import STORAGE_DATABASE, ServerError, ensure_running
from taxi_orchestration.postgres.session import MARKED, POOLER_REFUSES, startup_options
from taxi_orchestration.settings import Settings, SettingsError, is_local, load_settings, make_home

# SQLAlchemy 2.1 takes a plain postgresql:// for psycopg 3, which dagster-postgres cannot use.
DRIVER = "postgresql+psycopg2"

EVENTS_AT_ONCE = "500"
STATEMENT_TIMEOUT_MS = 300_000
POOL_RECYCLE_SECONDS = 600
MAX_OVERFLOW = 20
# Dagster tries each connection six times within 6 s. A server that has been gone for so long is not tried again: the
# threads of its daemon would go from one such wait to the next, and `dagster dev` take 40 s to end.
PATIENCE_SECONDS = 2.0

_APART_SECONDS = 0.002
_PLANNED = DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_IS_PLANNED_CHECK = AssetCheckExecutionsTable.c.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value
_ENDS = {DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED}


def storage_url(settings: Settings) -> str:
    """The SQLAlchemy URL of Dagster's storage: DAGSTER_POSTGRES_URL, or the embedded PostgreSQL, which is then started.

    Never the warehouse unless somebody says so. Raises SettingsError for a URL that is none of PostgreSQL's.
    """
    if settings.dagster_postgres_url is None:
        target = ensure_running(make_home(settings)).target(STORAGE_DATABASE)
        return _with_session(make_url(target.url(DRIVER)).update_query_dict(target.parameters))
    try:
        url = make_url(settings.dagster_postgres_url.get_secret_value())
    except ArgumentError:
        url = None
    if url is None or not url.drivername.startswith("postgres") or not url.host or not url.database:
        raise SettingsError("DAGSTER_POSTGRES_URL must look like postgresql://user:password@host:5432/database.")
    if "sslmode" not in url.query and not is_local(url.host):
        # As for the warehouse: who asked for a verified certificate there does not expect less here.
        tls = {"sslmode": settings.pg_sslmode or "require"}
        if settings.pg_sslrootcert and "sslrootcert" not in url.query:
            tls["sslrootcert"] = str(settings.pg_sslrootcert)
        url = url.update_query_dict(tls)
    return _with_session(url.set(drivername=DRIVER))


def _with_session(url: URL) -> str:
    """The URL with what Dagster's sessions depend on, whatever their database has for defaults."""
    # What the URL itself says comes last, and wins.
    options = f"{startup_options()} {url.query.get('options', '')}".strip()
    url = url.update_query_dict({"options": options, "client_encoding": "UTF8"})
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_SECONDS)})
    return url.render_as_string(hide_password=False)


class StorageError(SettingsError, ClickException):
    """Dagster's storage cannot be opened. Dagster's own commands print a ClickException without a traceback."""


def _storage_error(error: Exception, url: URL) -> StorageError:
    """Say why the storage cannot be used, and what to do."""
    place = f"Dagster's storage at {url.set(query={})!r}"
    cause: BaseException = error
    while not isinstance(cause, psycopg2.Error) and cause.__cause__:
        cause = cause.__cause__
    said = cause.diag.message_primary if isinstance(cause, psycopg2.Error) else None
    # libpq's own errors go on with questions.
    reason = said or str(cause).strip().partition("\n")[0]
    if isinstance(cause, psycopg2.errors.InsufficientPrivilege):
        return StorageError(
            f"{place} cannot be used: {reason}. Its role has to make tables there: give it a database of its own "
            f'(create database dagster owner "{url.username}") and name that in DAGSTER_POSTGRES_URL, or let it (grant '
            f'create on schema public to "{url.username}").'
        )
    return StorageError(f"{place} cannot be used: {reason}. Check that it runs and that DAGSTER_POSTGRES_URL is right.")


class TaxiEventLog(PostgresEventLogStorage):
    """Dagster's event log, without what costs a round trip for each event or each month, or fails two first runs.

    And without red for what nobody came to.
    """

    def __init__(self, postgres_url: str, *others: Any) -> None:
        self._tables: set[str] = set()
        # The storages of runs and schedules, which have no end of their own.
        self._others = others
        super().__init__(postgres_url)

    def dispose(self) -> None:
        """Close the kept connections with the instance: out of the box they stay until Python collects its garbage.

        A code server opens an instance for each look of a sensor; twelve students had up to 267 connections.
        """
        super().dispose()
        for storage in (self, *self._others):
            storage._engine.dispose()

    def has_table(self, table_name: str) -> bool:
        """Return whether a table exists, asked until it does: out of the box each event asks over a new connection.

        That is 5 % of the time of recording an event, and 11 more connections in a run of one month.
        """
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def initialize_concurrency_limit_to_default(self, concurrency_key: str) -> bool:
        """Of two first runs that make a pool at once the second finds it made; out of the box it fails upon that."""
        try:
            return super().initialize_concurrency_limit_to_default(concurrency_key)
        except InternalError:
            return True

    def store_event(self, event: EventLogEntry) -> None:
        """Withdraw what a run that ended, or that found a month unpublished, planned and did not come to.

        Out of the box a check that nobody could make is red for the whole asset, and so is a month that is not out.
        """
        super().store_event(event)
        if event.dagster_event_type in _ENDS:
            self._withdraw_checks(event.run_id)
        elif event.dagster_event_type is DagsterEventType.ASSET_OBSERVATION:
            observation = event.get_dagster_event().asset_observation_data.asset_observation
            if WITHDRAWS_PLAN in observation.tags:
                self._withdraw_month(event.run_id, observation.partition)

    def _withdraw_checks(self, run_id: str) -> None:
        """Delete the planned checks of what the run was to make and did not: they keep the result of before."""
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
        """Delete what the run planned to make, and to check, of a month; and those who tried before, and failed."""
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
            # Dagster remembers a month that failed until it is made.
            self.wipe_asset_cached_status(asset)

    def _delete(self, table: Table, *which: Any) -> None:
        with self.index_connection() as connection:
            connection.execute(table.delete().where(and_(*which)))

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Write plans in one statement; out of the box only what was made is written in batches.

        504 plans, of 36 months of 14 models: 0.13 s of CPU, and 1.40 s one by one (0.4 s and 6.7 s on busy cores).
        """
        planned = [e for e in events if e.dagster_event_type is _PLANNED]
        if planned:
            statement = self.prepare_insert_event_batch(planned)
            with self.index_connection() as connection:
                ids: Sequence[int] = connection.execute(statement.returning(statement.table.c.id)).scalars().all()
            # An asset knows its newest event: that is written once for each asset, not once for each month.
            newest = {e.get_dagster_event().asset_key: (e, id_) for e, id_ in zip(planned, ids, strict=True)}
            for of_asset, id_ in newest.values():
                self.store_asset_event(of_asset, id_)
        super().store_event_batch(_one_by_one([e for e in events if e.dagster_event_type is not _PLANNED]))


def _one_by_one(events: Sequence[EventLogEntry]) -> list[EventLogEntry]:
    """The events, no two in one millisecond: the page of an asset folds those, and shows three of five months."""
    apart: list[EventLogEntry] = []
    for entry in events:
        earliest = apart[-1].timestamp + _APART_SECONDS if apart else entry.timestamp
        apart.append(entry._replace(timestamp=max(entry.timestamp, earliest)))
    return apart


class TaxiStorage(DagsterPostgresStorage):
    """Dagster's storage in the PostgreSQL that the environment names, or in the embedded one."""

    def __init__(self, postgres_url: str, inst_data: Any = None) -> None:
        super().__init__(postgres_url=postgres_url, inst_data=inst_data)
        self._event_log = TaxiEventLog(postgres_url, self._run_storage, self._schedule_storage)

    @property
    def event_log_storage(self) -> TaxiEventLog:
        """Runs, the daemon and the UI write and read events here."""
        return self._event_log

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing: everything comes from the environment, so that no URL with a password stands in a file or a page."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "TaxiStorage":
        """Called once by every process of Dagster's that opens the instance."""
        # The months of a range are recorded together: otherwise 36 months of 14 models take 504 round trips of three
        # statements each.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", EVENTS_AT_ONCE)
        # A backfill waits for a code server that is down; out of the box the daemon fails it and cancels its runs.
        os.environ.setdefault("DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR", "1")
        try:
            settings = load_settings()
            url = storage_url(settings)
            if settings.dagster_postgres_url is not None:
                _refuse_pooler(url)
        except (SettingsError, ServerError) as error:
            raise StorageError(str(error)) from error
        try:
            storage = cls(postgres_url=url, inst_data=inst_data)
        except (DagsterPostgresException, SQLAlchemyError) as error:
            raise _storage_error(error, make_url(url)) from None
        if not event.contains(Pool, "checkout", _refuse_if_cut):
            event.listen(Pool, "checkout", _refuse_if_cut)
            event.listen(Engine, "do_connect", _connect)
        # Out of the box only the webserver keeps its connection, and a run opens three for every event that it records:
        # 200 events take 0.7 s of CPU, and 2.2 s so (3.5 s and 11.5 s on busy cores).
        for part in (storage.event_log_storage, storage.run_storage, storage.schedule_storage):
            part.optimize_for_webserver(
                statement_timeout=STATEMENT_TIMEOUT_MS, pool_recycle=POOL_RECYCLE_SECONDS, max_overflow=MAX_OVERFLOW
            )
        return storage


_gone_since: dict[tuple[object, object], float] = {}


def _connect(dialect: Dialect, record: object, args: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    """Connect; raise what Dagster does not try again where the server has been gone for PATIENCE_SECONDS."""
    if dialect.name != "postgresql":
        return None
    server = parameters.get("host"), parameters.get("port")
    try:
        connection = dialect.connect(*args, **parameters)
    except dialect.loaded_dbapi.OperationalError as error:
        if time.monotonic() - _gone_since.setdefault(server, time.monotonic()) < PATIENCE_SECONDS:
            raise
        raise DagsterPostgresException(f"Dagster's storage does not answer: {str(error).strip()}") from error
    _gone_since.pop(server, None)
    return connection


def _refuse_pooler(url: str) -> None:
    """Raise SettingsError where a pooler stands before the storage: Dagster sets what it needs for whole sessions."""
    try:
        with create_engine(url, poolclass=NullPool).connect() as connection:
            # Some poolers are told to drop what they do not pass on.
            is_refused = not connection.execute(text(MARKED)).scalar()
    except SQLAlchemyError as error:
        # Of anything else Dagster tells, once it has tried a few times; of this it would too, after 25 seconds.
        is_refused = POOLER_REFUSES in str(error)
    if is_refused:
        raise SettingsError(
            f"Dagster's storage at {make_url(url).set(query={})!r} is behind a pooler that does not pass on what a "
            "session is started with: Dagster needs sessions of its own. Set DAGSTER_POSTGRES_URL to the server "
            "itself (its own port, most often 5432), or leave it out for the embedded PostgreSQL. The trips (PG_HOST) "
            "may go through the pooler."
        )


def _refuse_if_cut(connection: Any, record: object, proxy: object) -> None:
    """Let SQLAlchemy connect anew where a kept connection was cut: one event that cannot be written ends a run."""
    if not hasattr(connection, "fileno"):
        # Of another database in this process: Dagster's own storage in memory is one.
        return
    # A server that is idle says nothing but farewell. To ask it would be a round trip more for every event.
    with selectors.DefaultSelector() as selector:
        if connection.closed or (selector.register(connection, selectors.EVENT_READ) and selector.select(0)):
            raise DisconnectionError


class TaxiStepLogs(LocalComputeLogManager):
    """What steps print, kept in TAXI_HOME.

    Printed to the file alone: Dagster's own manager follows the file with four more processes for every step, 0.06 s of
    CPU, to print it a second time: into the terminal of `taxi`.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing: the directory comes from TAXI_HOME."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> "TaxiStepLogs":
        """Called once by every process of Dagster's that opens the instance."""
        return cls(base_dir=str(load_settings().taxi_home / "step_logs"), inst_data=inst_data)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Send what this process prints, at the level of file descriptors, to the files of `log_key`."""
        paths = [Path(self.get_captured_local_path(log_key, extension, partial=False)) for extension in ("out", "err")]
        with _redirected(sys.stdout, paths[0]), _redirected(sys.stderr, paths[1]):
            yield CapturedLogContext(log_key)
        Path(self.complete_artifact_path(log_key)).touch()


@contextmanager
def _redirected(stream: TextIO, path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    stream.flush()
    descriptor = stream.fileno()
    kept = os.dup(descriptor)
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
        yield
    finally:
        stream.flush()
        os.dup2(kept, descriptor)
        os.close(kept)
