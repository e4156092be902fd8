"""The read-only role of the embedded PostgreSQL, created on demand.

`home/postgres/reader.json` holds the password of the role; only the owner of the home can read the file.
"""

import json
import secrets
from dataclasses import replace
from pathlib import Path

from psycopg import sql

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.postgres.server import write_private
from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.warehouse.warehouse import Warehouse, digest_password, lock_roles

READER = "taxi_reader"


def ensure_reader(home: Path, warehouse: Warehouse) -> PostgresTarget:
    """Create the read-only role if missing, and return its target: it reads present and future tables of the schema.

    Raises WarehouseError where the schema does not exist yet.
    """
    doing = f"Creating the role {READER}"
    target, schema = warehouse.target, warehouse.schema
    with warehouse.connect(doing) as connection:
        # The password in the file must be that of the role.
        lock_roles(connection)
        if connection.execute("select to_regnamespace(%s)", [schema]).fetchone() == (None,):
            raise WarehouseError(
                f"{doing} at {target.place} failed: schema {schema} does not exist yet. Load a month first: taxi "
                "backfill MONTH."
            )
        path = home / "postgres" / "reader.json"
        if not path.exists():
            write_private(path, json.dumps({"password": secrets.token_urlsafe(24)}))
        password = json.loads(path.read_text())["password"]
        is_there = connection.execute("select from pg_roles where rolname = %s", [READER]).fetchone() is not None
        statement = """
            {make} role {reader} login password {digest};
            alter role {reader} set default_transaction_read_only = on;
            revoke temporary on database {database} from public;
            grant usage on schema {schema} to {reader};
            grant select on all tables in schema {schema} to {reader};
            alter default privileges in schema {schema} grant select on tables to {reader}
        """
        connection.execute(
            sql.SQL(statement).format(
                make=sql.SQL("alter" if is_there else "create"),
                reader=sql.Identifier(READER),
                digest=digest_password(connection, READER, password),
                database=sql.Identifier(target.dbname),
                schema=sql.Identifier(schema),
            )
        )
    return replace(target, user=READER, password=password)
