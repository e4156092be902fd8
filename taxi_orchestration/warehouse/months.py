"""The raw tables, and a month of raw_trips replaced whole. What a column means is in the contract."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, LiteralString, cast

import psycopg
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from taxi_orchestration.postgres.connection import WarehouseError, connect, explained
from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.warehouse.read_ahead import read_ahead
from taxi_orchestration.warehouse.relations import TABLE, Relation, find_relations

KEY_COLUMNS = pa.schema([pa.field("source_month", pa.date32()), pa.field("source_row", pa.int32())])
# What binary COPY takes each Arrow type for.
POSTGRES_TYPES = {
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp without time zone",
}
# How the comment on raw_trips begins; the name of the data set follows.
_HOLDS = "Data set of the TLC: "
# Encoded batches that wait for the server: with 65,536 rows of 21 columns a batch is 14 MB.
BATCHES_AHEAD = 2

RAW_LOADS = Relation(
    "raw_loads",
    TABLE,
    (
        "source_month",
        "url",
        "etag",
        "last_modified",
        "bytes",
        "sha256",
        "rows",
        "columns",
        "drift",
        "dagster_run_id",
        "rows_sha256",
        "loaded_at",
    ),
)
RAW_ZONES = Relation("raw_zones", TABLE, ("locationid", "borough", "zone", "service_zone"))


@dataclass(frozen=True)
class TableColumn:
    """A column of raw_trips as PostgreSQL has it: lower-case name, type, and what it means."""

    name: str
    postgres_type: str
    description: str = ""


@dataclass(frozen=True)
class LoadedFile:
    """The file that a month was replaced by: what raw_loads says of it.

    `bytes` is the file's size and `sha256` its digest; `rows_sha256` is the digest of the rows as they were copied, and
    so the same for another file with the same rows. It is known once the rows are copied.
    """

    source_month: date
    url: str
    etag: str | None
    last_modified: datetime | None
    bytes: int
    sha256: str
    rows: int
    columns: Mapping[str, str]
    drift: Mapping[str, object]
    dagster_run_id: str | None
    rows_sha256: str | None = None
    loaded_at: datetime | None = None


class NewerFileLoadedError(WarehouseError):
    """While a file was on its way, another process loaded a newer one of the same month, which stays."""


@dataclass(frozen=True)
class ReplacedMonth:
    """What `replace_month` did: the file that the month now is, and the rows that it had before."""

    file: LoadedFile
    rows_before: int


def create_tables(target: PostgresTarget, schema: str, columns: Sequence[TableColumn]) -> None:
    """Make the schema, raw_trips with `columns`, raw_loads and raw_zones where missing; cheap where they are not.

    Raises WarehouseError where somebody else's object has one of these names.
    """
    raw_trips = Relation("raw_trips", TABLE, (*KEY_COLUMNS.names, *(column.name for column in columns)))
    tables = [raw_trips, RAW_LOADS, RAW_ZONES]
    with explained(f"Making the raw tables in schema {schema}", target), connect(target) as connection:
        if len(find_relations(connection, target, schema, tables, to_change=True)) == len(tables):
            return
        # `if not exists` alone is no guard against somebody who makes the same at the same moment.
        _lock(connection, schema, "tables")
        if not connection.execute("select 1 from pg_namespace where nspname = %s", [schema]).fetchone():
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
        # PostgreSQL refuses a partitioned table where the database's own tablespace is named as the default.
        connection.execute("set local default_tablespace = ''")
        connection.execute(
            sql.SQL(
                """
                create table if not exists {trips} (
                    source_month date not null, source_row integer not null, {columns},
                    primary key (source_month, source_row)
                ) partition by list (source_month)
                """
            ).format(
                trips=sql.Identifier(schema, "raw_trips"),
                columns=sql.SQL(", ").join(_definition(column) for column in columns),
            )
        )
        connection.execute(
            sql.SQL(
                """
                create table if not exists {} (
                    source_month date primary key, url text not null, etag text, last_modified timestamptz,
                    bytes bigint not null, sha256 text not null, rows bigint not null, columns jsonb not null,
                    drift jsonb not null, rows_sha256 text not null, loaded_at timestamptz not null default now(),
                    dagster_run_id text
                )
                """
            ).format(sql.Identifier(schema, "raw_loads"))
        )
        connection.execute(
            sql.SQL(
                """
                create table if not exists {} (
                    locationid integer primary key, borough text not null, zone text not null,
                    service_zone text not null
                )
                """
            ).format(sql.Identifier(schema, "raw_zones"))
        )
        for column in columns:
            connection.execute(
                sql.SQL("comment on column {} is {}").format(
                    sql.Identifier(schema, "raw_trips", column.name), sql.Literal(column.description)
                )
            )


def check_dataset(target: PostgresTarget, schema: str, dataset: str, pickup: str) -> bool:
    """Whether raw_trips is marked as `dataset`. Raises WarehouseError where it holds another one.

    A table without a mark holds the data set that has its column of pickup times: earlier versions made no mark.
    """
    table = f"{schema}.raw_trips"
    with explained(f"Looking into {table}", target), connect(target) as connection:
        found = connection.execute(
            """
            select coalesce(obj_description(oid, 'pg_class'), ''),
                exists (select from pg_attribute where attrelid = oid and attname = %s and not attisdropped)
            from pg_class where oid = to_regclass(%s)
            """,
            [pickup, table],
        ).fetchone()
    if not found:
        return False
    comment, has_pickup = found
    is_marked = comment.startswith(_HOLDS)
    if comment != _HOLDS + dataset and (is_marked or not has_pickup):
        other = comment.removeprefix(_HOLDS) if is_marked else f"another data set (it has no column {pickup})"
        raise WarehouseError(
            f"{table} at {target.place} holds {other}, not {dataset}. Nothing was changed. One schema holds one data "
            "set: set PG_SCHEMA to a schema of its own, then run it again."
        )
    return is_marked


def mark_dataset(target: PostgresTarget, schema: str, dataset: str) -> None:
    """Say in the comment on raw_trips which data set it holds, unless somebody has written another comment."""
    table = sql.Identifier(schema, "raw_trips")
    with explained(f"Marking {schema}.raw_trips as {dataset}", target), connect(target) as connection:
        _lock(connection, schema, "tables")
        found = connection.execute("select obj_description(to_regclass(%s), 'pg_class')", [f"{schema}.raw_trips"])
        if found.fetchone() == (None,):
            connection.execute(sql.SQL("comment on table {} is {}").format(table, sql.Literal(_HOLDS + dataset)))


def replace_month(
    target: PostgresTarget,
    schema: str,
    file: LoadedFile,
    arrow_schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    new_columns: Sequence[TableColumn] = (),
    on_rows: Callable[[int], None] = lambda rows: None,
    asked_at: float | None = None,
) -> ReplacedMonth:
    """Make `file`'s month of raw_trips exactly the rows of `batches`, and raw_loads say so, in one transaction.

    `batches` all have `arrow_schema`, whose fields are columns of raw_trips or `new_columns`, which are added to it.
    Other months, and other processes at the same month, may be loaded at the same time; readers are never waited for
    (but for a new column), and see the old month or the new one. `on_rows` is told of rows as they are sent.

    With `asked_at`, the time.perf_counter() at which the file was asked for, a newer file that was loaded since then
    stays: NewerFileLoadedError. One that is older than what was loaded before replaces it: the TLC took an issue back.

    Raises WarehouseError, and whatever `batches` raises; the month is then as it was.
    """
    child = f"raw_trips_{file.source_month:%Y_%m}"
    with (
        explained(f"Loading {file.source_month:%Y-%m} into {schema}.raw_trips", target),
        connect(target) as connection,
    ):
        _lock(connection, schema, child)
        if asked_at is not None:
            _refuse_older(connection, schema, file, asked_at)
        _add_columns(connection, schema, new_columns)
        exists = _is_partition(connection, schema, child)
        rows_before = 0
        if exists:
            # Not TRUNCATE, not a swap of tables: both wait for everybody who has read the month in an open transaction.
            rows_before = connection.execute(sql.SQL("delete from {}").format(sql.Identifier(schema, child))).rowcount
        else:
            _create_child(connection, schema, child, file.source_month)
        _check_types(connection, schema, child, arrow_schema)
        digest = hashlib.sha256()
        copied = _copy(connection, schema, child, file.source_month, arrow_schema, batches, digest, on_rows)
        if copied != file.rows:
            raise WarehouseError(
                f"Loading {file.source_month:%Y-%m} from {file.url}: the file says {file.rows} rows, PostgreSQL took "
                f"{copied}. Nothing was changed. Load the month again."
            )
        if not exists:
            _attach(connection, schema, child, file.source_month)
        file = replace(file, rows_sha256=digest.hexdigest())
        _log_load(connection, schema, file)
    return ReplacedMonth(file, rows_before)


def replace_zones(target: PostgresTarget, schema: str, zones: Sequence[tuple[int, str, str, str]]) -> None:
    """Make raw_zones exactly `zones`: (locationid, borough, zone, service_zone), in one transaction."""
    table = sql.Identifier(schema, "raw_zones")
    with explained(f"Loading {schema}.raw_zones", target), connect(target) as connection:
        _lock(connection, schema, "raw_zones")
        connection.execute(sql.SQL("delete from {}").format(table))
        with connection.cursor().copy(sql.SQL("copy {} from stdin").format(table)) as copy:
            for zone in zones:
                copy.write_row(zone)


def arrow_types(target: PostgresTarget, schema: str, table: str) -> dict[str, pa.DataType]:
    """The columns of a table with the Arrow types that they are copied from, of those that have one."""
    by_name = {name: kind for kind, name in POSTGRES_TYPES.items()}
    with explained(f"Looking into {schema}.{table}", target), connect(target) as connection:
        found = _column_types(connection, schema, table)
    return {column: by_name[kind] for column, kind in found.items() if kind in by_name}


def loaded_files(target: PostgresTarget, schema: str) -> dict[date, LoadedFile]:
    """What raw_loads says, by month; empty where there is no such table yet."""
    with explained(f"Reading {schema}.raw_loads", target), connect(target) as connection:
        if not find_relations(connection, target, schema, [RAW_LOADS]):
            return {}
        rows = connection.execute(
            sql.SQL(
                """
                select source_month, url, etag, last_modified, bytes, sha256, rows, columns, drift, dagster_run_id,
                    rows_sha256, loaded_at
                from {} order by source_month
                """
            ).format(sql.Identifier(schema, "raw_loads"))
        )
        return {row[0]: LoadedFile(*row) for row in rows}


def count_by_month(target: PostgresTarget, schema: str, table: str, start: date, end: date) -> dict[date, int]:
    """Rows of `table` by source_month, from `start` to before `end`; empty where there is no such table."""
    with explained(f"Counting {schema}.{table}", target), connect(target) as connection:
        if not find_relations(connection, target, schema, [Relation(table, TABLE, ["source_month"])]):
            return {}
        rows = connection.execute(
            sql.SQL(
                "select source_month, count(*) from {} where source_month >= %s and source_month < %s group by 1"
            ).format(sql.Identifier(schema, table)),
            [start, end],
        )
        return dict(rows.fetchall())


def refuse_foreign_relations(target: PostgresTarget, schema: str, relations: Sequence[Relation]) -> None:
    """Raise WarehouseError where somebody else's object has the name of one of these tables and views."""
    with explained(f"Looking into schema {schema}", target), connect(target) as connection:
        find_relations(connection, target, schema, relations, to_change=True)


def existing_tables(target: PostgresTarget, schema: str, names: Sequence[str]) -> set[str]:
    """Which of these tables and views are there."""
    with explained(f"Looking into schema {schema}", target), connect(target) as connection:
        rows = connection.execute(
            "select name from unnest(%s::text[]) as name where to_regclass(%s || '.' || name) is not null",
            [list(names), schema],
        )
        return {name for (name,) in rows}


def empty_tables(target: PostgresTarget, schema: str, names: Sequence[str]) -> set[str]:
    """Which of these tables are not there, or have no row."""
    there = existing_tables(target, schema, names)
    empty = set(names) - there
    with explained(f"Looking into schema {schema}", target), connect(target) as connection:
        for name in there:
            table = sql.Identifier(schema, name)
            if not connection.execute(sql.SQL("select 1 from {} limit 1").format(table)).fetchone():
                empty.add(name)
    return empty


def rows_of(target: PostgresTarget, query: str, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows of a query that dbt compiled."""
    with explained("Reading the rows that a test found", target), connect(target) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(
            # A comment may end the query, and psycopg takes a single % for a parameter.
            sql.SQL("select * from ({}\n) as found limit %s").format(
                sql.SQL(cast(LiteralString, query.replace("%", "%%")))
            ),
            [limit],
        ).fetchall()


def _definition(column: TableColumn) -> sql.Composed:
    # The type comes from the contract's closed list, never from a file.
    return sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.postgres_type))


def _lock(connection: psycopg.Connection, schema: str, what: str) -> None:
    """Wait until no other transaction holds the same lock; it is let go of at the end of this one."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{schema}.{what}"])


def _add_columns(connection: psycopg.Connection, schema: str, columns: Sequence[TableColumn]) -> None:
    """Add those that raw_trips lacks. After this no other process can, until this transaction ends."""
    table = sql.Identifier(schema, "raw_trips")
    # ALTER waits for every reader even where there is nothing to add. And whoever locks raw_trips does it before its
    # partitions: COPY into a partition looks at raw_trips late, and two loads in opposite orders would wait for ever.
    present = connection.execute(
        "select attname from pg_attribute where attrelid = to_regclass(%s)", [f"{schema}.raw_trips"]
    ).fetchall()
    missing = [column for column in columns if (column.name,) not in present]
    if not missing:
        connection.execute(sql.SQL("lock table {} in access share mode").format(table))
    for column in missing:
        connection.execute(sql.SQL("alter table {} add column if not exists {}").format(table, _definition(column)))


def _refuse_older(connection: psycopg.Connection, schema: str, file: LoadedFile, asked_at: float) -> None:
    # Only lengths of time are compared, so that the server's clock need not agree with this machine's.
    newer = connection.execute(
        sql.SQL(
            """
            select last_modified from {}
            where source_month = %s and last_modified > %s and loaded_at > clock_timestamp() - make_interval(secs => %s)
            """
        ).format(sql.Identifier(schema, "raw_loads")),
        [file.source_month, file.last_modified, time.perf_counter() - asked_at],
    ).fetchone()
    if newer:
        raise NewerFileLoadedError(
            f"Loading {file.source_month:%Y-%m} from {file.url}: the file of {file.last_modified} came, and meanwhile "
            f"another process loaded the one of {newer[0]}. That one stays. Load the month again."
        )


def _is_partition(connection: psycopg.Connection, schema: str, child: str) -> bool:
    row = connection.execute(
        """
        select inhparent = to_regclass(%s) from pg_class left join pg_inherits on inhrelid = oid
        where oid = to_regclass(%s)
        """,
        [f"{schema}.raw_trips", f"{schema}.{child}"],
    ).fetchone()
    if row is not None and not row[0]:
        raise WarehouseError(
            f"{schema}.{child} exists but is no partition of {schema}.raw_trips: somebody made or detached it by hand. "
            "Attach, rename or drop it, then load the month again."
        )
    return row is not None


def _create_child(connection: psycopg.Connection, schema: str, child: str, month: date) -> None:
    # With the check constraint ATTACH believes that the rows belong to the month, without reading them again.
    connection.execute(
        sql.SQL("create table {} (like {} including comments, constraint is_month check (source_month = {}))").format(
            sql.Identifier(schema, child), sql.Identifier(schema, "raw_trips"), sql.Literal(month)
        )
    )


def _attach(connection: psycopg.Connection, schema: str, child: str, month: date) -> None:
    name = sql.Identifier(schema, child)
    # The key after the rows: an index built over them sorted costs a quarter of one that grows row by row.
    connection.execute(sql.SQL("alter table {} add primary key (source_month, source_row)").format(name))
    # Until autovacuum comes by, PostgreSQL takes one in 200 rows for one of this month, and plans accordingly. A small
    # sample shows that all are; the other columns are left to autovacuum, which still comes for them.
    connection.execute("set local default_statistics_target = 1")
    connection.execute(sql.SQL("analyze {} (source_month)").format(name))
    connection.execute(
        sql.SQL("alter table {} attach partition {} for values in ({})").format(
            sql.Identifier(schema, "raw_trips"), name, sql.Literal(month)
        )
    )
    connection.execute(sql.SQL("alter table {} drop constraint is_month").format(name))


def _check_types(connection: psycopg.Connection, schema: str, child: str, arrow_schema: pa.Schema) -> None:
    """Binary COPY believes the types it is told: refuse a table whose types are not those of the batches."""
    found = _column_types(connection, schema, child)
    for field in arrow_schema:
        expected = POSTGRES_TYPES[field.type]
        if found.get(field.name) != expected:
            change = f"alter column {field.name} type" if field.name in found else f"add column {field.name}"
            raise WarehouseError(
                f"{schema}.{child}.{field.name} should be {expected}, but is {found.get(field.name, 'not there')}: "
                "somebody altered raw_trips by hand, or the contract is newer than the table. Nothing was changed. "
                f"Run: alter table {schema}.raw_trips {change} {expected}; then load the month again."
            )


def _column_types(connection: psycopg.Connection, schema: str, table: str) -> dict[str, str]:
    """The columns of a table with PostgreSQL's names of their types."""
    return dict(
        connection.execute(
            "select attname, format_type(atttypid, null) from pg_attribute "
            "where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
            [f"{schema}.{table}"],
        ).fetchall()
    )


def _copy(
    connection: psycopg.Connection,
    schema: str,
    child: str,
    month: date,
    arrow_schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    digest: "hashlib._Hash",
    on_rows: Callable[[int], None],
) -> int:
    full_schema = pa.unify_schemas([KEY_COLUMNS, arrow_schema])
    # Without FREEZE, although nobody else can see a new table yet: frozen rows would show in snapshots from before.
    statement = sql.SQL("copy {} ({}) from stdin with (format binary)").format(
        sql.Identifier(schema, child), sql.SQL(", ").join(map(sql.Identifier, full_schema.names))
    )
    cursor = connection.cursor()
    with (
        cursor.copy(statement) as copy,
        read_ahead(_encode(batches, full_schema, month, digest), BATCHES_AHEAD) as encoded,
    ):
        for rows, data in encoded:
            copy.write(data)
            on_rows(rows)
    return cursor.rowcount


def _encode(
    batches: Iterable[pa.RecordBatch], full_schema: pa.Schema, month: date, digest: "hashlib._Hash"
) -> Iterator[tuple[int, bytes]]:
    """PostgreSQL's binary COPY format, (rows, bytes) at a time, with the two key columns in front."""
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
    # The encoder keeps back what does not fill its buffer: of a small month that is all of it.
    last = encoder.finish()
    digest.update(last)
    yield 0, last


def _log_load(connection: psycopg.Connection, schema: str, file: LoadedFile) -> None:
    connection.execute(
        sql.SQL(
            """
            insert into {} (
                source_month, url, etag, last_modified, bytes, sha256, rows, columns, drift, dagster_run_id,
                rows_sha256, loaded_at
            ) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now())
            on conflict (source_month) do update set
                url = excluded.url, etag = excluded.etag, last_modified = excluded.last_modified,
                bytes = excluded.bytes, sha256 = excluded.sha256, rows = excluded.rows, columns = excluded.columns,
                drift = excluded.drift, dagster_run_id = excluded.dagster_run_id,
                rows_sha256 = excluded.rows_sha256, loaded_at = excluded.loaded_at
            """
        ).format(sql.Identifier(schema, "raw_loads")),
        [
            file.source_month,
            file.url,
            file.etag,
            file.last_modified,
            file.bytes,
            file.sha256,
            file.rows,
            Jsonb(dict(file.columns)),
            Jsonb(dict(file.drift)),
            file.dagster_run_id,
            file.rows_sha256,
        ],
    )
