"""Measures of months by SQL: rows, amounts, pickups. Judging them belongs to quality/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from taxi_orchestration.warehouse.load_log import RAW_LOADS
from taxi_orchestration.warehouse.raw_tables import partition_of
from taxi_orchestration.warehouse.relations import TABLE, Relation, find_relations
from taxi_orchestration.warehouse.warehouse import Warehouse


@dataclass(frozen=True)
class MonthMeasure:
    """A month of raw_trips beside its row in raw_loads, both read in one statement."""

    rows_logged: int | None = None
    rows: int = 0
    last_row: int = 0
    pickups_outside: int = 0
    first_pickup: datetime | None = None
    last_pickup: datetime | None = None


PREVIEW_ROWS = 5


@dataclass(frozen=True)
class MonthSummary:
    """A month of a table: its row count, the sum of total_amount if the table has that column, and sample rows."""

    rows: int = 0
    total_amount: Decimal | None = None
    preview: Sequence[Mapping[str, Any]] = ()


def summarize_months(
    warehouse: Warehouse, table: str, start: date, end: date, *, with_amount: bool
) -> dict[date, MonthSummary]:
    """Summarize the months of `table` from `start` to before `end`; empty if the table does not exist."""
    window = {"start": start, "end": end}
    counted = sql.SQL(
        "select source_month, count(*), {amount} from {table} "
        "where source_month >= %(start)s and source_month < %(end)s group by 1"
    ).format(amount=sql.SQL("sum(total_amount)" if with_amount else "null"), table=warehouse.identifier(table))
    seen = sql.SQL(
        "select few.* from generate_series(%(start)s::date, %(end)s::date - 1, interval '1 month') as month, "
        "lateral (select * from {table} where source_month = month::date limit {rows}) as few"
    ).format(table=warehouse.identifier(table), rows=sql.Literal(PREVIEW_ROWS))
    with warehouse.connect(f"Summarizing {warehouse.schema}.{table}") as connection:
        if not find_relations(connection, warehouse, [Relation(table, TABLE, ["source_month"])]):
            return {}
        counts = connection.execute(counted, window).fetchall()
        rows = connection.cursor(row_factory=dict_row).execute(seen, window).fetchall()
    preview: dict[date, list[dict[str, Any]]] = {}
    for row in rows:
        preview.setdefault(row["source_month"], []).append(row)
    return {month: MonthSummary(count, amount, preview.get(month, ())) for month, count, amount in counts}


def measure_months(warehouse: Warehouse, start: date, end: date, pickup: str) -> dict[date, MonthMeasure]:
    """Measure the months from `start` to before `end` in raw_loads or raw_trips, with one statement and one scan.

    `pickup` is the column of the pickup time.
    """
    statement = sql.SQL(
        """
        with trips as (
            select
                source_month, count(*) as rows, max(source_row) as last_row,
                count(*) filter (where {outside}) as outside,
                min({pickup}) as first_pickup, max({pickup}) as last_pickup
            from {trips} where source_month >= %(start)s and source_month < %(end)s group by source_month
        ),
        loads as (
            select source_month, rows from {loads} where source_month >= %(start)s and source_month < %(end)s
        )
        select
            source_month, loads.rows, coalesce(trips.rows, 0), coalesce(last_row, 0), coalesce(outside, 0),
            first_pickup, last_pickup
        from trips full join loads using (source_month)
        """
    ).format(
        trips=warehouse.identifier("raw_trips"),
        loads=warehouse.identifier(RAW_LOADS.name),
        pickup=sql.Identifier(pickup),
        outside=_outside_month(pickup),
    )
    with warehouse.connect(f"Measuring {warehouse.schema}.raw_trips") as connection:
        rows = connection.execute(statement, {"start": start, "end": end})
        return {month: MonthMeasure(*measured) for month, *measured in rows}


def pickups_outside(warehouse: Warehouse, month: date, limit: int, pickup: str, dropoff: str) -> list[dict[str, Any]]:
    """Return the first rows of a month's file whose pickup is outside the month."""
    statement = sql.SQL(
        """
        select source_month, source_row, {pickup}, {dropoff}, total_amount from {trips}
        where source_month = %(month)s and {outside} order by source_row limit %(limit)s
        """
    ).format(
        trips=warehouse.identifier("raw_trips"),
        pickup=sql.Identifier(pickup),
        dropoff=sql.Identifier(dropoff),
        outside=_outside_month(pickup),
    )
    with warehouse.connect(f"Looking into {warehouse.schema}.raw_trips") as connection:
        return connection.cursor(row_factory=dict_row).execute(statement, {"month": month, "limit": limit}).fetchall()


def months_in_raw_trips(warehouse: Warehouse) -> set[date]:
    """Return the months that have a row in raw_loads and a partition of raw_trips."""
    with warehouse.connect(f"Listing the months of {warehouse.schema}.raw_trips") as connection:
        if not find_relations(connection, warehouse, [RAW_LOADS]):
            return set()
        logged = sql.SQL("select source_month from {}").format(warehouse.identifier(RAW_LOADS.name))
        months = {month for (month,) in connection.execute(logged)}
        attached = sql.SQL("select relname from pg_inherits join pg_class on oid = inhrelid where inhparent = {}")
        partitions = {name for (name,) in connection.execute(attached.format(warehouse.regclass("raw_trips")))}
        return {month for month in months if partition_of(month) in partitions}


def count_by_month(warehouse: Warehouse, table: str, start: date, end: date) -> dict[date, int]:
    """Count the rows of `table` by source_month, from `start` to before `end`; empty if the table does not exist."""
    with warehouse.connect(f"Counting {warehouse.schema}.{table}") as connection:
        if not find_relations(connection, warehouse, [Relation(table, TABLE, ["source_month"])]):
            return {}
        rows = connection.execute(
            sql.SQL(
                "select source_month, count(*) from {} where source_month >= %s and source_month < %s group by 1"
            ).format(warehouse.identifier(table)),
            [start, end],
        )
        return dict(rows.fetchall())


def _outside_month(pickup: str) -> sql.Composed:
    """Return the condition that a pickup is outside its month: is_outside_month of stg_trips, which may be missing."""
    return sql.SQL("({0} < source_month or {0} >= source_month + interval '1 month')").format(sql.Identifier(pickup))
