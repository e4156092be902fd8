"""The schema that dbt builds in: one build at a time, and the tables of an earlier version under their new names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from taxi_orchestration.postgres.connection import connect, explained
from taxi_orchestration.settings import PostgresTarget

# The names of tables up to version 0.1, and those of today.
RENAMED = {
    "undocumented_codes": "int_undocumented_codes",
    "daily_zone_activity_by_file": "int_daily_zone_activity_by_file",
    "monthly_revenue_by_file": "int_monthly_revenue_by_file",
}


@contextmanager
def one_build(target: PostgresTarget, schema: str, log: Callable[[str], None]) -> Iterator[psycopg.Connection]:
    """Keep every other build out of the schema for the time of the block, whatever process or machine it is on.

    dbt swaps views by renaming, and drops what stands on them: of two builds at once each would find relations of the
    other's. The lock is that of the connection, and waits as long as the other build takes.
    """
    with explained(f"Beginning a build in schema {schema}", target), connect(target, autocommit=True) as connection:
        lock = [f"{schema}.dbt"]
        if connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", lock).fetchone() == (False,):
            log(f"Another dbt builds in schema {schema}: this one begins when that has ended.")
            connection.execute("set lock_timeout = 0")
            connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", lock)
            connection.execute("reset lock_timeout")
        _rename_tables(connection, schema, log)
        yield connection


def _rename_tables(connection: psycopg.Connection, schema: str, log: Callable[[str], None]) -> None:
    """Give the tables of an earlier version their new names; views upon them go on reading them."""
    names = [*RENAMED, *RENAMED.values()]
    rows = connection.execute(
        "select name from unnest(%s::text[]) as name where to_regclass(%s || '.' || name) is not null", [names, schema]
    )
    there = {name for (name,) in rows}
    for old, new in RENAMED.items():
        if old in there:
            table = sql.Identifier(schema, old)
            rename = sql.SQL("alter table {} rename to {}").format(table, sql.Identifier(new))
            connection.execute(sql.SQL("drop table {}").format(table) if new in there else rename)
            log(f"{schema}.{old}, a table of an earlier version, is {'dropped' if new in there else 'renamed'}: {new}.")
