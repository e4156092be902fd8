"""What `make clean-data` removes: the months and the history in TAXI_HOME, and nothing else."""

import shutil
from contextlib import suppress
from pathlib import Path

from taxi_orchestration.cli.classroom import count_students, list_students
from taxi_orchestration.cli.dev import find_running
from taxi_orchestration.months import count_months
from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.postgres.clients import list_clients
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, ensure_running, find, remove
from taxi_orchestration.settings import Settings, SettingsError
from taxi_orchestration.tlc.scratch import LOCK, PREFIX
from taxi_orchestration.warehouse.load_log import count_months_by_schema

# TAXI_HOME may hold files of others too.
_OURS = (
    "postgres",
    "dbt",
    "step_logs",
    "dagster",
    "records",
    "class",
    "dev.url",
    "report.html",
    # The report of each student who shares this home.
    "report-*.html",
    # What a killed load leaves, with its locks.
    f"{PREFIX}*",
    f".{PREFIX}*.lock",
    LOCK,
)


def describe_data(settings: Settings) -> str:
    """Describe what there is to remove; empty if there is nothing.

    Raises SettingsError while the Dagster UI or another program uses the data.
    """
    _refuse_while_served(settings)
    if use := describe_use(settings):
        raise SettingsError(f"{use} End them first.")
    home = settings.taxi_home
    if not _ours(home):
        return ""
    students = len(list_students(settings))
    of_class = f" and the settings and passwords of {count_students(students)}" if students else ""
    if not (home / "postgres").exists():
        return f"logs and artifacts{of_class}"
    # The student's months may be in another PostgreSQL; whatever is in the embedded one is removed.
    history = "" if settings.storage else " and Dagster's history"
    return f"{_describe_months(home)}{history}{of_class}"


def remove_data(settings: Settings) -> None:
    """Stop the embedded PostgreSQL, and remove its data and all other files of this project in TAXI_HOME.

    Raises SettingsError while the Dagster UI runs on it.
    """
    _refuse_while_served(settings)
    home = settings.taxi_home
    remove(home)
    for path in _ours(home):
        if path.is_dir():
            # A link leads to another disk; rmtree refuses links.
            shutil.rmtree(path.resolve())
        path.unlink(missing_ok=True)
    # A home that is a link or a mount point stays, and one with files of others.
    with suppress(OSError):
        home.rmdir()


def describe_use(settings: Settings) -> str:
    """Name the programs that are connected to the embedded PostgreSQL; empty if there are none."""
    server = find(settings.taxi_home)
    clients = list_clients(server) if server else []
    if not clients:
        return ""
    ui = find_running(settings)
    at = f" The Dagster UI is at {ui}; Ctrl-C in its terminal stops it." if ui else ""
    return f"The embedded PostgreSQL of {settings.taxi_home} is in use by {', '.join(clients)}.{at}"


def _describe_months(home: Path) -> str:
    """Describe the months in all schemas of the embedded PostgreSQL, those of students included."""
    try:
        by_schema = count_months_by_schema(ensure_running(home).target(WAREHOUSE_DATABASE))
    except (ServerError, WarehouseError):
        # A server that does not start any more is removed too.
        return "all months of trips"
    schemas = f" in {len(by_schema)} schemas" if len(by_schema) > 1 else ""
    return f"{count_months(sum(by_schema.values()))} of trips{schemas}"


def _refuse_while_served(settings: Settings) -> None:
    if ui := find_running(settings):
        raise SettingsError(f"The Dagster UI at {ui} uses the data. Stop it first: Ctrl-C in its terminal.")


def _ours(home: Path) -> list[Path]:
    return [path for name in _OURS for path in home.glob(name)]
