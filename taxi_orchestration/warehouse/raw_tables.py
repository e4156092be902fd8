"""Creating the raw tables, marking their data set, and replacing the zones."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.tlc.dataset import DATASET, KEY_COLUMNS, ZONE_COLUMNS, ZONE_SHAPE_COLUMNS, DataSet
from taxi_orchestration.warehouse.load_log import RAW_LOADS_COLUMNS, RAW_LOADS_DESCRIPTIONS
from taxi_orchestration.warehouse.relations import TABLE, Relation, find_relations
from taxi_orchestration.warehouse.warehouse import Warehouse, define_columns

# The comment on raw_trips begins with this; the name of the data set follows, up to a full stop.
_HOLDS = "Data set of the TLC: "

TABLE_COMMENTS = {
    "raw_trips": "One row per row of the newest accepted file of each month, under the source's names in lower case. "
    "Partitioned by source_month.",
    "raw_loads": "One row per month: the file whose rows raw_trips holds. Written in the transaction that replaces the "
    "month.",
    "raw_zones": "The TLC's zone table, as published: one row per taxi zone.",
    "raw_zone_shapes": "The outlines of the TLC's taxi zones, for maps: one row per zone that has a shape, which two "
    "zones of raw_zones lack.",
}
"""The comments on the raw tables. That on raw_trips follows the mark of its data set."""


def describe_columns(dataset: DataSet = DATASET) -> dict[str, list[tuple[str, str, str]]]:
    """Return the name, the type and the comment of every column of every raw table."""
    columns = {
        "raw_trips": (*KEY_COLUMNS, *dataset.columns),
        "raw_zones": ZONE_COLUMNS,
        "raw_zone_shapes": ZONE_SHAPE_COLUMNS,
    }
    return {
        "raw_loads": RAW_LOADS_DESCRIPTIONS,
        **{name: [(c.name, c.postgres_type, c.comment) for c in of_table] for name, of_table in columns.items()},
    }


def partition_of(month: date) -> str:
    """Return the name of the partition of raw_trips that holds a month."""
    return f"raw_trips_{month:%Y_%m}"


def create_raw_tables(warehouse: Warehouse, dataset: DataSet = DATASET) -> None:
    """Create the schema and the raw tables if missing, and mark raw_trips with the name of its data set.

    Raises WarehouseError where a foreign object has one of these names, or raw_trips holds another data set.
    """
    columns = {
        "raw_trips": {column.name: column.postgres_type for column in (*KEY_COLUMNS, *dataset.columns)},
        "raw_loads": RAW_LOADS_COLUMNS,
        "raw_zones": {column.name: f"{column.postgres_type} not null" for column in ZONE_COLUMNS},
        "raw_zone_shapes": {column.name: f"{column.postgres_type} not null" for column in ZONE_SHAPE_COLUMNS},
    }
    tables = [Relation(name, TABLE, of_table) for name, of_table in columns.items()]
    with warehouse.connect(f"Creating the raw tables in schema {warehouse.schema}") as connection:
        is_marked = _is_marked(connection, warehouse, dataset)
        is_there = len(find_relations(connection, warehouse, tables, to_change=True)) == len(tables)
        if is_marked and is_there:
            return
        # `if not exists` alone does not protect against a concurrent create.
        warehouse.lock(connection, "tables")
        if not is_there:
            _create(connection, warehouse, columns)
        _comment(connection, warehouse, dataset)


def _comment(connection: psycopg.Connection, warehouse: Warehouse, dataset: DataSet) -> None:
    """Comment on every raw table and column; mark raw_trips with its data set unless it has a comment."""
    for table, columns in describe_columns(dataset).items():
        for name, _, comment in columns:
            identifier = warehouse.identifier(table, name)
            connection.execute(sql.SQL("comment on column {} is {}").format(identifier, comment))
    comments = {**TABLE_COMMENTS, "raw_trips": f"{_HOLDS}{dataset.name}. {TABLE_COMMENTS['raw_trips']}"}
    existing = sql.SQL("select obj_description({}, 'pg_class')").format(warehouse.regclass("raw_trips"))
    if connection.execute(existing).fetchone() != (None,):
        del comments["raw_trips"]
    for table, comment in comments.items():
        connection.execute(sql.SQL("comment on table {} is {}").format(warehouse.identifier(table), comment))


def _is_marked(connection: psycopg.Connection, warehouse: Warehouse, dataset: DataSet) -> bool:
    """Return whether raw_trips is marked with `dataset`. Raises WarehouseError where it holds another data set.

    A table without a mark, made by an earlier version, is identified by its column of pickup times.
    """
    found = connection.execute(
        sql.SQL(
            """
            select coalesce(obj_description(oid, 'pg_class'), ''),
                exists (select from pg_attribute where attrelid = oid and attname = %s and not attisdropped)
            from pg_class where oid = {} and relkind = 'p'
            """
        ).format(warehouse.regclass("raw_trips")),
        [dataset.pickup],
    ).fetchone()
    if not found:
        return False
    comment, has_pickup = found
    marked = comment.removeprefix(_HOLDS).partition(".")[0] if comment.startswith(_HOLDS) else ""
    if marked != dataset.name and (marked or not has_pickup):
        other = marked or f"another data set (it has no column {dataset.pickup})"
        raise WarehouseError(
            f"{warehouse.schema}.raw_trips at {warehouse.target.place} holds {other}, not {dataset.name}. Nothing was "
            "changed. One schema holds one data set: set PG_SCHEMA to a schema of its own, then run it again."
        )
    return bool(marked)


def _create(connection: psycopg.Connection, warehouse: Warehouse, columns: Mapping[str, Mapping[str, str]]) -> None:
    schema = sql.Identifier(warehouse.schema)
    if not connection.execute("select 1 from pg_namespace where nspname = %s", [warehouse.schema]).fetchone():
        connection.execute(sql.SQL("create schema {}").format(schema))
    # PostgreSQL refuses a partitioned table if default_tablespace names the tablespace of the database.
    connection.execute("set local default_tablespace = ''")
    connection.execute(
        sql.SQL(
            """
            create table if not exists {}.raw_trips ({}, primary key (source_month, source_row))
                partition by list (source_month);
            create table if not exists {}.raw_loads ({});
            create table if not exists {}.raw_zones ({}, primary key (locationid));
            create table if not exists {}.raw_zone_shapes ({}, primary key (zone_id))
            """
        ).format(*(part for of_table in columns.values() for part in (schema, define_columns(of_table))))
    )


def replace_zones(warehouse: Warehouse, zones: Sequence[tuple[int | str, ...]]) -> None:
    """Replace raw_zones by `zones`, in one transaction."""
    _replace_rows(warehouse, "raw_zones", zones)


def replace_zone_shapes(warehouse: Warehouse, shapes: Sequence[tuple[int, str, str, Any]]) -> None:
    """Replace raw_zone_shapes by `shapes`, (zone_id, borough, zone_name, polygons), in one transaction."""
    _replace_rows(warehouse, "raw_zone_shapes", ((*names, Jsonb(polygons)) for *names, polygons in shapes))


def _replace_rows(warehouse: Warehouse, table: str, rows: Iterable[Sequence[Any]]) -> None:
    name = warehouse.identifier(table)
    with warehouse.connect(f"Loading {warehouse.schema}.{table}") as connection:
        warehouse.lock(connection, table)
        connection.execute(sql.SQL("delete from {}").format(name))
        with connection.cursor().copy(sql.SQL("copy {} from stdin").format(name)) as copy:
            for row in rows:
                copy.write_row(row)
