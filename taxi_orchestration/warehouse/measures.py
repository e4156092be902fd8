"""Months measured where they are: rows and pickups. What is right and what is not is decided elsewhere."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from taxi_orchestration.postgres.connection import connect, explained
from taxi_orchestration.settings import PostgresTarget


@dataclass(frozen=True)
class MonthMeasure:
    """A month of raw_trips as it is, beside what raw_loads says of it, both as of one moment."""

    rows_logged: int | None = None
    rows: int = 0
    last_row: int = 0
    pickups_outside: int = 0
    first_pickup: datetime | None = None
    last_pickup: datetime | None = None


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
        trips=sql.Identifier(schema, "raw_trips"),
        loads=sql.Identifier(schema, "raw_loads"),
        pickup=sql.Identifier(pickup),
        outside=_outside_month(pickup),
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
        where source_month = %(month)s and {outside} order by source_row limit %(limit)s
        """
    ).format(
        trips=sql.Identifier(schema, "raw_trips"),
        pickup=sql.Identifier(pickup),
        dropoff=sql.Identifier(dropoff),
        outside=_outside_month(pickup),
    )
    with explained(f"Looking into {schema}.raw_trips", target), connect(target) as connection:
        return connection.cursor(row_factory=dict_row).execute(statement, {"month": month, "limit": limit}).fetchall()


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


def _outside_month(pickup: str) -> sql.Composed:
    """Whether a pickup lies outside the month of its file: as is_outside_month in stg_trips, which may not be there."""
    return sql.SQL("({0} < source_month or {0} >= source_month + interval '1 month')").format(sql.Identifier(pickup))
