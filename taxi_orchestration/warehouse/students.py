"""A role and a schema for each student of a class, in a database that all share: with the rights of their own alone."""

import psycopg
from psycopg import sql

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.warehouse.warehouse import Warehouse


def make_student(warehouse: Warehouse, password: str) -> None:
    """Make a schema, and a role of the same name that may work in it and in no other; harmless where both are there.

    The schema stays its maker's, so that a student can neither give it away nor let others in. `warehouse` is reached
    as somebody who may make both. Raises WarehouseError where that is nobody who may, or the role may more.
    """
    name = sql.Identifier(warehouse.schema)
    doing = f"Making the role and the schema {warehouse.schema}"
    with warehouse.connect(doing) as connection:
        warehouse.lock(connection, "student")
        found = connection.execute(
            "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles where rolname = %s",
            [warehouse.schema],
        ).fetchone()
        if found == (True,):
            raise WarehouseError(
                f"{doing} at {warehouse.target.place} failed: a role of this name may more than a student. Nothing "
                "was changed. Give that role another name, or the student."
            )
        # As a digest: the statement may be written to a log.
        digest = connection.pgconn.encrypt_password(
            password.encode(), warehouse.schema.encode(), b"scram-sha-256"
        ).decode()
        connection.execute(
            sql.SQL(
                """
                {make} role {name} login password {digest};
                create schema if not exists {name};
                grant usage, create on schema {name} to {name};
                grant connect on database {database} to {name}
                """
            ).format(
                make=sql.SQL("alter" if found else "create"),
                name=name,
                digest=sql.Literal(digest),
                database=sql.Identifier(warehouse.target.dbname),
            )
        )
        _adopt_tables(connection, warehouse)
        # Before version 15 of PostgreSQL everybody may make tables there.
        may = connection.execute("select has_schema_privilege(%s, 'public', 'create')", [warehouse.schema]).fetchone()
        if may == (True,):
            connection.execute("revoke create on schema public from public")


def drop_student(warehouse: Warehouse) -> None:
    """Drop a student's schema with all that is in it, and their role; harmless where neither is there."""
    name = sql.Identifier(warehouse.schema)
    with warehouse.connect(f"Removing the role and the schema {warehouse.schema}") as connection:
        warehouse.lock(connection, "student")
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(name))
        if connection.execute("select from pg_roles where rolname = %s", [warehouse.schema]).fetchone() is not None:
            database = sql.Identifier(warehouse.target.dbname)
            connection.execute(sql.SQL("revoke all on database {} from {}").format(database, name))
            connection.execute(sql.SQL("drop role {}").format(name))


def _adopt_tables(connection: psycopg.Connection, warehouse: Warehouse) -> None:
    """Give the student what is in the schema already, loaded by the one role that all shared before."""
    relations = connection.execute(
        "select relname from pg_class where relnamespace = to_regnamespace(%s) and relkind in ('r', 'p', 'v', 'm') "
        "and relowner <> to_regrole(%s)",
        [warehouse.schema, warehouse.schema],
    ).fetchall()
    for (relation,) in relations:
        connection.execute(
            sql.SQL("alter table {} owner to {}").format(
                warehouse.identifier(relation), sql.Identifier(warehouse.schema)
            )
        )
