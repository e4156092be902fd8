"""`taxi class`: what a student may do and what not, and a class of which one's code and one's database fail."""

import json
import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests
from dagster import DagsterInstance
from psycopg import errors

from taxi_orchestration.cli.classroom import Student, list_students
from taxi_orchestration.loading import open_loader
from taxi_orchestration.postgres.postmaster import free_port
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.warehouse import open_warehouse
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.programs import Programs, taxi
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.waiting import until

START = """
    mutation {
      startSensor(sensorSelector: {
        repositoryLocationName: "ada", repositoryName: "__repository__", sensorName: "month_watch"
      }) { __typename }
    }
"""


@pytest.fixture
def programs() -> Iterator[Programs]:
    made = Programs()
    yield made
    made.end()


@pytest.fixture
def students(settings: Settings, instance: DagsterInstance) -> Iterator[dict[str, Student]]:
    """A class of three, in the database of the tests; nothing is left of it."""
    names = ("ada", "bob", "eve")
    added = taxi("class", "add", *names)
    assert added.returncode == 0, added.stderr
    yield {student.name: student for student in list_students(settings)}
    assert taxi("class", "remove", "--yes", *names).returncode == 0
    shutil.rmtree(settings.taxi_home / "class")


def roles(target: PostgresTarget) -> set[str]:
    with psycopg.connect(target.url()) as connection:
        query = "select rolname from pg_roles where rolname like 'dagster\\_%' union "
        query += "select nspname || ' schema' from pg_namespace where nspname in ('dagster_ada', 'dagster_bob')"
        return {name for (name,) in connection.execute(query)}


def test_a_student_works_in_their_schema_and_can_neither_read_nor_write_anywhere_else(
    students: dict[str, Student], settings: Settings, tlc: TlcHost, target: PostgresTarget
) -> None:
    tlc.publish(JANUARY)
    ada, bob = students["ada"], students["bob"]
    for student in (ada, bob):
        own = student.settings(settings)
        assert (own.schema_name, own.pg_user) == (f"dagster_{student.name}",) * 2
        with open_loader(own, open_warehouse(own)) as loader:
            loader.load_month(JANUARY)
        assert stat.S_IMODE(student.file.stat().st_mode) == 0o600
        assert stat.S_IMODE(student.folder.stat().st_mode) == 0o700
    server = ada.settings(settings).warehouse
    assert server
    refused = [
        "select count(*) from dagster_bob.raw_trips",
        "delete from dagster_bob.raw_loads",
        "create table dagster_bob.mine (a int)",
        "create table public.mine (a int)",
        "create schema mine",
        "grant usage on schema dagster_ada to dagster_bob",
        "drop schema dagster_ada cascade",
        "create role mine",
    ]
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for statement in refused[:5] + refused[6:]:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement)
        # PostgreSQL only warns of this one.
        connection.execute(refused[5])
        may = connection.execute("select has_schema_privilege('dagster_bob', 'dagster_ada', 'usage')").fetchone()
        assert may == (False,)

    # Again is harmless: the same password, and no table is touched.
    before = ada.file.read_text()
    again = taxi("class", "add", "ada")
    assert again.returncode == 0
    assert ada.file.read_text() == before
    assert server.password not in again.stdout + again.stderr
    assert loaded_files(open_warehouse(ada.settings(settings))).keys() == {JANUARY}


def test_names_are_looked_at_first_and_removing_asks(settings: Settings, target: PostgresTarget) -> None:
    refused = taxi("class", "add", "ada", "O'Hara")
    assert refused.returncode == 2
    assert '"O\'Hara" cannot be the name of a student' in refused.stderr
    assert not roles(target) & {"dagster_ada", "dagster_ada schema"}
    assert not list_students(settings)

    with psycopg.connect(target.url(), autocommit=True) as connection:
        # As it was while all students shared one role.
        connection.execute("create schema dagster_ada; create table dagster_ada.kept as select 42 as answer")
    assert taxi("class", "add", "ada").returncode == 0
    own = list_students(settings)[0].settings(settings).warehouse
    assert own
    with psycopg.connect(own.url()) as connection:
        connection.execute("alter table dagster_ada.kept add column mine int")
    kept = taxi("class", "remove", "ada", stdin="n\n")
    assert "ada: 0 months in schema dagster_ada" in kept.stdout
    assert "Nothing was removed" in kept.stdout
    assert roles(target) >= {"dagster_ada", "dagster_ada schema"}
    for _ in range(2):
        assert taxi("class", "remove", "ada", stdin="y\n").returncode == 0
        assert not roles(target) & {"dagster_ada", "dagster_ada schema"}
        assert not list_students(settings)
    shutil.rmtree(settings.taxi_home / "class")


def test_of_three_students_one_with_broken_code_and_one_with_a_broken_database_the_third_sees_nothing(
    students: dict[str, Student],
    settings: Settings,
    programs: Programs,
    tmp_path: Path,
) -> None:
    for folder in ("taxi_orchestration", "dbt_project"):
        shutil.copytree(PROJECT_DIRECTORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "taxi_orchestration" / "definitions.py").write_text("import no_such_module\n")
    assert taxi("class", "add", "bob", "--code", str(tmp_path)).returncode == 0
    eve = students["eve"]
    eve.file.write_text(eve.file.read_text().replace("PG_USER=dagster_eve", "PG_USER=nobody"))

    # Of a server of the class that was killed.
    leftover = programs.start(sys.executable, "-c", "import time; time.sleep(60)", str(eve.socket))
    port, read_only = free_port(), free_port()
    server = programs.taxi("class", "serve", "--port", str(port), "--read-only-port", str(read_only))

    def wrong() -> dict[str, str] | None:
        assert server.poll() is None
        status = taxi("class", "status", "--json")
        found = {student["student"]: " ".join(student["wrong"]) for student in json.loads(status.stdout)}
        is_served = "no_such_module" in found["bob"] and not found["ada"] and "code:" not in found["eve"]
        return found if is_served and not status.stderr else None

    found = until(wrong, 240, 1)
    assert isinstance(found, dict)
    assert leftover.poll() is not None
    assert "database:" not in found["bob"]
    assert "database: Connecting to PostgreSQL at nobody@" in found["eve"]
    assert taxi("class", "status").returncode == 1

    # For those who look: no switch can be moved there.
    def start(at: int) -> str:
        answer = requests.post(f"http://127.0.0.1:{at}/graphql", json={"query": START}, timeout=60)
        return str(answer.json()["data"]["startSensor"]["__typename"])

    until(lambda: is_up(read_only), 60, 0.5)
    assert start(read_only) == "UnauthorizedError"
    assert start(port) == "Sensor"

    assert "stop it first" in taxi("class", "remove", "--yes", "ada").stderr
    os.kill(server.pid, signal.SIGINT)
    assert server.wait(60) == 0
    assert not is_up(port)


def is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/server_info", timeout=10).ok
    except requests.RequestException:
        return False
