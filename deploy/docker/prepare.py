"""What has to be there before the rest starts: passwords, and roles and databases that have them. Again is harmless.

`prepare.py passwords` writes what is missing into the volumes of secrets, each file for its owner alone.
`prepare.py database` makes, with what these say, a role for Dagster and one for each student, as the superuser.
Who is a student is said by the volumes: a directory each in /secrets/students.
"""

import os
import pwd
import secrets
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from taxi_orchestration.settings import PostgresTarget, schema_of_student
from taxi_orchestration.warehouse.students import make_student
from taxi_orchestration.warehouse.warehouse import Warehouse

SECRETS = Path("/secrets")
STUDENTS = SECRETS / "students"
SUPERUSER = SECRETS / "postgres" / "postgres_password"
DAGSTER = SECRETS / "dagster"
LOGINS = SECRETS / "logins"
HOST = os.environ.get("POSTGRES_HOST", "postgres")
WAREHOUSE = "taxi"
USER = pwd.getpwnam("taxi")


def write_new(path: Path, content: str, uid: int = USER.pw_uid) -> str:
    """Write a file for its owner alone unless it is there; returns what it has."""
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        os.chown(unfinished, uid, -1)
        unfinished.rename(path)
    return path.read_text()


def students() -> list[str]:
    """The students, by the volumes."""
    return sorted(path.name for path in STUDENTS.iterdir())


def passwords() -> None:
    """Make the passwords that are not there yet."""
    # Root reads it in the container of PostgreSQL, and whoever looks after that.
    write_new(SUPERUSER, secrets.token_urlsafe(24), uid=0)
    # The network is the one of this compose file, on this machine.
    url = f"postgresql://dagster:{quote(secrets.token_urlsafe(24))}@{HOST}:5432/dagster?sslmode=disable"
    url = write_new(DAGSTER / "dagster_postgres_url", url)
    for name in ["teacher", "guest", *students()]:
        write_new(LOGINS / name, secrets.token_urlsafe(12), uid=0)
    for name in students():
        write_new(STUDENTS / name / "pg_password", secrets.token_urlsafe(24))
        write_new(STUDENTS / name / "dagster_postgres_url", url)
    for directory in [DAGSTER, *STUDENTS.iterdir()]:
        shutil.chown(directory, USER.pw_uid)
        directory.chmod(0o700)


def database() -> None:
    """Make the roles, the databases and the schemas that are not there yet, with the passwords as they are now."""
    superuser = SUPERUSER.read_text()
    dagster_password = (DAGSTER / "dagster_postgres_url").read_text().split(":")[2].split("@")[0]
    with connect(superuser, "postgres") as connection:
        make_role(connection, "dagster", dagster_password)
        make_database(connection, "dagster", owner="dagster")
        make_database(connection, WAREHOUSE, owner="postgres")
    target = PostgresTarget(HOST, 5432, "postgres", superuser, WAREHOUSE, sslmode="disable")
    for name in students():
        make_student(Warehouse(target, schema_of_student(name)), (STUDENTS / name / "pg_password").read_text())


def connect(password: str, dbname: str) -> psycopg.Connection:
    """A connection of the superuser's."""
    return psycopg.connect(host=HOST, user="postgres", password=password, dbname=dbname, autocommit=True)


def make_role(connection: psycopg.Connection, name: str, password: str) -> None:
    """Make a role that can log in, or give it its password anew."""
    is_there = connection.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone()
    statement = sql.SQL("alter role {} login password {}" if is_there else "create role {} login password {}")
    # As the server keeps it: a statement that fails stands in the server's log.
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.execute(statement.format(sql.Identifier(name), sql.Literal(verifier)))


def make_database(connection: psycopg.Connection, name: str, owner: str) -> None:
    """Make a database that only its owner and whoever is let in can enter."""
    if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
        make = sql.SQL("create database {} owner {}")
        connection.execute(make.format(sql.Identifier(name), sql.Identifier(owner)))
    connection.execute(sql.SQL("revoke connect on database {} from public").format(sql.Identifier(name)))


if __name__ == "__main__":
    (what,) = sys.argv[1:]
    {"passwords": passwords, "database": database}[what]()
