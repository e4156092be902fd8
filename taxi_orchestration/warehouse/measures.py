"""Months measured where they are: rows, pickups and money. What is right and what is not is decided elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.warehouse.connection import connect, explained


@dataclass(frozen=True)
class MonthMeasure:
    """A month of raw_trips as it is, beside what raw_loads says of it, both as of one moment."""

    rows_logged: int | None = None
    rows: int = 0
    last_row: int = 0
    pickups_outside: int = 0
    first_pickup: datetime | None = None
    last_pickup: datetime | None = None


@dataclass(frozen=True)
class Sums:
    """Rows and total_amount of one month of one table."""

    rows: int = 0
    total_amount: Decimal = Decimal(0)


def measure_months(
    target: PostgresTarget, schema: str, start: date, end: date, pickup: str
) -> dict[date, MonthMeasure]:
    """Every month from `start` to before `end` that raw_loads or raw_trips has, in one statement and one scan.

    `pickup` is the column of the time at which a trip begins.
    """
    statement = sql.SQL(
        """
        with trips as (
            select
                source_month, count(*) as rows, max(source_row) as last_row,
                count(*) filter (
                    where {pickup} < source_month or {pickup} >= source_month + interval '1 month'
                ) as outside,
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
        trips=sql.Identifier(schema, "raw_trips"),
        loads=sql.Identifier(schema, "raw_loads"),
        pickup=sql.Identifier(pickup),
    )
    with explained(f"Measuring {schema}.raw_trips", target), connect(target) as connection:
        rows = connection.execute(statement, {"start": start, "end": end})
        return {month: MonthMeasure(*measured) for month, *measured in rows}


def pickups_outside(
    target: PostgresTarget, schema: str, month: date, limit: int, pickup: str, dropoff: str
) -> list[dict[str, Any]]:
    """The first rows of a month's file whose pickup lies outside the month."""
    statement = sql.SQL(
        """
        select source_month, source_row, {pickup}, {dropoff}, total_amount from {trips}
        where source_month = %(month)s
            and ({pickup} < %(month)s or {pickup} >= %(month)s + interval '1 month')
        order by source_row limit %(limit)s
        """
    ).format(trips=sql.Identifier(schema, "raw_trips"), pickup=sql.Identifier(pickup), dropoff=sql.Identifier(dropoff))
    with explained(f"Looking into {schema}.raw_trips", target), connect(target) as connection:
        return connection.cursor(row_factory=dict_row).execute(statement, {"month": month, "limit": limit}).fetchall()


def sum_months(
    target: PostgresTarget, schema: str, tables: Sequence[str], start: date, end: date
) -> Mapping[str, Mapping[date, Sums]]:
    """Rows and total_amount by month of raw_trips and of tables with exact amounts, as of one moment."""
    # By way of whole cents, as the models take them; amounts that the models cannot hold are in none of them.
    published = sql.SQL("sum(case when abs(total_amount) < 99999999 then round(total_amount * 100)::bigint end) * 0.01")
    exact = sql.SQL("sum(total_amount)")
    parts = [
        sql.SQL(
            "select {name}, source_month, count(*), coalesce({total}, 0) from {table} "
            "where source_month >= %(start)s and source_month < %(end)s group by source_month"
        ).format(
            name=sql.Literal(table),
            total=published if table == "raw_trips" else exact,
            table=sql.Identifier(schema, table),
        )
        for table in tables
    ]
    sums: dict[str, dict[date, Sums]] = {table: {} for table in tables}
    with explained(f"Summing {', '.join(tables)} in schema {schema}", target), connect(target) as connection:
        for table, month, rows, total in connection.execute(
            sql.SQL(" union all ").join(parts), {"start": start, "end": end}
        ):
            sums[table][month] = Sums(rows, total)
    return sums


def months_in_raw_trips(target: PostgresTarget, schema: str) -> set[date]:
    """The months that raw_loads lists and for which raw_trips has a table."""
    with explained(f"Listing the months of {schema}.raw_trips", target), connect(target) as connection:
        if connection.execute("select to_regclass(%s)", [f"{schema}.raw_loads"]).fetchone() == (None,):
            return set()
        rows = connection.execute(
            sql.SQL(
                """
                select source_month from {}
                where exists (
                    select from pg_inherits
                    where inhparent = to_regclass(%(parent)s)
                        and inhrelid = to_regclass(%(parent)s || to_char(source_month, '_YYYY_MM'))
                )
                """
            ).format(sql.Identifier(schema, "raw_loads")),
            {"parent": f"{schema}.raw_trips"},
        )
        return {month for (month,) in rows}
