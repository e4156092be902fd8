"""Where a PostgreSQL is, and a connection to it. What is done over the connection belongs elsewhere."""

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
    """PostgreSQL could not do what was asked; the message says what, where, and what to do now."""


class WarehouseUnavailableError(WarehouseError):
    """PostgreSQL could not be reached or dropped the connection: trying again can help."""


class PoolerError(WarehouseError):
    """A pooler stands before PostgreSQL and refuses what a session was to be started with."""


@contextmanager
def connect(
    target: PostgresTarget, *, autocommit: bool = False, snapshot: bool = False, options: str | None = None
) -> Iterator[psycopg.Connection]:
    """A connection that commits when the block ends well and rolls back when it does not.

    With `snapshot` all statements see the data of one moment.
    `options` are libpq's, for the whole session; without them those of PGOPTIONS.
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
            # A server that vanished without a word is noticed in half a minute, not in two hours.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=4,
            # The transaction is begun here, with its settings in the same round trip.
            autocommit=True,
            # Through a pooler the next transaction may have another server process, which has not prepared it.
            prepare_threshold=None,
        )
    except psycopg.OperationalError as error:
        failed = f"Connecting to PostgreSQL at {target.place} failed: {str(error).strip()}. "
        if POOLER_REFUSES in failed:
            raise PoolerError(f"{failed}A pooler is in between, which takes no settings: unset PGOPTIONS.") from error
        raise WarehouseUnavailableError(
            f"{failed}Check that it runs and that PG_HOST, PG_PORT, PG_USER, PG_PASSWORD, PG_DBNAME and PG_SSLMODE are "
            "right."
        ) from error
    with connection:
        if not autocommit:
            settings = transaction_settings(target.lock_timeout, snapshot=snapshot)
            connection.execute(sql.SQL("begin; {}").format(settings))
        yield connection


def passes_options(target: PostgresTarget) -> bool:
    """Whether what a session is started with reaches the server; poolers refuse it, or drop it where told to."""
    try:
        with connect(target, autocommit=True, options=f"-c {MARK}=on") as connection:
            return connection.execute(MARKED).fetchone() == (True,)
    except PoolerError:
        return False


@contextmanager
def translate_errors(doing: str, target: PostgresTarget) -> Iterator[None]:
    """Turn what psycopg raises into a WarehouseError that says what was being done, where, and the way out."""
    began = time.monotonic()
    try:
        yield
    except psycopg.Error as error:
        found = (error.diag.message_primary or str(error)).strip().rstrip(".")
        detail = f" ({error.diag.message_detail.strip().rstrip('.')})" if error.diag.message_detail else ""
        # Of a connection that is lost nobody knows whether the commit went through.
        result = "Nothing was changed" if error.sqlstate else "Nothing is half-done"
        limit = _limit_that_cut(error, target, time.monotonic() - began)
        way_out = limit_advice(target, limit) if limit else _way_out(error, target)
        message = f"{doing} at {target.place} failed: {found}{detail}. {result}. {way_out}"
        kind = WarehouseUnavailableError if _can_pass(error) and not limit else WarehouseError
        raise kind(message) from error


def _can_pass(error: psycopg.Error) -> bool:
    # 08: connection, 40: deadlock or serialization, 53: no room or no connection, 57P: server going down, 55P03: lock.
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state[:2] in ("08", "40", "53") or state in ("55P03", "57P01", "57P02", "57P03")


def _way_out(error: psycopg.Error, target: PostgresTarget) -> str:
    match error:
        case errors.LockNotAvailable():
            return lock_advice(target)
        case errors.QueryCanceled():
            return "Somebody canceled it (pg_cancel_backend): run it again."
        case errors.DiskFull() if names_shared_memory(str(error)):
            return shared_memory_advice(target)
        case errors.DiskFull():
            return "The server's disk is full: make room, then run it again."
        case errors.ReadOnlySqlTransaction():
            return (
                "The server takes no writes (a standby), or only read-only transactions by default: point PG_HOST at "
                f"another, or run: alter role {target.user} set default_transaction_read_only = off."
            )
        case errors.InsufficientPrivilege():
            return f"{target.user} may not do that: it has to own the schema, or may make it (CREATE on the database)."
        case errors.InvalidSchemaName() | errors.UndefinedTable():
            return "A table or schema was dropped meanwhile: run it again, it is made anew."
        case errors.UndefinedColumn() | errors.WrongObjectType():
            return "Somebody made or altered a table or view of that name by hand: rename it, then run it again."
    return "Run it again once that is mended."


# What PostgreSQL answers when one of its limits of time cuts a session. Whoever cancels a statement by hand gets the
# answer of statement_timeout, and in another language nobody could tell the two by their text.
_LIMITS = {
    "57014": "statement_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}


def _limit_that_cut(error: psycopg.Error, target: PostgresTarget, seconds: float) -> str | None:
    """The setting of the server that ended what took so many seconds; None where it was none."""
    is_lost = error.sqlstate is None and isinstance(error, psycopg.OperationalError)
    limit = _LIMITS.get(error.sqlstate or "")
    if not is_lost and not isinstance(error, errors.QueryCanceled):
        return limit
    try:
        limits = session_limits(target)
    except (psycopg.Error, WarehouseError) as second:
        # A limit that is short enough cuts the question too.
        cause = second if isinstance(second, psycopg.Error) else second.__cause__
        return _LIMITS.get(getattr(cause, "sqlstate", None) or "")
    # With the connection goes the server's last word, if a COPY was on its way.
    return _limit_reached(limits, seconds) if is_lost else limit if limit in limits else None


def session_limits(target: PostgresTarget) -> Mapping[str, float]:
    """The server's limits of time upon our sessions, in seconds, of those that are set."""
    with connect(target) as connection:
        rows = connection.execute(
            "select name, setting::float8 / 1000 from pg_settings where name = any(%s) and setting <> '0'",
            [list(_LIMITS.values())],
        )
        return dict(rows.fetchall())


def _limit_reached(limits: Mapping[str, float], seconds: float) -> str | None:
    reached = [name for name in _LIMITS.values() if seconds >= limits.get(name, float("inf"))]
    return reached[0] if reached else None


def limit_advice(target: PostgresTarget, limit: str) -> str:
    """How to lift a limit of time of the server for the role that was cut by it."""
    statement = sql.SQL("alter role {} in database {} set {} = 0").format(
        sql.Identifier(target.user), sql.Identifier(target.dbname), sql.SQL(limit)
    )
    return f"The server's {limit} cut it: lift that for this role ({statement.as_string()}), then run it again."


def shared_memory_advice(target: PostgresTarget) -> str:
    """What to do where processes of the server cannot share memory."""
    statement = sql.SQL("alter role {} in database {} set max_parallel_workers_per_gather = 0").format(
        sql.Identifier(target.user), sql.Identifier(target.dbname)
    )
    return f"{SHARED_MEMORY_ADVICE}, or do without parallel queries ({statement.as_string()}), then run it again."


def advice_on_text(text: str, seconds: float, target: PostgresTarget) -> str | None:
    """What to do about an error of which nothing but its text is known, in the server's language, and how long it took.

    Returns None where that says too little.
    """
    if names_shared_memory(text):
        return shared_memory_advice(target)
    if "due to lock timeout" in text:
        return lock_advice(target)
    limit = _limit_reached(session_limits(target), seconds)
    return limit_advice(target, limit) if limit else None


def lock_advice(target: PostgresTarget) -> str:
    """Who holds the lock that was waited for in vain, and what to do about it."""
    return f"Somebody holds a lock that is needed: {_lock_holders(target)}. End that, then run it again."


def _lock_holders(target: PostgresTarget) -> str:
    """Who holds table locks, oldest transaction first, in words."""
    with connect(target) as connection:
        rows = connection.execute(
            """
            select distinct a.pid, a.usename, a.application_name, a.xact_start, left(a.query, 80)
            from pg_locks l join pg_stat_activity a using (pid)
            where l.granted and l.locktype in ('relation', 'advisory') and a.pid <> pg_backend_pid()
              and a.datname = current_database() and l.mode not in ('AccessShareLock', 'RowShareLock')
              and a.xact_start is not null
               or a.state like 'idle in transaction%' and a.datname = current_database()
            order by a.xact_start
            limit 5
            """
        ).fetchall()
    holders = [f"process {pid} of {user} ({name or 'unnamed'}), in {query!r}" for pid, user, name, _, query in rows]
    return "; ".join(holders) or "it has let go of it meanwhile"
