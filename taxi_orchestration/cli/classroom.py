"""The students of a class: who they are, and a role, a schema, a file of settings and a code location for each.

`TAXI_HOME/class/ada/settings.env` has what a process of Ada's is started with, her password too, for her owner's eyes
alone; `TAXI_HOME/class/workspace.yaml` has the code locations of all. How they are served is in class_server.py.
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

from taxi_orchestration.cli.dev import find_running
from taxi_orchestration.months import count_months
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.postgres.server import write_private
from taxi_orchestration.settings import DEFAULT_STUDENT, Settings, SettingsError, load_settings, make_home
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.students import drop_student, make_student
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse

WORKSPACE = "workspace.yaml"
_NAME = re.compile(r"[a-z0-9_]{1,40}")
# What the kernel takes for the path of a socket, on every system that has any.
_LONGEST_SOCKET = 103


@dataclass(frozen=True)
class Student:
    """A student of the class of a home, by the files that it has there."""

    name: str
    folder: Path

    @property
    def file(self) -> Path:
        """What their processes are started with."""
        return self.folder / "settings.env"

    @property
    def socket(self) -> Path:
        """Where their code server listens."""
        return self.folder / "code.sock"

    @property
    def log(self) -> Path:
        """What their code server prints."""
        return self.folder / "code_server.log"

    def variables(self) -> dict[str, str]:
        """The variables of their file; none before it is written."""
        return {name: value for name, value in dotenv_values(self.file).items() if value is not None}

    def environment(self, of_class: Mapping[str, str]) -> dict[str, str]:
        """The environment of their processes: that of the class, but for who they are and where their tables are."""
        others = {name: value for name, value in of_class.items() if not name.startswith("PG_")}
        return {**others, **self.variables()}

    def settings(self, of_class: Settings) -> Settings:
        """The same as settings. Raises SettingsError for a file that somebody spoiled."""
        own = {name.lower(): value for name, value in self.variables().items()}
        nowhere = dict.fromkeys(name for name in Settings.model_fields if name.startswith("pg_") and name != "pg_port")
        return load_settings(**{**of_class.model_dump(exclude_unset=True), **nowhere, **own})


def list_students(settings: Settings) -> list[Student]:
    """The students of the class, by name."""
    folder = settings.taxi_home / "class"
    return [Student(file.parent.name, file.parent) for file in sorted(folder.glob("*/settings.env"))]


def name_students(settings: Settings, names: Iterable[str]) -> list[Student]:
    """The students of these names. Raises SettingsError where one cannot be a name, before anything is touched."""
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
                f"{student.socket} is too long for a socket: set TAXI_HOME to a directory with a shorter path."
            )
        students.append(student)
    return students


def add_students(settings: Settings, students: Sequence[Student], code: Path | None) -> None:
    """Make a role, a schema, a file and a code location for each; what is there already stays, with its password.

    `code` is a checkout of the students' own, for the code of their location.
    """
    warehouse = open_warehouse(settings)
    for student in students:
        of_student = _warehouse_of(student, warehouse)
        target, known = of_student.target, student.variables()
        password = known.get("PG_PASSWORD") or secrets.token_urlsafe(24)
        student.folder.mkdir(parents=True, exist_ok=True)
        student.folder.chmod(0o700)
        own = {
            "DAGSTER_STUDENT": student.name,
            "PG_HOST": target.host,
            "PG_PORT": str(target.port),
            "PG_DBNAME": target.dbname,
            "PG_USER": of_student.schema,
            "PG_PASSWORD": password,
            "PG_SSLMODE": target.sslmode,
            **({"PG_SSLROOTCERT": target.sslrootcert} if target.sslrootcert else {}),
            # Before all that is installed: Python takes the first package of a name that it finds.
            **({"PYTHONPATH": str(code)} if code else {}),
        }
        make_student(of_student, password)
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in {**known, **own}.items()]
        write_private(student.file, "".join(lines))
    _write_workspace(settings)


def describe_student(settings: Settings, student: Student) -> str:
    """What there is of a student to remove, in words."""
    warehouse = _warehouse_of(student, open_warehouse(settings))
    try:
        months = count_months(len(loaded_files(warehouse)))
    except WarehouseError:
        # Of somebody who may remove them, but not read them.
        months = "all months"
    return f"{student.name}: {months} in schema {warehouse.schema}, the role, and Dagster's record of the months"


def remove_students(settings: Settings, students: Sequence[Student]) -> None:
    """Remove students with all their tables, their roles, what Dagster knows of their months, and their files.

    Raises SettingsError while the class is served.
    """
    if ui := find_running(settings):
        raise SettingsError(f"The Dagster UI at {ui} serves these students: stop it first, by Ctrl-C in its terminal.")
    # Imported here: it takes seconds, and comes after the question.
    from taxi_orchestration.asset_keys import AssetKeys
    from taxi_orchestration.instance.opening import open_instance

    warehouse = open_warehouse(settings)
    with open_instance() as instance:
        for student in students:
            drop_student(_warehouse_of(student, warehouse))
            # Whoever gets the name next begins anew. An asset of the default schema may have the same name.
            if keys := list(filter(AssetKeys(student.name).has, instance.get_asset_keys(prefix=[student.name]))):
                instance.wipe_assets(keys)
            for state in instance.all_instigator_state():
                if state.origin.repository_origin.code_location_origin.location_name == student.name:
                    instance.delete_instigator_state(state.instigator_origin_id, state.selector_id)
            shutil.rmtree(student.folder, ignore_errors=True)
    _write_workspace(settings)


def _warehouse_of(student: Student, of_class: Warehouse) -> Warehouse:
    """The student's schema, as whoever made it reaches it."""
    return replace(of_class, schema=load_settings(dagster_student=student.name, pg_schema=None).schema_name)


def _write_workspace(settings: Settings) -> None:
    servers = [
        {"grpc_server": {"location_name": student.name, "socket": str(student.socket)}}
        for student in list_students(settings)
    ]
    (make_home(settings) / "class").mkdir(exist_ok=True)
    path = settings.taxi_home / "class" / WORKSPACE
    unfinished = path.with_suffix(".new")
    unfinished.write_text(yaml.safe_dump({"load_from": servers}, sort_keys=False))
    unfinished.replace(path)
