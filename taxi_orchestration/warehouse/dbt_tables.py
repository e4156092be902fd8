"""The schema that dbt builds in: one build at a time, and the tables of an earlier version under their new names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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
    other's. The lock is that of an open transaction, and waits as long as the other build takes.
    """
    schema = warehouse.schema
    doing = f"Beginning a build in schema {schema}"
    with warehouse.connect(doing) as connection:
        # It is idle for as long as dbt takes.
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        lock = [f"{schema}.dbt"]
        if connection.execute("select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", lock).fetchone() == (False,):
            log(f"Another dbt builds in schema {schema}: this one begins when that has ended.")
            connection.execute("set local lock_timeout = 0")
            connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", lock)
        with warehouse.connect(doing) as renaming:
            _rename_tables(renaming, warehouse, log)
        try:
            yield connection
        finally:
            # Where the server went down while dbt ran the lock is gone already.
            with suppress(psycopg.OperationalError):
                connection.rollback()


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
