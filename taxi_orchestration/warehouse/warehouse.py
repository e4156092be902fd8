"""One schema of one database: how its tables are reached, named, looked up and locked. What they hold is elsewhere."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, LiteralString, cast

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from taxi_orchestration.postgres.connection import connect, translate_errors
from taxi_orchestration.postgres.server import USER, WAREHOUSE_DATABASE, ensure_running
from taxi_orchestration.settings import PostgresTarget, Settings, make_home, student_of


@dataclass(frozen=True)
class Warehouse:
    """The schema that holds the tables of one data set, in the database of `target`."""

    target: PostgresTarget
    schema: str

    @property
    def student(self) -> str | None:
        """Whose schema it is; None for the default one."""
        return student_of(self.schema)

    @contextmanager
    def connect(self, doing: str, *, snapshot: bool = False) -> Iterator[psycopg.Connection]:
        """A transaction, committed when the block ends well. Raises WarehouseError, whose message begins with `doing`.

        With `snapshot` all statements see the data of one moment.
        """
        with translate_errors(doing, self.target), connect(self.target, snapshot=snapshot) as connection:
            yield connection

    def identifier(self, *names: str) -> sql.Identifier:
        """A table, or a column of one, by its full name."""
        return sql.Identifier(self.schema, *names)

    def regclass(self, table: str) -> sql.Composed:
        """The expression for the OID of a table; null where there is none."""
        return sql.SQL("to_regclass({})").format(self.identifier(table).as_string())

    def lock(self, connection: psycopg.Connection, what: str) -> None:
        """Wait until no other transaction holds the same lock; it is let go of at the end of this one."""
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{self.schema}.{what}"])

    def column_types(self, connection: psycopg.Connection, table: str) -> dict[str, str]:
        """The columns of a table with PostgreSQL's names of their types; none where there is no such table."""
        rows = connection.execute(
            sql.SQL(
                "select attname, format_type(atttypid, null) from pg_attribute "
                "where attrelid = {} and attnum > 0 and not attisdropped"
            ).format(self.regclass(table))
        )
        return dict(rows.fetchall())

    def find_tables(self, connection: psycopg.Connection, names: Collection[str]) -> set[str]:
        """Which of these tables and views are there."""
        rows = connection.execute(
            "select relname from pg_class where relnamespace = to_regnamespace(%s) and relname = any(%s)",
            [self.schema, list(names)],
        )
        return {name for (name,) in rows}

    def existing_tables(self, names: Sequence[str]) -> set[str]:
        """Which of these tables and views are there."""
        with self.connect(f"Looking into schema {self.schema}") as connection:
            return self.find_tables(connection, names)

    def empty_tables(self, names: Sequence[str]) -> set[str]:
        """Which of these tables are not there, or have no row."""
        with self.connect(f"Looking into schema {self.schema}") as connection:
            statement = sql.SQL("select 1 from {} limit 1")
            there = self.find_tables(connection, names)
            full = {name for name in there if connection.execute(statement.format(self.identifier(name))).fetchone()}
        return set(names) - full

    def rows_of(self, query: str, limit: int) -> list[dict[str, Any]]:
        """At most `limit` rows of a query that dbt compiled."""
        with self.connect("Reading the rows that a test found") as connection:
            cursor = connection.cursor(row_factory=dict_row)
            return cursor.execute(
                # A comment may end the query, and psycopg takes a single % for a parameter.
                sql.SQL("select * from ({}\n) as found limit %s").format(
                    sql.SQL(cast(LiteralString, query.replace("%", "%%")))
                ),
                [limit],
            ).fetchall()


def define_columns(columns: Mapping[str, str]) -> sql.Composed:
    """The columns with their types in SQL's DDL. Types come from a closed list of the code's, never from a file."""
    return sql.SQL(", ").join(sql.SQL("{} ").format(sql.Identifier(n)) + sql.SQL(kind) for n, kind in columns.items())


def open_warehouse(settings: Settings) -> Warehouse:
    """The warehouse of the environment; the embedded server is started if it is the one that is meant."""
    target = settings.warehouse or ensure_running(make_home(settings)).target(WAREHOUSE_DATABASE)
    return Warehouse(replace(target, lock_timeout=settings.taxi_lock_timeout), settings.schema_name)


def describe_warehouse(settings: Settings) -> Warehouse:
    """The warehouse as far as it is known before the embedded server runs, and without the password."""
    target = settings.warehouse or PostgresTarget("embedded", 0, USER, "", WAREHOUSE_DATABASE)
    return Warehouse(replace(target, password=""), settings.schema_name)
