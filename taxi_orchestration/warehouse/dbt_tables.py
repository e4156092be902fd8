"""The schema that dbt builds in: one build at a time, and the tables of version 0.1."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from taxi_orchestration.warehouse.warehouse import Warehouse

# Tables that only version 0.1 filled, by month, and that nothing reads any more.
TABLES_OF_0_1 = ("daily_zone_activity_by_file", "monthly_revenue_by_file", "undocumented_codes")


@contextmanager
def one_build(warehouse: Warehouse, log: Callable[[str], None]) -> Iterator[psycopg.Connection]:
    """Hold the build lock of the schema during the block, against other processes and machines.

    dbt replaces views by renaming them and drops dependent views, so that concurrent builds would break each other. An
    open transaction holds the lock; waiting for another build has no timeout.
    """
    schema = warehouse.schema
    with warehouse.connect(f"Beginning a build in schema {schema}") as connection:
        # The transaction is idle while dbt runs.
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        if not warehouse.try_lock(connection, "dbt"):
            log(f"Another dbt build runs in schema {schema}. This build waits until it ends.")
            connection.execute("set local lock_timeout = 0")
            warehouse.lock(connection, "dbt")
        try:
            yield connection
        finally:
            # A server that stopped while dbt ran has released the lock.
            with suppress(psycopg.OperationalError):
                connection.rollback()


def find_tables_of_0_1(warehouse: Warehouse) -> list[str]:
    """Return the tables in the schema that only version 0.1 filled; a table without months is not of this project."""
    with warehouse.connect(f"Looking into schema {warehouse.schema}") as connection:
        there = warehouse.find_tables(connection, TABLES_OF_0_1)
        return sorted(table for table in there if "source_month" in warehouse.column_types(connection, table))


def drop_tables(warehouse: Warehouse, tables: Collection[str]) -> None:
    """Drop these tables if they exist, with the views that read them."""
    drop = sql.SQL("drop table if exists {} cascade").format(sql.SQL(", ").join(map(warehouse.identifier, tables)))
    with warehouse.connect(f"Dropping tables of version 0.1 in schema {warehouse.schema}") as connection:
        connection.execute(drop)
