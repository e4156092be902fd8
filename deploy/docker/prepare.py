"""Preparation of passwords, roles and databases before the services start. Idempotent.

`prepare.py passwords` writes missing passwords into the volumes of secrets; only the owner can read each file. The
students' copies of the URL of Dagster's storage follow its file.
`prepare.py database` creates, as the superuser, the roles of Dagster and of each student with these passwords.
Each directory in /secrets/students is a student: the mounted volumes define them.
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
    """Write a file with mode 0600 if it is missing, and return the content of the file."""
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        os.chown(unfinished, uid, -1)
        unfinished.rename(path)
    return path.read_text()


def write_copy(path: Path, content: str) -> None:
    """Write a file with mode 0600, in place of one with another content."""
    if path.exists() and path.read_text() != content:
        path.unlink()
    write_new(path, content)


def list_students() -> list[str]:
    """Return the names of the students."""
    return sorted(path.name for path in STUDENTS.iterdir())


def write_passwords() -> None:
    """Write the missing passwords."""
    # Root reads the superuser's password in the container of PostgreSQL.
    write_new(SUPERUSER, secrets.token_urlsafe(24), uid=0)
    # No TLS: the network is a bridge on this machine.
    url = f"postgresql://dagster:{quote(secrets.token_urlsafe(24))}@{HOST}:5432/dagster?sslmode=disable"
    url = write_new(DAGSTER / "dagster_postgres_url", url)
    for name in ["teacher", "guest", *list_students()]:
        write_new(LOGINS / name, secrets.token_urlsafe(12), uid=0)
    for name in list_students():
        write_new(STUDENTS / name / "pg_password", secrets.token_urlsafe(24))
        write_copy(STUDENTS / name / "dagster_postgres_url", url)
    for directory in [DAGSTER, *STUDENTS.iterdir()]:
        shutil.chown(directory, USER.pw_uid)
        directory.chmod(0o700)


def create_database_objects() -> None:
    """Create the missing roles, databases and schemas, and set the roles' passwords to those of the files."""
    superuser = SUPERUSER.read_text()
    dagster_password = (DAGSTER / "dagster_postgres_url").read_text().split(":")[2].split("@")[0]
    with connect(superuser, "postgres") as connection:
        make_role(connection, "dagster", dagster_password)
        make_database(connection, "dagster", owner="dagster")
        make_database(connection, WAREHOUSE, owner="postgres")
    target = PostgresTarget(HOST, 5432, "postgres", superuser, WAREHOUSE, sslmode="disable")
    for name in list_students():
        make_student(Warehouse(target, schema_of_student(name)), (STUDENTS / name / "pg_password").read_text())


def connect(password: str, dbname: str) -> psycopg.Connection:
    """Return a connection of the superuser."""
    return psycopg.connect(host=HOST, user="postgres", password=password, dbname=dbname, autocommit=True)


def make_role(connection: psycopg.Connection, name: str, password: str) -> None:
    """Create a role that can log in, or set the password of an existing one."""
    is_there = connection.execute("select 1 from pg_roles where rolname = %s", [name]).fetchone()
    statement = sql.SQL("alter role {} login password {}" if is_there else "create role {} login password {}")
    # A hash: the server logs a failed statement with its text.
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.execute(statement.format(sql.Identifier(name), sql.Literal(verifier)))


def make_database(connection: psycopg.Connection, name: str, owner: str) -> None:
    """Create a database if it is missing, and allow only roles with an explicit privilege to connect."""
    if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
        make = sql.SQL("create database {} owner {}")
        connection.execute(make.format(sql.Identifier(name), sql.Identifier(owner)))
    connection.execute(sql.SQL("revoke connect on database {} from public").format(sql.Identifier(name)))


if __name__ == "__main__":
    (step,) = sys.argv[1:]
    {"passwords": write_passwords, "database": create_database_objects}[step]()
