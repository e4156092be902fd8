"""Replacing a month of raw_trips in one transaction. The meaning of columns belongs to the contract."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType

import psycopg
import pyarrow as pa
from psycopg import sql

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.tlc.dataset import POSTGRES_TYPES
from taxi_orchestration.warehouse.copy import copy_month
from taxi_orchestration.warehouse.load_log import LoadedFile, log_load, refuse_older
from taxi_orchestration.warehouse.raw_tables import partition_of
from taxi_orchestration.warehouse.warehouse import Warehouse, define_columns


class ColumnAddedError(WarehouseError):
    """Another process added a new column with another type during a download."""


@dataclass(frozen=True)
class ReplacedMonth:
    """The result of `replace_month`: the loaded file, and the row count before."""

    file: LoadedFile
    rows_before: int


def replace_month(
    warehouse: Warehouse,
    file: LoadedFile,
    arrow_schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    new_columns: Mapping[str, str] = MappingProxyType({}),
    on_rows: Callable[[int], None] = lambda rows: None,
    requested_at: float | None = None,
) -> ReplacedMonth:
    """Replace the month of `file` in raw_trips by the rows of `batches`, and its row in raw_loads, in one transaction.

    `batches` all have `arrow_schema`: columns of raw_trips, or of `new_columns`, which are added with these types.
    Concurrent loads of other months and of the same month are safe. Readers see the old month or the new month, and
    only a new column waits for them. `on_rows` is called with the number of rows of each batch sent.

    `requested_at` is the time.perf_counter() of the file's request: a newer file that was loaded since then stays, and
    this raises NewerFileLoadedError. An older file replaces what was loaded before: the TLC withdrew an issue.

    Raises ColumnAddedError if another process has just added a new column with another type, WarehouseError, and
    whatever `batches` raises; the month is then unchanged.
    """
    child = partition_of(file.source_month)
    with warehouse.connect(f"Loading {file.source_month:%Y-%m} into {warehouse.schema}.raw_trips") as connection:
        warehouse.lock(connection, child)
        if requested_at is not None:
            refuse_older(connection, warehouse, file, requested_at)
        _add_columns(connection, warehouse, new_columns)
        exists = _is_partition(connection, warehouse, child)
        rows_before = 0
        if exists:
            # TRUNCATE and a swap of tables would wait for every open transaction that has read the month.
            rows_before = connection.execute(sql.SQL("delete from {}").format(warehouse.identifier(child))).rowcount
        else:
            _create_child(connection, warehouse, child, file.source_month)
        copied, rows_sha256 = copy_month(
            connection, warehouse, child, file.source_month, arrow_schema, batches, on_rows, ",".join(new_columns)
        )
        if copied != file.rows:
            raise WarehouseError(
                f"Loading {file.source_month:%Y-%m} from {file.url} failed: the file has {file.rows} rows, PostgreSQL "
                f"copied {copied}. Nothing was changed. Load the month again."
            )
        if not exists:
            _attach(connection, warehouse, child, file.source_month)
        file = replace(file, rows_sha256=rows_sha256)
        log_load(connection, warehouse, file)
    return ReplacedMonth(file, rows_before)


def _add_columns(connection: psycopg.Connection, warehouse: Warehouse, columns: Mapping[str, str]) -> None:
    """Add the columns that raw_trips lacks, and keep other processes from adding any until the transaction ends."""
    table = warehouse.identifier("raw_trips")
    # ALTER waits for every reader even if nothing is missing. raw_trips is locked before its partitions: COPY into a
    # partition locks raw_trips late, and two loads in opposite orders would deadlock.
    present = warehouse.column_types(connection, "raw_trips")
    missing = [define_columns({name: kind}) for name, kind in columns.items() if name not in present]
    if not missing:
        connection.execute(sql.SQL("lock table {} in access share mode").format(table))
    for column in missing:
        connection.execute(sql.SQL("alter table {} add column if not exists {}").format(table, column))
    types = warehouse.column_types(connection, "raw_trips") if missing else present
    # A type that no load adds was made by hand: copy_month refuses it, with the statement that changes it.
    loadable = POSTGRES_TYPES.values()
    differing = {name: types[name] for name, kind in columns.items() if types[name] != kind}
    if other := [f"{name} as {found}" for name, found in differing.items() if found in loadable]:
        raise ColumnAddedError(
            f"Adding columns to {warehouse.schema}.raw_trips failed: another process has added {', '.join(other)} "
            "meanwhile. Nothing was changed. Load the month again."
        )


def _is_partition(connection: psycopg.Connection, warehouse: Warehouse, child: str) -> bool:
    row = connection.execute(
        sql.SQL("select inhparent = {} from pg_class left join pg_inherits on inhrelid = oid where oid = {}").format(
            warehouse.regclass("raw_trips"), warehouse.regclass(child)
        )
    ).fetchone()
    if row is not None and not row[0]:
        raise WarehouseError(
            f"{warehouse.schema}.{child} exists but is not a partition of {warehouse.schema}.raw_trips: it was made or "
            "detached by hand. Attach, rename or drop it, then load the month again."
        )
    return row is not None


def _create_child(connection: psycopg.Connection, warehouse: Warehouse, child: str, month: date) -> None:
    # The check constraint spares ATTACH a scan of the rows.
    connection.execute(
        sql.SQL("create table {} (like {} including comments, constraint is_month check (source_month = {}))").format(
            warehouse.identifier(child), warehouse.identifier("raw_trips"), sql.Literal(month)
        )
    )


def _attach(connection: psycopg.Connection, warehouse: Warehouse, child: str, month: date) -> None:
    name = warehouse.identifier(child)
    # Building the index after the rows costs a quarter of growing it row by row.
    connection.execute(sql.SQL("alter table {} add primary key (source_month, source_row)").format(name))
    # Without statistics the planner expects one in 200 rows to be of this month. A small sample corrects that;
    # autovacuum analyzes the other columns later.
    connection.execute("set local default_statistics_target = 1")
    connection.execute(sql.SQL("analyze {} (source_month)").format(name))
    connection.execute(
        sql.SQL("alter table {} attach partition {} for values in ({})").format(
            warehouse.identifier("raw_trips"), name, sql.Literal(month)
        )
    )
    connection.execute(sql.SQL("alter table {} drop constraint is_month").format(name))
