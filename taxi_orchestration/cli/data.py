"""What `make clean-data` removes: the months and the history in TAXI_HOME, and nothing else."""

import shutil
from pathlib import Path

from taxi_orchestration.cli.dev import find_running
from taxi_orchestration.months import count_months
from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.postgres.server import remove
from taxi_orchestration.settings import Settings, SettingsError
from taxi_orchestration.tlc.scratch import LOCK, PREFIX
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.warehouse import open_warehouse

# TAXI_HOME may hold files of others too.
_OURS = (
    "postgres",
    "dbt",
    "step_logs",
    "dagster",
    "records",
    "class",
    "dev.url",
    "report*.html",
    # What a killed load leaves, with its locks.
    f"{PREFIX}*",
    f".{PREFIX}*.lock",
    LOCK,
)


def describe_data(settings: Settings) -> str:
    """Describe what there is to remove; empty if there is nothing. Raises SettingsError as `remove_data` does."""
    _refuse_while_used(settings)
    home = settings.taxi_home
    if not _ours(home):
        return ""
    if not (home / "postgres").exists():
        return "logs and artifacts"
    if settings.warehouse is not None:
        return "Dagster's history (the months are in another PostgreSQL, and stay)"
    try:
        months = count_months(len(loaded_files(open_warehouse(settings))))
    except (ServerError, WarehouseError):
        # A server that does not start any more is removed too.
        months = "all months"
    return f"{months} of trips and Dagster's history"


def remove_data(settings: Settings) -> None:
    """Stop the embedded PostgreSQL, and remove its data and all other files of this project in TAXI_HOME.

    Raises SettingsError while the Dagster UI runs on it.
    """
    _refuse_while_used(settings)
    home = settings.taxi_home
    remove(home)
    for path in _ours(home):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not any(home.iterdir()):
        home.rmdir()


def _refuse_while_used(settings: Settings) -> None:
    if ui := find_running(settings):
        raise SettingsError(f"The Dagster UI at {ui} uses the data. Stop it first: Ctrl-C in its terminal.")


def _ours(home: Path) -> list[Path]:
    return [path for name in _OURS for path in home.glob(name)]
