"""A role and a schema for each student of a class in a shared database. Each role has rights on its schema alone."""

import psycopg
from psycopg import sql

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.warehouse.warehouse import Warehouse, digest_password, lock_roles


def make_student(warehouse: Warehouse, password: str) -> None:
    """Create a schema, and a role of the same name with rights on that schema alone. Idempotent.

    The administrator stays owner of the schema, so that a student can neither drop it nor grant access to it. The role
    of `warehouse` must be allowed to create both. Raises WarehouseError where it is not, or the role has more rights.
    """
    name = sql.Identifier(warehouse.schema)
    doing = f"Creating the role and the schema {warehouse.schema}"
    with warehouse.connect(doing) as connection:
        lock_roles(connection)
        found = connection.execute(
            "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles where rolname = %s",
            [warehouse.schema],
        ).fetchone()
        if found == (True,):
            raise WarehouseError(
                f"{doing} at {warehouse.target.place} failed: a role of this name has more rights than a student. "
                "Nothing was changed. Rename that role, or choose another name for the student."
            )
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
                digest=digest_password(connection, warehouse.schema, password),
                database=sql.Identifier(warehouse.target.dbname),
            )
        )
        _adopt_tables(connection, warehouse)
        # Before PostgreSQL 15 every role may create tables in `public`.
        may = connection.execute(
            # A database may have no schema public.
            "select has_schema_privilege(%s, oid, 'create') from pg_namespace where nspname = 'public'",
            [warehouse.schema],
        ).fetchone()
        if may == (True,):
            connection.execute("revoke create on schema public from public")


def is_student(warehouse: Warehouse) -> bool:
    """Return whether the student's schema or role exists."""
    with warehouse.connect(f"Looking for the role and the schema {warehouse.schema}") as connection:
        found = connection.execute(
            "select coalesce(to_regnamespace(%(name)s)::oid, to_regrole(%(name)s)::oid) is not null",
            {"name": warehouse.schema},
        )
        return found.fetchone() == (True,)


def drop_student(warehouse: Warehouse) -> None:
    """Drop a student's schema with all its objects, and the student's role. Idempotent."""
    name = sql.Identifier(warehouse.schema)
    with warehouse.connect(f"Removing the role and the schema {warehouse.schema}") as connection:
        lock_roles(connection)
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(name))
        if connection.execute("select from pg_roles where rolname = %s", [warehouse.schema]).fetchone() is not None:
            database = sql.Identifier(warehouse.target.dbname)
            connection.execute(sql.SQL("revoke all on database {} from {}").format(database, name))
            connection.execute(sql.SQL("drop role {}").format(name))


def _adopt_tables(connection: psycopg.Connection, warehouse: Warehouse) -> None:
    """Make the student owner of the tables and views that a shared role has created in the schema before."""
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
