"""`taxi`: what a person types in a terminal. What it shows is in terminal.py, what it does is elsewhere.

Imports are made inside the commands: Dagster takes seconds, and most commands do without it.
"""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from taxi_orchestration.settings import PROJECT_DIRECTORY, SettingsError, load_settings, make_home

Arguments = ParamSpec("Arguments")

SOMETHING_FAILED = 1
BAD_INPUT = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="taxi-orchestration")
def main() -> None:
    """New York green-taxi trips, exact by month, in PostgreSQL."""
    # Nothing that a user could act on: Dagster and dbt warn of their own deprecated and beta parts.
    warnings.simplefilter("ignore")


def _explained(command: Callable[Arguments, int | None]) -> Callable[Arguments, None]:
    """Print the errors that are written for people as they are, without a traceback."""

    @wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        from taxi_orchestration.warehouse.binaries import ServerError
        from taxi_orchestration.warehouse.connection import WarehouseError

        try:
            code = command(*args, **kwargs) or 0
        except (SettingsError, ServerError, WarehouseError) as error:
            click.echo(f"taxi: {error}", err=True)
            code = BAD_INPUT
        sys.exit(code)

    return run


@main.command()
@click.argument("first", metavar="FROM")
@click.argument("last", metavar="TO")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--reprocess",
    type=click.Choice(["none", "failed", "completed"]),
    default="failed",
    show_default=True,
    help="Which months to load beside those never loaded: none; the failed and unfinished; the completed too.",
)
@click.option("--run-backwards", is_flag=True, help="Begin with the newest month.")
@click.option(
    "--max-active-runs",
    type=click.IntRange(1, 32),
    default=os.cpu_count() or 1,
    help="How many months are loaded side by side.  [default: as many as there are cores]",
)
@_explained
def backfill(first: str, last: str, dry_run: bool, reprocess: str, run_backwards: bool, max_active_runs: int) -> int:
    """Load the months FROM to TO (as 2024-01), build the dbt models and run their tests as checks."""
    from taxi_orchestration import terminal
    from taxi_orchestration.backfill import Backfill, months_to_do, open_instance
    from taxi_orchestration.dbt_runner import DbtError
    from taxi_orchestration.definitions import build_definitions
    from taxi_orchestration.partitions import MonthError, parse_range
    from taxi_orchestration.status import month_statuses
    from taxi_orchestration.warehouse.target import warehouse_target

    try:
        window = parse_range(first, last)
    except MonthError as error:
        raise click.UsageError(str(error)) from error
    settings = load_settings()
    with terminal.showing_work() as screen, open_instance() as instance:
        target = warehouse_target(settings)
        months = months_to_do(month_statuses(target, settings.schema_name, instance, window), reprocess, run_backwards)
        if dry_run:
            screen.plan(window, months)
            return 0
        try:
            definitions = build_definitions(settings, progress=screen)
        except DbtError as error:
            screen.error(str(error))
            return SOMETHING_FAILED
        screen.expect(months)
        outcome = Backfill(definitions, instance, target, settings.schema_name, max_active_runs, run_backwards).run(
            months
        )
        statuses = month_statuses(target, settings.schema_name, instance, window)
        screen.summary(statuses, outcome)
    return 0 if outcome.succeeded else SOMETHING_FAILED


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects, one a month.")
@_explained
def status(as_json: bool) -> int:
    """One row a month: published, loaded, rows, fact rows, checks, when, by which run."""
    from taxi_orchestration import terminal
    from taxi_orchestration.backfill import open_instance
    from taxi_orchestration.status import known_window, month_statuses, publications
    from taxi_orchestration.warehouse.target import warehouse_target

    settings = load_settings()
    with open_instance() as instance:
        target = warehouse_target(settings)
        window = known_window(target, settings.schema_name)
        statuses = month_statuses(target, settings.schema_name, instance, window)
    published = publications(settings.tlc_base_url, [m for m, s in statuses.items() if s.file is None])
    terminal.show_status(statuses, published, as_json)
    return 0 if all(month.is_well for month in statuses.values()) else SOMETHING_FAILED


@main.command()
@_explained
def url() -> None:
    """Print the libpq URL of the warehouse, password included; starts the embedded PostgreSQL if need be."""
    from taxi_orchestration.warehouse.target import warehouse_target

    click.echo(warehouse_target(load_settings()).url())


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_explained
def psql(arguments: Sequence[str]) -> int:
    """Open psql on the warehouse, in the right schema. What follows `--` goes to psql."""
    from taxi_orchestration.warehouse.binaries import program_directory
    from taxi_orchestration.warehouse.target import warehouse_target

    settings = load_settings()
    target = warehouse_target(settings)
    options = f"-c search_path={settings.schema_name},public"
    environment = {**os.environ, **target.environment(), "PGOPTIONS": options}
    program = shutil.which("psql") or str(program_directory(None) / "psql")
    return subprocess.run([program, *arguments], env=environment, check=False).returncode  # noqa: S603 - the user's own


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_explained
def dbt(arguments: Sequence[str]) -> int:
    """Run dbt with ARGUMENTS on the project and the warehouse, for example: taxi dbt test --select fct_trips."""
    from taxi_orchestration.dbt_runner import dbt_environment
    from taxi_orchestration.warehouse.target import warehouse_target

    settings = load_settings()
    artifacts = make_home(settings) / "dbt" / "by_hand"
    environment = dbt_environment(warehouse_target(settings), settings.schema_name, artifacts)
    program = str(Path(sys.executable).with_name("dbt"))
    return subprocess.run(  # noqa: S603 - the user's own
        [program, *arguments], env={**os.environ, **environment}, cwd=PROJECT_DIRECTORY, check=False
    ).returncode


@main.command()
@_explained
def stop() -> None:
    """Stop the embedded PostgreSQL; what it holds is kept."""
    from taxi_orchestration.warehouse.server import stop as stop_server

    settings = load_settings()
    stopped = stop_server(settings.taxi_home)
    click.echo(f"The embedded PostgreSQL of {settings.taxi_home} {'is stopped' if stopped else 'was not running'}.")
