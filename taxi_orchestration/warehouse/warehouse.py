"""One schema of one database: connecting, names, locks and catalog queries. The content of tables belongs elsewhere."""

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
        """Return the student who owns the schema; None for the default schema."""
        return student_of(self.schema)

    @contextmanager
    def connect(self, doing: str, *, snapshot: bool = False) -> Iterator[psycopg.Connection]:
        """Open a transaction that commits when the block succeeds. Raises WarehouseError, beginning with `doing`.

        With `snapshot` all statements read one snapshot.
        """
        with translate_errors(doing, self.target), connect(self.target, snapshot=snapshot) as connection:
            yield connection

    def identifier(self, *names: str) -> sql.Identifier:
        """Return the qualified name of a table or of a column."""
        return sql.Identifier(self.schema, *names)

    def regclass(self, table: str) -> sql.Composed:
        """Return the SQL expression for the OID of a table; null if the table does not exist."""
        return sql.SQL("to_regclass({})").format(self.identifier(table).as_string())

    def lock(self, connection: psycopg.Connection, what: str) -> None:
        """Take an advisory lock of the schema until the transaction ends."""
        _lock(connection, f"{self.schema}.{what}")

    def try_lock(self, connection: psycopg.Connection, what: str) -> bool:
        """Take an advisory lock of the schema until the transaction ends if it is free; return whether it was."""
        name = f"{self.schema}.{what}"
        row = connection.execute("select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name]).fetchone()
        return row == (True,)

    def column_types(self, connection: psycopg.Connection, table: str) -> dict[str, str]:
        """Return the PostgreSQL type of each column of a table; empty if the table does not exist."""
        rows = connection.execute(
            sql.SQL(
                "select attname, format_type(atttypid, null) from pg_attribute "
                "where attrelid = {} and attnum > 0 and not attisdropped"
            ).format(self.regclass(table))
        )
        return dict(rows.fetchall())

    def find_tables(self, connection: psycopg.Connection, names: Collection[str]) -> set[str]:
        """Return which of these tables and views exist."""
        rows = connection.execute(
            "select relname from pg_class where relnamespace = to_regnamespace(%s) and relname = any(%s)",
            [self.schema, list(names)],
        )
        return {name for (name,) in rows}

    def existing_tables(self, names: Sequence[str]) -> set[str]:
        """Return which of these tables and views exist."""
        with self.connect(f"Looking into schema {self.schema}") as connection:
            return self.find_tables(connection, names)

    def is_empty(self, table: str) -> bool:
        """Return whether a table is missing or has no row."""
        with self.connect(f"Looking into {self.schema}.{table}") as connection:
            statement = sql.SQL("select from {} limit 1").format(self.identifier(table))
            return not self.find_tables(connection, [table]) or connection.execute(statement).fetchone() is None

    def rows_of(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Return at most `limit` rows of a query that dbt compiled."""
        with self.connect("Reading the rows that a test found") as connection:
            cursor = connection.cursor(row_factory=dict_row)
            statement = sql.SQL("select * from {} as found limit %s").format(_subquery(query))
            return cursor.execute(statement, [limit]).fetchall()

    def months_of(self, query: str) -> list[str]:
        """Return the months in the column source_month of a query that dbt compiled; none without such a column."""
        # Through jsonb, because a query without the column is no error.
        statement = sql.SQL(
            "select distinct left(to_jsonb(found) ->> 'source_month', %s) as month from {} as found order by month"
        ).format(_subquery(query))
        with self.connect("Reading the months that a test found") as connection:
            rows = connection.execute(statement, [len("2024-01")])
            return [month for (month,) in rows if month]


def _subquery(query: str) -> sql.Composed:
    """Return a compiled query as the operand of `from`."""
    # A comment may end the query, and psycopg reads a single % as a parameter.
    return sql.SQL("({}\n)").format(sql.SQL(cast(LiteralString, query.replace("%", "%%"))))


def lock_roles(connection: psycopg.Connection) -> None:
    """Take the advisory lock of all who create, change or drop roles, until the transaction ends.

    Roles and the rights on a database belong to no schema; PostgreSQL refuses concurrent changes of one of them.
    """
    _lock(connection, "taxi.roles")


def digest_password(connection: psycopg.Connection, role: str, password: str) -> sql.Literal:
    """Return the digest of a role's password for `create role`: the server may log the statement."""
    digest = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return sql.Literal(digest.decode())


def _lock(connection: psycopg.Connection, name: str) -> None:
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def define_columns(columns: Mapping[str, str]) -> sql.Composed:
    """Return column definitions for SQL. Types come from a closed list in the code, never from a file."""
    return sql.SQL(", ").join(sql.SQL("{} ").format(sql.Identifier(n)) + sql.SQL(kind) for n, kind in columns.items())


def open_warehouse(settings: Settings) -> Warehouse:
    """Return the warehouse of the settings; start the embedded server if they name no other. Raises ServerError."""
    target = settings.warehouse or ensure_running(make_home(settings)).target(WAREHOUSE_DATABASE)
    return Warehouse(replace(target, lock_timeout=settings.taxi_lock_timeout), settings.schema_name)


def describe_warehouse(settings: Settings) -> Warehouse:
    """Return the warehouse without a password, starting no server."""
    target = settings.warehouse or PostgresTarget("embedded", 0, USER, "", WAREHOUSE_DATABASE)
    return Warehouse(replace(target, password=""), settings.schema_name)
