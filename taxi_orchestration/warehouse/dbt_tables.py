"""The schema that dbt builds in: one build at a time, and the tables of an earlier version under their new names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from taxi_orchestration.warehouse.warehouse import Warehouse

# The names of tables up to version 0.1, and those of today.
RENAMED = {
    "undocumented_codes": "int_undocumented_codes",
    "monthly_revenue_by_file": "int_monthly_revenue_by_file",
}


@contextmanager
def one_build(warehouse: Warehouse, log: Callable[[str], None]) -> Iterator[psycopg.Connection]:
    """Keep every other build out of the schema for the time of the block, whatever process or machine it is on.

    dbt swaps views by renaming, and drops what stands on them: of two builds at once each would find relations of the
    other's. The lock is that of the connection, and waits as long as the other build takes.
    """
    schema = warehouse.schema
    with warehouse.connect(f"Beginning a build in schema {schema}", autocommit=True) as connection:
        lock = [f"{schema}.dbt"]
        if connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", lock).fetchone() == (False,):
            log(f"Another dbt builds in schema {schema}: this one begins when that has ended.")
            connection.execute("set lock_timeout = 0")
            connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", lock)
            connection.execute("reset lock_timeout")
        _rename_tables(connection, warehouse, log)
        yield connection


def _rename_tables(connection: psycopg.Connection, warehouse: Warehouse, log: Callable[[str], None]) -> None:
    """Give the tables of an earlier version their new names; views upon them go on reading them."""
    there = warehouse.find_tables(connection, [*RENAMED, *RENAMED.values()])
    for old, new in RENAMED.items():
        if old in there:
            table = warehouse.identifier(old)
            rename = sql.SQL("alter table {} rename to {}").format(table, sql.Identifier(new))
            connection.execute(sql.SQL("drop table {}").format(table) if new in there else rename)
            done = "dropped" if new in there else "renamed"
            log(f"{warehouse.schema}.{old}, a table of an earlier version, is {done}: {new}.")
