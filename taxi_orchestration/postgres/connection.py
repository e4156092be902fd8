"""Connections to any PostgreSQL, and what their errors mean.

What belongs here: opening a connection, translating psycopg's errors, and advice for the user. What does not:
statements on tables.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from taxi_orchestration.postgres.postmaster import SHARED_MEMORY_ADVICE, names_shared_memory
from taxi_orchestration.postgres.session import MARK, MARKED, POOLER_REFUSES, transaction_settings
from taxi_orchestration.settings import PostgresTarget

CONNECT_TIMEOUT_SECONDS = 10


class WarehouseError(Exception):
    """A statement or a connection failed; the message says which, where, and what to do next."""


class WarehouseUnavailableError(WarehouseError):
    """PostgreSQL is unreachable or closed the connection: a retry can help."""


class PoolerError(WarehouseError):
    """A pooler in front of PostgreSQL refused the startup options of a session."""


@contextmanager
def connect(
    target: PostgresTarget, *, autocommit: bool = False, snapshot: bool = False, options: str | None = None
) -> Iterator[psycopg.Connection]:
    """Open a connection that commits when the block succeeds and rolls back when the block raises.

    With `snapshot` all statements read one snapshot (repeatable read). `options` are libpq's startup options; the
    default is PGOPTIONS.
    Raises WarehouseUnavailableError where no connection can be made.
    """
    try:
        connection = psycopg.connect(
            make_conninfo(**{**target.parameters, **({} if options is None else {"options": options})}),
            host=target.host,
            port=target.port,
            user=target.user,
            password=target.password,
            dbname=target.dbname,
            sslmode=target.sslmode,
            sslrootcert=target.sslrootcert or "",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name="taxi",
            client_encoding="UTF8",
            # A server that vanished without closing is detected in half a minute, not in two hours.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=4,
            # `begin` is sent below, in one round trip with the settings of the transaction.
            autocommit=True,
            # Behind a pooler the next transaction may run in a server process without the prepared statement.
            prepare_threshold=None,
        )
    except psycopg.OperationalError as error:
        # libpq writes several lines, and asks "Is the server running on that host ...?".
        reason = re.sub(r" Is the server running [^?]*\?", "", " ".join(str(error).split())).rstrip(".")
        failed = f"Connecting to PostgreSQL at {target.place} failed: {reason.removeprefix('connection failed: ')}. "
        if POOLER_REFUSES in failed:
            raise PoolerError(f"{failed}A pooler in between refuses startup options. Unset PGOPTIONS.") from error
        raise WarehouseUnavailableError(
            f"{failed}Check that the server runs and that PG_HOST, PG_PORT, PG_USER, PG_PASSWORD, PG_DBNAME and "
            "PG_SSLMODE are correct."
        ) from error
    with connection:
        if not autocommit:
            settings = transaction_settings(target.lock_timeout, snapshot=snapshot)
            connection.execute(sql.SQL("begin; {}").format(settings))
        yield connection


def passes_options(target: PostgresTarget) -> bool:
    """Return whether startup options reach the server; a pooler refuses them, or ignores them if configured so."""
    try:
        with connect(target, autocommit=True, options=f"-c {MARK}=on") as connection:
            return connection.execute(MARKED).fetchone() == (True,)
    except PoolerError:
        return False


@contextmanager
def translate_errors(doing: str, target: PostgresTarget) -> Iterator[None]:
    """Turn psycopg's errors into a WarehouseError that names the operation, the server and the next step."""
    began = time.monotonic()
    try:
        yield
    except psycopg.Error as error:
        found = (error.diag.message_primary or str(error)).strip().rstrip(".")
        detail = f" ({error.diag.message_detail.strip().rstrip('.')})" if error.diag.message_detail else ""
        # After a lost connection it is unknown whether the commit succeeded.
        result = "Nothing was changed" if error.sqlstate else "The transaction is either committed or rolled back"
        limit = _limit_that_cut(error, target, time.monotonic() - began)
        advice = limit_advice(target, limit) if limit else _advice(error, target)
        message = f"{doing} at {target.place} failed: {found}{detail}. {result}. {advice}"
        kind = WarehouseUnavailableError if _can_pass(error) and not limit else WarehouseError
        raise kind(message) from error


def _can_pass(error: psycopg.Error) -> bool:
    # 08: connection, 40: deadlock or serialization, 53: no room or no connection, 57P: server going down, 55P03: lock.
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state[:2] in ("08", "40", "53") or state in ("55P03", "57P01", "57P02", "57P03")


def _advice(error: psycopg.Error, target: PostgresTarget) -> str:
    match error:
        case errors.LockNotAvailable():
            return lock_advice(target)
        case errors.QueryCanceled():
            return "Another session canceled the statement (pg_cancel_backend). Run it again."
        case errors.DiskFull() if names_shared_memory(str(error)):
            return shared_memory_advice(target)
        case errors.DiskFull():
            return "The server's disk is full. Free some space, then run it again."
        case errors.ReadOnlySqlTransaction():
            return (
                "The server is a standby, or its transactions are read-only by default. Set PG_HOST to another server, "
                f"or run: alter role {target.user} set default_transaction_read_only = off."
            )
        case errors.InsufficientPrivilege():
            return (
                f"{target.user} lacks the privilege. Make it owner of the schema, or grant it CREATE on the database."
            )
        case errors.InvalidSchemaName() | errors.UndefinedTable():
            return "A table or schema was dropped meanwhile. Run it again: it is created again."
        case errors.UndefinedColumn() | errors.WrongObjectType():
            return "A table or view of that name was made or altered by hand. Rename it, then run it again."
    return "Fix the cause, then run it again."


# The SQLSTATE of each timeout. A statement canceled by hand has that of statement_timeout, and the text that
# distinguishes the two is translated.
_LIMITS = {
    "57014": "statement_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}


def _limit_that_cut(error: psycopg.Error, target: PostgresTarget, seconds: float) -> str | None:
    """Return the timeout setting that ended an operation of `seconds`; None if no timeout did."""
    is_lost = error.sqlstate is None and isinstance(error, psycopg.OperationalError)
    limit = _LIMITS.get(error.sqlstate or "")
    if not is_lost and not isinstance(error, errors.QueryCanceled):
        return limit
    try:
        limits = session_limits(target)
    except (psycopg.Error, WarehouseError) as second:
        # A very short timeout cuts this query too.
        cause = second if isinstance(second, psycopg.Error) else second.__cause__
        return _LIMITS.get(getattr(cause, "sqlstate", None) or "")
    # A connection lost during a COPY loses the server's error message.
    return _limit_reached(limits, seconds) if is_lost else limit if limit in limits else None


def session_limits(target: PostgresTarget) -> Mapping[str, float]:
    """Return the timeouts that the server sets for this role's sessions, in seconds."""
    # One statement, outside a transaction: a session that a timeout ends between two statements may lose the message.
    with connect(target, autocommit=True) as connection:
        rows = connection.execute(
            "select name, setting::float8 / 1000 from pg_settings where name = any(%s) and setting <> '0'",
            [list(_LIMITS.values())],
        )
        return dict(rows.fetchall())


def _limit_reached(limits: Mapping[str, float], seconds: float) -> str | None:
    reached = [name for name in _LIMITS.values() if seconds >= limits.get(name, float("inf"))]
    return reached[0] if reached else None


def limit_advice(target: PostgresTarget, limit: str) -> str:
    """Return how to disable a timeout of the server for the role whose session it cut."""
    statement = sql.SQL("alter role {} in database {} set {} = 0").format(
        sql.Identifier(target.user), sql.Identifier(target.dbname), sql.SQL(limit)
    )
    return f"The server's {limit} ended it. Disable that for this role ({statement.as_string()}), then run it again."


def shared_memory_advice(target: PostgresTarget) -> str:
    """Return what to do where the server's processes cannot share memory."""
    statement = sql.SQL("alter role {} in database {} set max_parallel_workers_per_gather = 0").format(
        sql.Identifier(target.user), sql.Identifier(target.dbname)
    )
    return f"{SHARED_MEMORY_ADVICE}, or disable parallel queries ({statement.as_string()}), then run it again."


def advice_on_text(text: str, seconds: float, target: PostgresTarget) -> str | None:
    """Return what to do about an error of which only the text, in the server's language, and the duration are known.

    Returns None where those do not identify the cause, or the server cannot be asked for its timeouts.
    """
    if names_shared_memory(text):
        return shared_memory_advice(target)
    if "due to lock timeout" in text:
        return lock_advice(target)
    try:
        limit = _limit_reached(session_limits(target), seconds)
    except (psycopg.Error, WarehouseError):
        return None
    return limit_advice(target, limit) if limit else None


def lock_advice(target: PostgresTarget) -> str:
    """Return who holds the lock that a transaction waited for, and what to do."""
    try:
        holders = _lock_holders(target)
    except (psycopg.Error, WarehouseError):
        holders = "it cannot be named, because the server takes no further connection or query now"
    if not holders:
        return "Another session held the lock and has released it since. Run it again."
    return f"Another session holds the lock: {holders}. End that session, then run it again."


def _lock_holders(target: PostgresTarget) -> str:
    """Describe the sessions that hold table locks, writers first, without literals such as passwords; empty if none.

    A reader blocks a changed view and --full-refresh only. Its transaction is listed if it is older than the wait
    for the lock, idle, or of unknown age, as those of other roles are for a role that is no superuser.
    """
    with connect(target) as connection:
        rows = connection.execute(
            """
            select
                a.pid, a.usename, a.application_name,
                left(regexp_replace(a.query, '''[^'']*(''|$)', '''…''', 'g'), 80)
            from pg_locks l join pg_stat_activity a using (pid)
            where l.granted and l.locktype in ('relation', 'advisory') and a.pid <> pg_backend_pid()
              and a.datname = current_database() and a.leader_pid is null and a.state is distinct from 'idle'
              and (
                  l.mode not in ('AccessShareLock', 'RowShareLock')
                  or a.state like 'idle in transaction%'
                  or a.xact_start is null
                  or a.xact_start < clock_timestamp() - current_setting('lock_timeout')::interval
              )
            group by a.pid, a.usename, a.application_name, a.xact_start, a.query
            order by bool_and(l.mode in ('AccessShareLock', 'RowShareLock')), a.xact_start
            limit 5
            """
        ).fetchall()
    return "; ".join(f"process {pid} of {user} ({name or 'unnamed'}), in {query!r}" for pid, user, name, query in rows)
