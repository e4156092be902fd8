"""Interference of other sessions with the tables while the pipeline runs: locks, refused rows and lost rows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date

import psycopg
from psycopg import sql

from taxi_orchestration.postgres.connection import connect
from taxi_orchestration.settings import PostgresTarget

RefuseRows = Callable[[str], AbstractContextManager[None]]


@contextmanager
def table_lock(target: PostgresTarget, schema: str, table: str) -> Iterator[psycopg.Connection]:
    """Hold a lock on a table in another session for the duration of the block, so that writers of the table wait."""
    with psycopg.connect(target.url(), application_name="other_session") as connection:
        connection.execute(sql.SQL("lock table {} in exclusive mode").format(sql.Identifier(schema, table)))
        yield connection
        connection.rollback()


def is_waiting_for_lock(target: PostgresTarget, schema: str, table: str) -> bool:
    """Return whether a session waits for a lock on a table."""
    with psycopg.connect(target.url()) as connection:
        row = connection.execute(
            "select exists (select from pg_locks where not granted and relation = to_regclass(%s))",
            [f"{schema}.{table}"],
        ).fetchone()
    return bool(row and row[0])


def find_copy_pid(target: PostgresTarget, schema: str) -> int | None:
    """Return the server process id of a COPY that has processed rows for a table of the schema, or None."""
    with psycopg.connect(target.url()) as connection:
        row = connection.execute(
            """
            select p.pid from pg_stat_progress_copy p join pg_class c on c.oid = p.relid
            where c.relnamespace = to_regnamespace(%s) and p.tuples_processed > 0
            """,
            [schema],
        ).fetchone()
    return row[0] if row else None


@contextmanager
def row_deleting_trigger(target: PostgresTarget, schema: str, month: date) -> Iterator[None]:
    """Delete a row of a month by a trigger when the loader records the month, for the duration of the block."""
    statements = [
        "create function {schema}.delete_first_row() returns trigger language plpgsql as $$ begin "
        "delete from {schema}.raw_trips where source_month = new.source_month and source_row = 1; return new; end $$",
        "create trigger delete_first_row after insert or update on {schema}.raw_loads for each row "
        "when (new.source_month = {month}) execute function {schema}.delete_first_row()",
    ]
    with connect(target) as connection:
        for statement in statements:
            connection.execute(sql.SQL(statement).format(schema=sql.Identifier(schema), month=sql.Literal(month)))
    try:
        yield
    finally:
        with connect(target) as connection:
            connection.execute(sql.SQL("drop function {}.delete_first_row cascade").format(sql.Identifier(schema)))
