"""The content of months in their file and in the database, read without any code under test."""

import hashlib
import io
from dataclasses import dataclass
from datetime import date

import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from taxi_orchestration.settings import PostgresTarget

Row = tuple[object, ...]

JANUARY, FEBRUARY, MARCH = date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)


@dataclass(frozen=True)
class MonthContent:
    """The content of a month: the digest of its file, and its rows in file order, each as values by column name."""

    sha256: str
    rows: tuple[frozenset[tuple[str, object]], ...]


def _row(names: list[str], values: Row) -> frozenset[tuple[str, object]]:
    # Nulls are left out: a column that is missing in the file is null in the table, and the other way round.
    return frozenset((n.lower(), v) for n, v in zip(names, values, strict=True) if v is not None)


def content_of_file(data: bytes) -> MonthContent:
    """Return the content that a month must have after a load of the file."""
    table = pq.read_table(io.BytesIO(data))
    columns = [column.to_pylist() for column in table.columns]
    rows = tuple(_row(table.column_names, values) for values in zip(*columns, strict=True))
    return MonthContent(hashlib.sha256(data).hexdigest(), rows)


def contents_of_database(connection: psycopg.Connection, schema: str) -> dict[date, MonthContent]:
    """Return the content of all months in raw_loads and raw_trips. Fails if a month is in only one of the tables."""
    digests: dict[date, str] = dict(
        connection.execute(
            sql.SQL("select source_month, sha256 from {}").format(sql.Identifier(schema, "raw_loads"))
        ).fetchall()
    )
    cursor = connection.execute(
        sql.SQL("select * from {} order by source_month, source_row").format(sql.Identifier(schema, "raw_trips"))
    )
    names = [column.name for column in cursor.description or []]
    assert names[:2] == ["source_month", "source_row"]
    rows: dict[date, list[frozenset[tuple[str, object]]]] = {}
    for month, position, *values in cursor:
        found = rows.setdefault(month, [])
        assert position == len(found) + 1
        found.append(_row(names[2:], tuple(values)))
    assert rows.keys() == digests.keys()
    return {month: MonthContent(digests[month], tuple(found)) for month, found in rows.items()}


def contents_of_schema(target: PostgresTarget, schema: str) -> dict[date, MonthContent]:
    """Return the content of all months in a schema, read over a new connection."""
    with psycopg.connect(target.url()) as connection:
        return contents_of_database(connection, schema)
