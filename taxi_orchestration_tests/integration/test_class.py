"""`taxi class`: the rights of a student, and a class with one student whose code fails and one whose database fails."""

import json
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import requests
from click.testing import CliRunner, Result
from dagster import AssetMaterialization, DagsterInstance
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.cli import class_server, class_status
from taxi_orchestration.cli.class_server import Part, end_leftovers, list_parts
from taxi_orchestration.cli.class_status import read_locations
from taxi_orchestration.cli.classroom import Student, correct_ports, list_students
from taxi_orchestration.cli.commands import main
from taxi_orchestration.cli.dev import claim, find_running
from taxi_orchestration.loading import open_loader
from taxi_orchestration.postgres.postmaster import free_port
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings, SettingsError
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.students import drop_student, is_student, make_student
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse
from taxi_orchestration_tests.support.keys import RAW_TRIPS
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.programs import Programs, kill_9
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.waiting import until

START = """
    mutation {
      startSensor(sensorSelector: {
        repositoryLocationName: "ada", repositoryName: "__repository__", sensorName: "month_watch"
      }) { __typename }
    }
"""


def taxi(*arguments: str, typed: str = "") -> Result:
    """Return the result of `taxi` in this process, which saves the time for imports."""
    return CliRunner().invoke(main, arguments, input=typed)


@pytest.fixture
def students(settings: Settings, instance: DagsterInstance) -> Iterator[dict[str, Student]]:
    """A class of three students in the database of the tests, removed after the test."""
    names = ("ada", "bob", "eve")
    added = taxi("class", "add", *names)
    assert added.exit_code == 0, added.output
    yield {student.name: student for student in list_students(settings)}
    left = [student.name for student in list_students(settings)]
    assert taxi("class", "remove", "--yes", *left).exit_code == 0
    shutil.rmtree(settings.taxi_home / "class")


def list_roles(target: PostgresTarget) -> set[str]:
    with psycopg.connect(target.url()) as connection:
        query = "select rolname from pg_roles where rolname like 'dagster\\_%' union "
        query += "select nspname || ' schema' from pg_namespace where nspname in ('dagster_ada', 'dagster_bob')"
        return {name for (name,) in connection.execute(query)}


def test_a_student_can_read_and_write_their_schema_and_no_other(
    students: dict[str, Student], settings: Settings, tlc: TlcHost
) -> None:
    tlc.publish(JANUARY)
    ada, bob = students["ada"], students["bob"]
    for student in (ada, bob):
        own_settings = student.settings(settings)
        assert (own_settings.schema_name, own_settings.pg_user) == (f"dagster_{student.name}",) * 2
        with open_loader(own_settings, open_warehouse(own_settings)) as loader:
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
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)
        # PostgreSQL answers a grant without the right to grant with a warning, not an error.
        connection.execute(refused[5])
        has_usage = connection.execute("select has_schema_privilege('dagster_bob', 'dagster_ada', 'usage')").fetchone()
        assert has_usage == (False,)

    # A second `class add` keeps the password and changes no table.
    before = ada.file.read_text()
    again = taxi("class", "add", "ada")
    assert again.exit_code == 0
    assert ada.file.read_text() == before
    assert server.password not in again.output
    assert loaded_files(open_warehouse(ada.settings(settings))).keys() == {JANUARY}


def test_class_serve_corrects_the_files_if_the_embedded_postgresql_has_moved(
    students: dict[str, Student], settings: Settings
) -> None:
    warehouse = open_warehouse(settings)
    present, former = f"PG_PORT={warehouse.target.port}\n", "PG_PORT=1\n"
    assert correct_ports(settings) is None
    ada, bob, eve = students.values()
    # Bob has another host. Eve has another PostgreSQL of this machine: the embedded one lacks her role.
    texts = {each: each.file.read_text().replace(present, former) for each in (ada, bob, eve)}
    texts[ada] += "# Mine.\nTAXI_ALERT_URLS='json://localhost/ada'\n"
    texts[bob] = texts[bob].replace(f"PG_HOST={warehouse.target.host}\n", "PG_HOST=db.example\n")
    assert len(set(texts.values())) == 3
    drop_student(replace(warehouse, schema="dagster_eve"))
    for student, text in texts.items():
        student.file.write_text(text)
    assert correct_ports(settings) == warehouse.target.port
    assert ada.file.read_text() == texts[ada].replace(former, present)
    assert stat.S_IMODE(ada.file.stat().st_mode) == 0o600
    assert [bob.file.read_text(), eve.file.read_text()] == [texts[bob], texts[eve]]
    assert correct_ports(settings) is None


def test_roles_that_many_sessions_change_at_once_are_all_created_and_all_dropped(settings: Settings) -> None:
    warehouse = open_warehouse(settings)
    # Without a common lock, concurrent grants on the database fail with "tuple concurrently updated".
    schemas = [replace(warehouse, schema=f"{warehouse.schema}_{number}") for number in range(6)]
    names = sorted(student.schema for student in schemas)
    found = "select coalesce(array_agg(rolname::text order by rolname), '{}') from pg_roles where rolname = any(%s)"
    with ThreadPoolExecutor(len(schemas)) as executor, psycopg.connect(warehouse.target.url()) as connection:
        for change, remaining in ((lambda one: make_student(one, "a password"), names), (drop_student, [])) * 5:
            list(executor.map(change, schemas))
            assert connection.execute(found, [names]).fetchone() == (remaining,)


def test_a_student_is_made_in_a_database_without_the_schema_public(server: PostgresTarget, settings: Settings) -> None:
    name = f"{settings.schema_name}_private"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    student = Warehouse(replace(server, dbname=name), f"{name}_ada")
    with psycopg.connect(student.target.url()) as connection:
        connection.execute("drop schema public")
    make_student(student, "a password")
    assert is_student(student)
    drop_student(student)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_names_are_checked_before_any_change_and_class_remove_asks_first(
    settings: Settings, target: PostgresTarget, instance: DagsterInstance
) -> None:
    refused = taxi("class", "add", "ada", "O'Hara")
    assert refused.exit_code == 2
    assert '"O\'Hara" cannot be the name of a student' in refused.stderr
    assert not list_roles(target) & {"dagster_ada", "dagster_ada schema"}
    assert not list_students(settings)

    with psycopg.connect(target.url(), autocommit=True) as connection:
        # A schema from an earlier version, in which all students shared one role.
        connection.execute("create schema dagster_ada; create table dagster_ada.kept as select 42 as answer")
    assert taxi("class", "add", "ada").exit_code == 0
    own_warehouse = list_students(settings)[0].settings(settings).warehouse
    assert own_warehouse
    with psycopg.connect(own_warehouse.url()) as connection:
        connection.execute("alter table dagster_ada.kept add column mine int")
    kept = taxi("class", "remove", "ada", typed="n\n")
    assert "ada: 0 months in schema dagster_ada" in kept.stdout
    assert "Nothing was removed" in kept.stdout
    assert list_roles(target) >= {"dagster_ada", "dagster_ada schema"}
    unknown = taxi("class", "remove", "--yes", "ada", "adda")
    assert unknown.exit_code == 2
    assert "There is no student adda: the class has ada. Nothing was changed." in unknown.stderr
    # A role and a schema that lost their file are removed too.
    list_students(settings)[0].file.unlink()
    assert taxi("class", "remove", "ada", typed="y\n").exit_code == 0
    assert not list_roles(target) & {"dagster_ada", "dagster_ada schema"}
    assert not list_students(settings)
    assert "There is no student ada: the class has no student." in taxi("class", "remove", "--yes", "ada").stderr

    # A student with the name of an asset: only the assets with that key prefix are removed.
    plain, prefixed = RAW_TRIPS, AssetKeys("raw_trips").raw_trips
    for key in (plain, prefixed):
        instance.report_runless_asset_event(AssetMaterialization(key, partition="2024-01"))
    assert taxi("class", "add", "raw_trips").exit_code == taxi("class", "remove", "--yes", "raw_trips").exit_code == 0
    assert [bool(instance.get_materialized_partitions(key)) for key in (plain, prefixed)] == [True, False]

    # A student who is refused leaves those before complete.
    with psycopg.connect(target.url(), autocommit=True) as connection:
        connection.execute("create role dagster_bob createrole")
        refused = taxi("class", "add", "ada", "bob")
        connection.execute("drop role dagster_bob")
    assert "more rights than a student" in refused.stderr
    assert "location_name: ada" in (settings.taxi_home / "class" / "workspace.yaml").read_text()
    assert taxi("class", "remove", "--yes", "ada").exit_code == 0
    shutil.rmtree(settings.taxi_home / "class")


def test_a_path_that_a_settings_file_cannot_contain_is_refused(
    settings: Settings, target: PostgresTarget, tmp_path: Path
) -> None:
    code = tmp_path / "o'hara"
    (code / "taxi_orchestration").mkdir(parents=True)
    (code / "taxi_orchestration" / "definitions.py").touch()
    refused = taxi("class", "add", "ada", "--code", str(code))
    assert refused.exit_code == 2
    assert "PYTHONPATH cannot be written" in refused.stderr
    assert "hara" not in refused.stderr, "a value may be a password"
    assert not list_roles(target) & {"dagster_ada"}
    assert not list_students(settings)


def test_two_broken_students_do_not_affect_a_third(
    students: dict[str, Student], settings: Settings, programs: Programs, tmp_path: Path
) -> None:
    for folder in ("taxi_orchestration", "dbt_project"):
        shutil.copytree(PROJECT_DIRECTORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "taxi_orchestration" / "definitions.py").write_text("import no_such_module\n")
    assert taxi("class", "add", "bob", "--code", str(tmp_path)).exit_code == 0
    eve = students["eve"]
    eve.file.write_text(eve.file.read_text().replace("PG_USER=dagster_eve", "PG_USER=nobody"))
    # `leftover` is a process of a killed class server; `reader` only reads a file of the class.
    (tmp_path / "dagster").write_text("import time; time.sleep(60)")
    leftover = programs.start(sys.executable, str(tmp_path / "dagster"), str(eve.socket))
    reader = programs.start("tail", "--follow", str(settings.taxi_home / "class" / "workspace.yaml"))
    end_leftovers(settings)
    leftover.wait(30)
    assert reader.poll() is None

    # Only the parts of `taxi class serve` that this test needs: all of them would take a minute of two cores.
    port = free_port()
    needed = {"The code server of ada", "The code server of bob", "The read-only webserver"}
    parts = {part.name: part for part in list_parts(settings, free_port(), port) if part.name in needed}
    assert parts.keys() == needed
    with claim(settings, port, ""):
        try:
            for part in parts.values():
                part.keep()
            errors = until(lambda: read_settled_errors(port), 240, 1)
            assert errors == {"bob": "ModuleNotFoundError: No module named 'no_such_module'"}
            status = taxi("class", "status", "--json")
            found = {student["student"]: " ".join(student["wrong"]) for student in json.loads(status.stdout)}
            assert found["ada"] == ""
            assert found["bob"] == f"code: {errors['bob']}"
            assert "database: Connecting to PostgreSQL at nobody@" in found["eve"]
            assert status.exit_code == 1

            # The webserver is read-only, so it starts no sensor.
            answer = requests.post(f"http://127.0.0.1:{port}/graphql", json={"query": START}, timeout=60)
            assert answer.json()["data"]["startSensor"]["__typename"] == "UnauthorizedError"
            assert "Stop it first" in taxi("class", "remove", "--yes", "ada").output

            # A part that dies is started again.
            part = parts["The code server of ada"]
            assert part.process
            died = part.process.pid
            kill_9(died)
            part.pause = 0
            until(lambda: restart_if_ended(part, died))
        finally:
            for part in parts.values():
                part.end()
            for part in parts.values():
                part.wait(time.monotonic() + 30)


def test_class_serve_restarts_programs_that_end_and_leaves_none_running(
    settings: Settings,
    instance: DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Run the loop of `taxi class serve` with two stub programs, one of which ends at once."""
    with pytest.raises(SettingsError, match="no student yet"):
        class_server.serve(settings, free_port(), None)
    # For a student with --code, `class serve` does not parse the dbt project.
    (tmp_path / "taxi_orchestration").mkdir()
    (tmp_path / "taxi_orchestration" / "definitions.py").touch()
    assert taxi("class", "add", "ada", "--code", str(tmp_path)).exit_code == 0
    home = {**os.environ, "DAGSTER_HOME": str(settings.taxi_home)}
    keeps, ends = "import time; time.sleep(60)", "raise SystemExit(3)"
    parts = [
        Part(name, [sys.executable, "-c", code], home, settings.taxi_home / f"{name}.log", pause=0.2)
        for name, code in (("keeps", keeps), ("ends", ends))
    ]
    monkeypatch.setattr(class_server, "list_parts", lambda *_: parts)

    def stop_once_both_were_started() -> None:
        until(lambda: parts[1].pause > 0.2 and parts[0].process)
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop_once_both_were_started)
        class_server.serve(settings, free_port(), None)
        stopping.result()
    assert "ends ended with exit code 3 and is started again" in capfd.readouterr().err
    assert all(part.process and part.process.returncode is not None for part in parts)
    assert find_running(settings) is None
    assert taxi("class", "remove", "--yes", "ada").exit_code == 0
    shutil.rmtree(settings.taxi_home / "class")


def test_the_ui_of_make_dev_is_not_taken_for_a_served_class(
    students: dict[str, Student], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with claim(settings, port, ""):
        for locations, is_served in (({"taxi_orchestration": ""}, False), ({"ada": "", "bob": ""}, True)):
            monkeypatch.setattr(class_status, "read_locations", lambda ui, found=locations: found)
            assert ("The class is not served" in taxi("class", "status").stderr) is not is_served
        added = taxi("class", "add", "ada")
        assert f"Next: stop the Dagster UI at http://127.0.0.1:{port} (Ctrl-C in its terminal), then" in added.stderr
        assert "uses the class. Stop it first" in taxi("class", "remove", "--yes", "ada").stderr
    assert "Next: taxi class serve, which opens" in taxi("class", "add", "ada").stderr


def restart_if_ended(part: Part, died: int) -> bool:
    """Return whether the part runs as another process than `died`; start the part again if it has ended."""
    part.keep()
    return part.process is not None and part.process.pid != died


def read_settled_errors(port: int) -> dict[str, str] | None:
    """Return the errors of the code locations once only Bob's has one, else None. Eve's location is not served."""
    try:
        locations = read_locations(f"http://127.0.0.1:{port}")
    except OSError:
        return None
    locations.pop("eve")
    errors = {name: error for name, error in locations.items() if error}
    return errors if errors.keys() == {"bob"} and "no_such_module" in errors["bob"] else None
