"""The students of a class, each with a role, a schema, a settings file and a code location.

`TAXI_HOME/class/ada/settings.env` has the environment of Ada's processes with her password; only the owner of TAXI_HOME
can read it. `TAXI_HOME/class/workspace.yaml` has all code locations. class_server.py serves them.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from dotenv import dotenv_values
from filelock import FileLock

from taxi_orchestration.cli.dev import find_running
from taxi_orchestration.months import count_months
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.postgres.postmaster import HOST
from taxi_orchestration.postgres.server import write_private
from taxi_orchestration.settings import (
    DEFAULT_STUDENT,
    Settings,
    SettingsError,
    load_settings,
    make_home,
    schema_of_student,
)
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.students import drop_student, is_student, make_student
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse

WORKSPACE = "workspace.yaml"
_NAME = re.compile(r"[a-z0-9_]{1,40}")
# The longest path of a socket that every system accepts.
_LONGEST_SOCKET = 103


@dataclass(frozen=True)
class Student:
    """A student of a class, with files in the TAXI_HOME of the class."""

    name: str
    folder: Path

    @property
    def file(self) -> Path:
        """Return the file with the environment of the student's processes."""
        return self.folder / "settings.env"

    @property
    def socket(self) -> Path:
        """Return the socket of the student's code server."""
        return self.folder / "code.sock"

    @property
    def log(self) -> Path:
        """Return the log file of the student's code server."""
        return self.folder / "code_server.log"

    def variables(self) -> dict[str, str]:
        """Return the variables of the student's file; empty if it does not exist."""
        values = dotenv_values(self.file, interpolate=False)
        return {name: value for name, value in values.items() if value is not None}

    def environment(self, class_environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the student's processes: that of the class with the student's variables."""
        others = {name: value for name, value in class_environment.items() if not name.startswith("PG_")}
        return {**others, **self.variables()}

    def settings(self, class_settings: Settings) -> Settings:
        """Return the student's settings. Raises SettingsError for a damaged file."""
        own = {name.lower(): value for name, value in self.variables().items()}
        unset = dict.fromkeys(name for name in Settings.model_fields if name.startswith("pg_") and name != "pg_port")
        return load_settings(**{**class_settings.model_dump(exclude_unset=True), **unset, **own})


def list_students(settings: Settings) -> list[Student]:
    """Return the students of the class, sorted by name."""
    folder = settings.taxi_home / "class"
    return [Student(file.parent.name, file.parent) for file in sorted(folder.glob("*/settings.env"))]


def count_students(number: int) -> str:
    """Format a number of students for a sentence."""
    return f"{number:,} student{'' if number == 1 else 's'}"


def name_students(settings: Settings, names: Iterable[str]) -> list[Student]:
    """Return the students of these names. Raises SettingsError for an invalid name, before any change."""
    students = []
    for name in dict.fromkeys(names):
        student = Student(name, settings.taxi_home / "class" / name)
        if name == DEFAULT_STUDENT or not _NAME.fullmatch(name):
            raise SettingsError(
                f"{name!r} cannot be the name of a student: lower-case letters a-z, digits and _, at most 40 "
                f"characters, and not {DEFAULT_STUDENT}. Nothing was changed."
            )
        if len(os.fsencode(student.socket)) > _LONGEST_SOCKET:
            raise SettingsError(
                f"The path {student.socket} is too long for a socket. Set TAXI_HOME to a directory with a shorter path."
            )
        students.append(student)
    return students


def add_students(settings: Settings, students: Sequence[Student], code: Path | None) -> None:
    """Create a role, a schema, a file and a code location for each student; existing ones keep their passwords.

    `code` is another checkout, which the students' code locations load. Raises SettingsError for a path or another
    value that a settings file cannot hold, before any change for that student.
    """
    warehouse = open_warehouse(settings)
    with _one_change(settings):
        for student in students:
            of_student = _warehouse_of(student, warehouse)
            target, known = of_student.target, student.variables()
            password = known.get("PG_PASSWORD") or secrets.token_urlsafe(24)
            own = {
                "DAGSTER_STUDENT": student.name,
                "PG_HOST": target.host,
                "PG_PORT": str(target.port),
                "PG_DBNAME": target.dbname,
                "PG_USER": of_student.schema,
                "PG_PASSWORD": password,
                "PG_SSLMODE": target.sslmode,
                **({"PG_SSLROOTCERT": target.sslrootcert} if target.sslrootcert else {}),
                # PYTHONPATH precedes installed packages.
                **({"PYTHONPATH": str(code)} if code else {}),
            }
            text = "".join(_line(student, name, value) for name, value in {**known, **own}.items())
            student.folder.mkdir(parents=True, exist_ok=True)
            student.folder.chmod(0o700)
            make_student(of_student, password)
            write_private(student.file, text)
            # After each student, as a later one may be refused.
            _write_workspace(settings)


def correct_ports(settings: Settings) -> int | None:
    """Write the port of the embedded PostgreSQL into the files of its students that have another one.

    Return the port; None if no file was changed. The server moves to another port if its own is taken when it starts.
    """
    students = [student for student in list_students(settings) if student.variables().get("PG_HOST") == HOST]
    if settings.warehouse is not None or not students:
        return None
    warehouse = open_warehouse(settings)
    port, is_changed = warehouse.target.port, False
    with _one_change(settings):
        for student in students:
            if student.variables().get("PG_PORT") == str(port):
                continue
            # The file may name another PostgreSQL of this machine.
            if is_student(_warehouse_of(student, warehouse)):
                text = re.sub(r"^PG_PORT=.*$", f"PG_PORT={port}", student.file.read_text(), flags=re.MULTILINE)
                write_private(student.file, text)
                is_changed = True
    return port if is_changed else None


def describe_student(settings: Settings, student: Student) -> str:
    """Describe what `remove` would remove of a student.

    Raises SettingsError for a student that does not exist, and while the class is served.
    """
    _refuse_while_served(settings)
    warehouse = _warehouse_of(student, open_warehouse(settings))
    if not student.file.exists() and not is_student(warehouse):
        known = ", ".join(each.name for each in list_students(settings)) or "no student"
        raise SettingsError(f"There is no student {student.name}: the class has {known}. Nothing was changed.")
    try:
        months = count_months(len(loaded_files(warehouse)))
    except WarehouseError:
        # The administrator may have the right to drop tables, but not to read them.
        months = "all months"
    return f"{student.name}: {months} in schema {warehouse.schema}, the role, and Dagster's record of the months"


def remove_students(settings: Settings, students: Sequence[Student]) -> None:
    """Remove students with their tables, roles, Dagster records and files.

    Raises SettingsError while the class is served.
    """
    _refuse_while_served(settings)
    # Imported here, after the question: it takes seconds.
    from taxi_orchestration.asset_keys import AssetKeys
    from taxi_orchestration.instance.opening import open_instance

    warehouse = open_warehouse(settings)
    with _one_change(settings), open_instance() as instance:
        for student in students:
            drop_student(_warehouse_of(student, warehouse))
            # The next student of that name starts without a history. A default asset may have the same name.
            if keys := list(filter(AssetKeys(student.name).has, instance.get_asset_keys(prefix=[student.name]))):
                instance.wipe_assets(keys)
            for state in instance.all_instigator_state():
                if state.origin.repository_origin.code_location_origin.location_name == student.name:
                    instance.delete_instigator_state(state.instigator_origin_id, state.selector_id)
            shutil.rmtree(student.folder, ignore_errors=True)
            _write_workspace(settings)


def _refuse_while_served(settings: Settings) -> None:
    if ui := find_running(settings):
        raise SettingsError(f"The Dagster UI at {ui} uses the class. Stop it first: Ctrl-C in its terminal.")


def _one_change(settings: Settings) -> FileLock:
    """Return the lock that lets one command at a time change the class: the password in a file is that of the role."""
    folder = make_home(settings) / "class"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / ".lock")


def _line(student: Student, name: str, value: str) -> str:
    """Return a line of a settings file, which a shell and python-dotenv read alike."""
    if re.search(r"['\\\n]", value):
        raise SettingsError(
            # The message omits the value, which may be a password.
            f"{name} cannot be written to {student.file}: it has a quote, a backslash or a line break. Use a value "
            "without them."
        )
    return f"{name}={shlex.quote(value)}\n"


def _warehouse_of(student: Student, class_warehouse: Warehouse) -> Warehouse:
    """Return the student's schema with the administrator's login."""
    return replace(class_warehouse, schema=schema_of_student(student.name))


def _write_workspace(settings: Settings) -> None:
    servers = [
        {"grpc_server": {"location_name": student.name, "socket": str(student.socket)}}
        for student in list_students(settings)
    ]
    path = settings.taxi_home / "class" / WORKSPACE
    unfinished = path.with_suffix(".new")
    unfinished.write_text(yaml.safe_dump({"load_from": servers}, sort_keys=False))
    unfinished.replace(path)
