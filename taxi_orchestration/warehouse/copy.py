"""Binary COPY of Arrow batches into a table. A table with other types than the batches is refused."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from datetime import date

import psycopg
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import sql

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.tlc.dataset import KEY_COLUMNS, POSTGRES_TYPES
from taxi_orchestration.warehouse.read_ahead import read_ahead
from taxi_orchestration.warehouse.warehouse import Warehouse

_KEY = [pa.field(column.name, pa.type_for_alias(column.type)) for column in KEY_COLUMNS]
# The PostgreSQL type that the encoder writes for each Arrow type.
_POSTGRES_TYPES = {pa.type_for_alias(alias): name for alias, name in POSTGRES_TYPES.items()}
# Encoded batches that wait for the server: with 65,536 rows of 21 columns a batch is 14 MB.
BATCHES_AHEAD = 2


def arrow_types(warehouse: Warehouse, table: str) -> dict[str, pa.DataType]:
    """Return the Arrow type of each column of a table that has one."""
    by_name = {name: kind for kind, name in _POSTGRES_TYPES.items()}
    with warehouse.connect(f"Looking into {warehouse.schema}.{table}") as connection:
        found = warehouse.column_types(connection, table)
    return {column: by_name[kind] for column, kind in found.items() if kind in by_name}


def copy_month(
    connection: psycopg.Connection,
    warehouse: Warehouse,
    child: str,
    month: date,
    arrow_schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    on_rows: Callable[[int], None],
    new_columns: str,
) -> tuple[int, str]:
    """Copy the batches, after the key columns, into a partition; return the row count and the sha256 of the rows.

    The sent data has no names of columns, so the sha256 begins with those of the `new_columns`, which differ by file.
    Raises WarehouseError where the partition has other types than the batches.
    """
    _check_types(warehouse, child, arrow_schema, warehouse.column_types(connection, child))
    full_schema = pa.schema([*_KEY, *arrow_schema])
    # Without FREEZE: frozen rows would be visible to older snapshots.
    statement = sql.SQL("copy {} ({}) from stdin with (format binary)").format(
        warehouse.identifier(child), sql.SQL(", ").join(map(sql.Identifier, full_schema.names))
    )
    cursor, digest = connection.cursor(), hashlib.sha256(new_columns.encode())
    with (
        cursor.copy(statement) as copy,
        read_ahead(_encode(batches, full_schema, month, digest), BATCHES_AHEAD) as encoded,
    ):
        for rows, data in encoded:
            copy.write(data)
            on_rows(rows)
    return cursor.rowcount, digest.hexdigest()


def _check_types(warehouse: Warehouse, child: str, arrow_schema: pa.Schema, found: dict[str, str]) -> None:
    """Refuse a table with other types than the batches: binary COPY would store garbage."""
    for field in arrow_schema:
        expected = _POSTGRES_TYPES[field.type]
        if found.get(field.name) != expected:
            change = f"alter column {field.name} type" if field.name in found else f"add column {field.name}"
            raise WarehouseError(
                f"{warehouse.schema}.{child}.{field.name} should be {expected}, but is "
                f"{found.get(field.name, 'missing')}: raw_trips was altered by hand, or the contract is newer than the "
                f"table. Nothing was changed. Run: alter table {warehouse.schema}.raw_trips {change} "
                f"{expected}; then load the month again."
            )


def _encode(
    batches: Iterable[pa.RecordBatch], full_schema: pa.Schema, month: date, digest: "hashlib._Hash"
) -> Iterator[tuple[int, bytes]]:
    """Encode the batches, after the two key columns, in PostgreSQL's binary COPY format; yield (rows, bytes)."""
    encoder = ArrowToPostgresBinaryEncoder(full_schema)
    yield 0, encoder.write_header()
    first_row = 1
    for batch in batches:
        rows = batch.num_rows
        key = [pa.repeat(pa.scalar(month), rows), pa.arange(first_row, first_row + rows).cast(pa.int32())]
        data = encoder.write_batch(pa.RecordBatch.from_arrays(key + batch.columns, schema=full_schema))
        digest.update(data)
        yield rows, data
        first_row += rows
    # The encoder holds back a partly filled buffer: for a small month that is all rows.
    last = encoder.finish()
    digest.update(last)
    yield 0, last
