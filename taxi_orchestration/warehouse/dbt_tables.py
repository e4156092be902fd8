"""The schema that dbt builds in: one build at a time, and renamed tables of earlier versions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from taxi_orchestration.warehouse.warehouse import Warehouse

# Table names up to version 0.1, and current names.
RENAMED = {
    "undocumented_codes": "int_undocumented_codes",
    "monthly_revenue_by_file": "int_monthly_revenue_by_file",
}


@contextmanager
def one_build(warehouse: Warehouse, log: Callable[[str], None]) -> Iterator[psycopg.Connection]:
    """Hold the build lock of the schema during the block, against other processes and machines.

    dbt replaces views by renaming them and drops dependent views, so that concurrent builds would break each other. An
    open transaction holds the lock; waiting for another build has no timeout.
    """
    schema = warehouse.schema
    doing = f"Beginning a build in schema {schema}"
    with warehouse.connect(doing) as connection:
        # The transaction is idle while dbt runs.
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        if not warehouse.try_lock(connection, "dbt"):
            log(f"Another dbt build runs in schema {schema}. This build waits until it ends.")
            connection.execute("set local lock_timeout = 0")
            warehouse.lock(connection, "dbt")
        with warehouse.connect(doing) as renaming:
            _rename_tables(renaming, warehouse, log)
        try:
            yield connection
        finally:
            # A server that stopped while dbt ran has released the lock.
            with suppress(psycopg.OperationalError):
                connection.rollback()


def _rename_tables(connection: psycopg.Connection, warehouse: Warehouse, log: Callable[[str], None]) -> None:
    """Rename the tables of an earlier version; dependent views keep reading them."""
    there = warehouse.find_tables(connection, [*RENAMED, *RENAMED.values()])
    for old, new in RENAMED.items():
        if old in there:
            table = warehouse.identifier(old)
            rename = sql.SQL("alter table {} rename to {}").format(table, sql.Identifier(new))
            connection.execute(sql.SQL("drop table {}").format(table) if new in there else rename)
            done = "dropped" if new in there else "renamed"
            log(f"{warehouse.schema}.{old}, a table of an earlier version, is {done}. Its new name is {new}.")
