"""The status of each student of a class: tables, Dagster's record, and whether the code loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from taxi_orchestration.cli.classroom import Student, list_students
from taxi_orchestration.cli.dev import find_running
from taxi_orchestration.months import format_months
from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.settings import Settings, SettingsError

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from taxi_orchestration.instance.status import MonthStatus

_LOCATIONS = """
    { workspaceOrError { ... on Workspace { locationEntries {
        name loadStatus locationOrLoadError { __typename ... on PythonError { message cause { message } } }
    } } } }
"""
_SECONDS = 30


@dataclass(frozen=True)
class LastRun:
    """The newest run of a student."""

    id: str
    status: str
    at: datetime


@dataclass(frozen=True)
class StudentStatus:
    """A student's loaded months, and sentences on what is wrong."""

    name: str
    schema: str = ""
    months: Sequence[MonthStatus] = ()
    last_run: LastRun | None = None
    wrong: Sequence[str] = field(default_factory=list)

    @property
    def loaded(self) -> Sequence[MonthStatus]:
        """Return the months that are in the tables."""
        return [month for month in self.months if month.file]


def read_class(settings: Settings, now: datetime) -> tuple[list[StudentStatus], str]:
    """Return the status of every student, and a note if it is unknown whether their code loads."""
    from taxi_orchestration.instance.opening import open_instance

    students = list_students(settings)
    if not students:
        return [], "The class has no student yet: taxi class add ada bob."
    locations, note = dict[str, str](), ""
    ui = find_running(settings)
    try:
        locations = read_locations(ui) if ui else {}
    except (OSError, ValueError, KeyError, TypeError):
        note = f"The Dagster UI at {ui} does not answer yet, so that it is unknown whether the students' code loads."
    else:
        # The UI may be that of `make dev`, which has other code locations.
        if not locations.keys() & {student.name for student in students}:
            note = "The class is not served, so that it is unknown whether the students' code loads. "
            note += "Run: taxi class serve"
    code_errors = {name: error for name, error in locations.items() if error}
    with open_instance() as instance:
        return [student_status(student, settings, instance, code_errors, now) for student in students], note


def student_status(
    student: Student, class_settings: Settings, instance: DagsterInstance, code_errors: Mapping[str, str], now: datetime
) -> StudentStatus:
    """Return the status of a student; an error on reading the tables is part of it."""
    from dagster import RunsFilter

    from taxi_orchestration.asset_keys import AssetKeys
    from taxi_orchestration.instance.run_tags import SCHEMA
    from taxi_orchestration.instance.status import compare_months, known_window, read_records
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    wrong = [f"code: {code_errors[student.name]}"] if student.name in code_errors else []
    try:
        settings = student.settings(class_settings)
    except SettingsError as error:
        return StudentStatus(student.name, wrong=[*wrong, f"{student.file}: {error}"])
    found = instance.get_run_records(RunsFilter(tags={SCHEMA: settings.schema_name}), limit=1)
    last = [LastRun(r.dagster_run.run_id, r.dagster_run.status.value, _aware(r.create_timestamp)) for r in found]
    months: list[MonthStatus] = []
    try:
        warehouse = open_warehouse(settings)
        window = known_window(warehouse, now, settings.first_month)
        records = read_records(instance, AssetKeys(settings.student), window.months)
        months = list(compare_months(warehouse, records, window).values())
    except (WarehouseError, ServerError) as error:
        wrong.append(f"database: {error}")
    return StudentStatus(
        student.name, settings.schema_name, months, next(iter(last), None), [*wrong, *_what_is_wrong(months)]
    )


def read_locations(ui: str) -> dict[str, str]:
    """Return the code locations of the UI at this address, each with its load error, empty if it loads.

    Raises OSError if no UI answers.
    """
    import requests

    answer = requests.post(f"{ui}/graphql", json={"query": _LOCATIONS}, timeout=_SECONDS).json()
    entries = answer["data"]["workspaceOrError"]["locationEntries"]
    errors = {}
    for entry in entries:
        errors[entry["name"]] = ""
        found = entry["locationOrLoadError"] or {}
        if found.get("__typename") == "PythonError":
            cause = (found.get("cause") or found)["message"].strip() or found["message"].strip()
            errors[entry["name"]] = cause.splitlines()[-1]
        elif entry["loadStatus"] == "LOADING":
            errors[entry["name"]] = "is being loaded"
    return errors


def _what_is_wrong(months: Sequence[MonthStatus]) -> list[str]:
    """Return what is wrong, each problem once with its months."""
    by_what: dict[str, list[MonthStatus]] = {}
    for month in months:
        if month.state in ("failed", "unfinished"):
            by_what.setdefault(month.state, []).append(month)
        for check in month.checks.failed:
            by_what.setdefault(f"check {check} fails", []).append(month)
    return [f"{what}: {format_months([month.month for month in some])}" for what, some in by_what.items()]


def _aware(moment: datetime) -> datetime:
    # Dagster's storage returns UTC, sometimes without a time zone.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
