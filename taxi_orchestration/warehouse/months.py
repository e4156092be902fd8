"""A month of raw_trips replaced whole, in one transaction. What a column means is in the contract."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType

import psycopg
import pyarrow as pa
from psycopg import sql

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.warehouse.copy import copy_month
from taxi_orchestration.warehouse.load_log import LoadedFile, log_load, refuse_older
from taxi_orchestration.warehouse.warehouse import Warehouse, define_columns


@dataclass(frozen=True)
class ReplacedMonth:
    """What `replace_month` did: the file that the month now is, and the rows that it had before."""

    file: LoadedFile
    rows_before: int


def replace_month(
    warehouse: Warehouse,
    file: LoadedFile,
    arrow_schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    new_columns: Mapping[str, str] = MappingProxyType({}),
    on_rows: Callable[[int], None] = lambda rows: None,
    asked_at: float | None = None,
) -> ReplacedMonth:
    """Make `file`'s month of raw_trips exactly the rows of `batches`, and raw_loads say so, in one transaction.

    `batches` all have `arrow_schema`: columns of raw_trips, or of `new_columns`, which are added with these types.
    Other months, and other processes at the same month, may be loaded at the same time; readers are never waited for
    (but for a new column), and see the old month or the new one. `on_rows` is told of rows as they are sent.

    With `asked_at`, the time.perf_counter() at which the file was asked for, a newer file that was loaded since then
    stays: NewerFileLoadedError. One that is older than what was loaded before replaces it: the TLC took an issue back.

    Raises WarehouseError, and whatever `batches` raises; the month is then as it was.
    """
    child = f"raw_trips_{file.source_month:%Y_%m}"
    with warehouse.connect(f"Loading {file.source_month:%Y-%m} into {warehouse.schema}.raw_trips") as connection:
        warehouse.lock(connection, child)
        if asked_at is not None:
            refuse_older(connection, warehouse, file, asked_at)
        _add_columns(connection, warehouse, new_columns)
        exists = _is_partition(connection, warehouse, child)
        rows_before = 0
        if exists:
            # Not TRUNCATE, not a swap of tables: both wait for everybody who has read the month in an open transaction.
            rows_before = connection.execute(sql.SQL("delete from {}").format(warehouse.identifier(child))).rowcount
        else:
            _create_child(connection, warehouse, child, file.source_month)
        copied, rows_sha256 = copy_month(
            connection, warehouse, child, file.source_month, arrow_schema, batches, on_rows
        )
        if copied != file.rows:
            raise WarehouseError(
                f"Loading {file.source_month:%Y-%m} from {file.url}: the file says {file.rows} rows, PostgreSQL took "
                f"{copied}. Nothing was changed. Load the month again."
            )
        if not exists:
            _attach(connection, warehouse, child, file.source_month)
        file = replace(file, rows_sha256=rows_sha256)
        log_load(connection, warehouse, file)
    return ReplacedMonth(file, rows_before)


def _add_columns(connection: psycopg.Connection, warehouse: Warehouse, columns: Mapping[str, str]) -> None:
    """Add those that raw_trips lacks. After this no other process can, until this transaction ends."""
    table = warehouse.identifier("raw_trips")
    # ALTER waits for every reader even where there is nothing to add. And whoever locks raw_trips does it before its
    # partitions: COPY into a partition looks at raw_trips late, and two loads in opposite orders would wait for ever.
    present = warehouse.column_types(connection, "raw_trips")
    missing = [define_columns({name: kind}) for name, kind in columns.items() if name not in present]
    if not missing:
        connection.execute(sql.SQL("lock table {} in access share mode").format(table))
    for column in missing:
        connection.execute(sql.SQL("alter table {} add column if not exists {}").format(table, column))


def _is_partition(connection: psycopg.Connection, warehouse: Warehouse, child: str) -> bool:
    row = connection.execute(
        sql.SQL("select inhparent = {} from pg_class left join pg_inherits on inhrelid = oid where oid = {}").format(
            warehouse.regclass("raw_trips"), warehouse.regclass(child)
        )
    ).fetchone()
    if row is not None and not row[0]:
        raise WarehouseError(
            f"{warehouse.schema}.{child} exists but is no partition of {warehouse.schema}.raw_trips: somebody made or "
            "detached it by hand. Attach, rename or drop it, then load the month again."
        )
    return row is not None


def _create_child(connection: psycopg.Connection, warehouse: Warehouse, child: str, month: date) -> None:
    # With the check constraint ATTACH believes that the rows belong to the month, without reading them again.
    connection.execute(
        sql.SQL("create table {} (like {} including comments, constraint is_month check (source_month = {}))").format(
            warehouse.identifier(child), warehouse.identifier("raw_trips"), sql.Literal(month)
        )
    )


def _attach(connection: psycopg.Connection, warehouse: Warehouse, child: str, month: date) -> None:
    name = warehouse.identifier(child)
    # The key after the rows: an index built over them sorted costs a quarter of one that grows row by row.
    connection.execute(sql.SQL("alter table {} add primary key (source_month, source_row)").format(name))
    # Until autovacuum comes by, PostgreSQL takes one in 200 rows for one of this month, and plans accordingly. A small
    # sample shows that all are; the other columns are left to autovacuum, which still comes for them.
    connection.execute("set local default_statistics_target = 1")
    connection.execute(sql.SQL("analyze {} (source_month)").format(name))
    connection.execute(
        sql.SQL("alter table {} attach partition {} for values in ({})").format(
            warehouse.identifier("raw_trips"), name, sql.Literal(month)
        )
    )
    connection.execute(sql.SQL("alter table {} drop constraint is_month").format(name))
