"""`taxi`: what a person types in a terminal. What it shows is in terminal.py, what it does is elsewhere.

Imports are made inside the commands: Dagster takes seconds, and most commands do without it.
"""

import os
import re
import shutil
import sys
import threading
import warnings
import webbrowser
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Literal, ParamSpec

import click

from taxi_orchestration.settings import (
    PROJECT_DIRECTORY,
    SettingsError,
    dagster_home,
    load_settings,
    make_home,
    read_dotenv,
)
from taxi_orchestration.tlc.dataset import DATASET

Arguments = ParamSpec("Arguments")
Reprocess = Literal["none", "failed", "completed"]

SOMETHING_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


@click.group(
    help=f"New York {DATASET.label} trips, exact by month, in PostgreSQL.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="taxi-orchestration")
def main() -> None:
    """Prepare the environment of every command."""
    try:
        read_dotenv()
    except SettingsError as error:
        click.echo(f"taxi: {error}", err=True)
        sys.exit(BAD_INPUT)
    # Nothing that a user could act on: Dagster and dbt warn of their own deprecated and beta parts.
    warnings.simplefilter("ignore")


def _translate_errors(command: Callable[Arguments, int | None]) -> Callable[Arguments, None]:
    """Print the errors that are written for people as they are, without a traceback."""

    @wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        from taxi_orchestration.postgres.binaries import ServerError
        from taxi_orchestration.postgres.connection import WarehouseError

        try:
            code = command(*args, **kwargs) or 0
        except (SettingsError, ServerError, WarehouseError) as error:
            click.echo(f"taxi: {error}", err=True)
            code = BAD_INPUT
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            advice = "Make room or make it writable there, or set TAXI_HOME to another directory."
            click.echo(f"taxi: writing a file failed{place}: {error.strerror or error}. {advice}", err=True)
            code = BAD_INPUT
        except KeyboardInterrupt:
            click.echo("taxi: interrupted. What was loaded is kept; the same command goes on from there.", err=True)
            code = INTERRUPTED
            if any(not thread.daemon for thread in threading.enumerate()[1:]):
                # An ordinary exit would wait for a month that waits for a silent host or for a lock.
                os._exit(code)
        sys.exit(code)

    return run


@main.command()
@click.argument("first", metavar="[FROM", required=False)
@click.argument("last", metavar="TO]", required=False)
@click.option("--missing", is_flag=True, help="The months that the TLC has published and nobody has loaded.")
@click.option("--changed", is_flag=True, help="The loaded months of which the TLC now has another file.")
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
@_translate_errors
def backfill(
    first: str | None,
    last: str | None,
    missing: bool,
    changed: bool,
    dry_run: bool,
    reprocess: Reprocess,
    run_backwards: bool,
    max_active_runs: int,
) -> int:
    """Load the months FROM to TO (as 2024-01), build the dbt models and run their tests as checks.

    With --missing or --changed only the months of FROM to TO that are that; of all since the oldest loaded one, where
    FROM and TO are left out.
    """
    from taxi_orchestration.cli import terminal
    from taxi_orchestration.cli.backfill import Backfill, months_at_source, months_to_do
    from taxi_orchestration.dbt.runner import DbtError
    from taxi_orchestration.definitions import build_definitions
    from taxi_orchestration.defs.clock import Clock
    from taxi_orchestration.instance.opening import open_instance
    from taxi_orchestration.instance.partitions import first_month
    from taxi_orchestration.instance.processes import fail_orphaned_runs
    from taxi_orchestration.instance.status import known_window, month_statuses
    from taxi_orchestration.months import MonthError, parse_range
    from taxi_orchestration.tlc.errors import TlcError
    from taxi_orchestration.tlc.publications import fetch_publications
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    if last is None and (first is not None or not (missing or changed)):
        raise click.UsageError("Say which months: FROM and TO, as 2024-01 2024-03, or --missing or --changed.")
    now, settings = Clock().now(), load_settings()
    try:
        window = parse_range(first, last, now, first_month(settings)) if first and last else None
    except MonthError as error:
        raise click.UsageError(str(error)) from error
    with terminal.showing_work() as screen, open_instance() as instance:
        warehouse = open_warehouse(settings)
        if not dry_run:
            fail_orphaned_runs(instance)
        window = window or known_window(warehouse, now, first_month(settings))
        statuses = month_statuses(warehouse, instance, window)
        if missing or changed:
            published = fetch_publications(settings.tlc_base_url, window.months)
            if errors := [answer for answer in published.values() if isinstance(answer, TlcError)]:
                screen.error(f"The TLC's host does not answer: try again later, or check TLC_BASE_URL. {errors[0]}")
                return SOMETHING_FAILED
            months = months_at_source(statuses, published, missing, changed, run_backwards)
        else:
            months = months_to_do(statuses, reprocess, run_backwards)
        if dry_run:
            screen.plan(window, months)
            return 0
        try:
            definitions = build_definitions(settings, progress=screen)
        except DbtError as error:
            screen.error(str(error))
            return SOMETHING_FAILED
        screen.expect(months)
        outcome = Backfill(definitions, instance, max_active_runs, run_backwards).run(
            months, is_of_a_range=len(window.months) > 1
        )
        statuses = month_statuses(warehouse, instance, window)
        screen.summary(statuses, outcome)
    return 0 if outcome.succeeded else SOMETHING_FAILED


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects, one a month.")
@_translate_errors
def status(as_json: bool) -> int:
    """One row a month: published, loaded, rows, fact rows, checks, what to do, when, by which run.

    Ends with 1 where there is something that somebody can do.
    """
    from taxi_orchestration.cli import terminal
    from taxi_orchestration.defs.clock import Clock
    from taxi_orchestration.instance.opening import open_instance
    from taxi_orchestration.instance.status import known_window, month_statuses, overall, to_do
    from taxi_orchestration.tlc.publications import fetch_publications
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    settings = load_settings()
    with open_instance() as instance:
        warehouse = open_warehouse(settings)
        now = Clock().now()
        window = known_window(warehouse, now)
        statuses = month_statuses(warehouse, instance, window)
        published = fetch_publications(settings.tlc_base_url, window.months)
        findings = overall(warehouse, instance, published, now)
    terminal.show_status(statuses, published, findings, as_json)
    # Where the TLC is late nobody here can do anything: it is said, and alerted, but all that can be done is done.
    coverage, _ = findings
    is_well = coverage.level != "error" and not any(to_do(month, published[m]) for m, month in statuses.items())
    return 0 if is_well else SOMETHING_FAILED


@main.command()
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: report.html in TAXI_HOME]",
)
@_translate_errors
def report(opens: bool, output: Path | None) -> None:
    """Write the report: one HTML file with pictures of all loaded months, which needs no network."""
    from taxi_orchestration.defs.clock import Clock
    from taxi_orchestration.instance.opening import open_instance
    from taxi_orchestration.instance.status import count_checks
    from taxi_orchestration.report.file import FILE_NAME, write_report
    from taxi_orchestration.warehouse.load_log import loaded_files
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    settings = load_settings()
    path = output or make_home(settings) / FILE_NAME
    if not path.parent.is_dir():
        raise click.UsageError(f"{path.parent} is no directory: make it, or give --output another file.")
    with open_instance() as instance:
        warehouse = open_warehouse(settings)
        checks = count_checks(instance, list(loaded_files(warehouse)))
    write_report(warehouse, Clock().now(), checks, path)
    click.echo(f"The report is in {path}", err=True)
    if opens and not webbrowser.open(path.absolute().as_uri()):
        click.echo(f"taxi: no browser was found on this machine. Open {path} by hand.", err=True)


@main.command("alert-test")
@_translate_errors
def alert_test() -> int:
    """Send a message to every service of TAXI_ALERT_URLS."""
    from taxi_orchestration.defs.notify import Message, NotifyError, send

    settings = load_settings()
    if not settings.alert_urls:
        raise SettingsError("TAXI_ALERT_URLS is not set: nobody is alerted. .env.example shows what it looks like.")
    message = Message(
        "taxi: a test",
        f"What: taxi alert-test\nWhy: somebody wants to know whether alerts arrive\nTo do: nothing.\n"
        f"See: {settings.taxi_ui_url}",
        is_bad=False,
    )
    try:
        refused = send(settings.alert_urls, message)
    except NotifyError as error:
        click.echo(f"taxi: {error}", err=True)
        return SOMETHING_FAILED
    for refusal in refused:
        click.echo(f"taxi: {refusal}", err=True)
    click.echo(f"Sent to {len(settings.alert_urls) - len(refused)} of {len(settings.alert_urls)} services.")
    return SOMETHING_FAILED if refused else 0


@main.command()
@_translate_errors
def url() -> None:
    """Print the libpq URL of the warehouse, password included; starts the embedded PostgreSQL if need be."""
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    click.echo(open_warehouse(load_settings()).target.url())


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_translate_errors
def psql(arguments: Sequence[str]) -> None:
    """Open psql on the warehouse, in the right schema. What follows `--` goes to psql."""
    from taxi_orchestration.postgres.binaries import program_directory
    from taxi_orchestration.postgres.connection import passes_options
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    settings = load_settings()
    target = open_warehouse(settings).target
    environment = {**os.environ, **target.environment()}
    search_path = f"{settings.schema_name},public"
    if settings.warehouse is None or passes_options(target):
        environment["PGOPTIONS"] = f"{os.environ.get('PGOPTIONS', '')} -c search_path={search_path}"
    else:
        # A search_path would stay with the pooler's session, for whoever gets that next.
        environment.pop("PGOPTIONS", None)
        set_path = f"set local search_path = {search_path}"
        if any(re.match(r"-[aAbeEnqsStxX1]*[cf]|--(command|file)", argument) for argument in arguments):
            arguments = ["--single-transaction", "--quiet", "--command", set_path, *arguments]
        else:
            click.echo(f"taxi: a pooler is in between: begin each transaction with: begin; {set_path};", err=True)
    program = shutil.which("psql") or str(program_directory(None) / "psql")
    # In place of this process, so that Ctrl-C is psql's alone: it cancels a query with it.
    os.execve(program, [program, *arguments], environment)  # noqa: S606 - the user's own


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_translate_errors
def dbt(arguments: Sequence[str]) -> None:
    """Run dbt with ARGUMENTS on the project and the warehouse, for example: taxi dbt test --select fct_trips."""
    from contextlib import ExitStack

    from taxi_orchestration.dbt.runner import BUILDING, dbt_environment
    from taxi_orchestration.warehouse.dbt_tables import one_build
    from taxi_orchestration.warehouse.raw_tables import create_raw_tables
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    settings = load_settings()
    warehouse = open_warehouse(settings)
    environment = dbt_environment(warehouse, make_home(settings) / "dbt" / "by_hand")
    program = str(Path(sys.executable).with_name("dbt"))
    os.chdir(PROJECT_DIRECTORY)
    with ExitStack() as stack:
        if BUILDING.intersection(arguments):
            create_raw_tables(warehouse)
            connection = stack.enter_context(one_build(warehouse, click.echo))
            # The connection goes on in dbt's process, and with it the lock, until that ends.
            os.set_inheritable(connection.fileno(), True)
        os.execve(program, [program, *arguments], {**os.environ, **environment})  # noqa: S606 - the user's own


@main.command()
@_translate_errors
def stop() -> None:
    """Stop the embedded PostgreSQL; what it holds is kept."""
    from taxi_orchestration.postgres.server import stop as stop_server

    settings = load_settings()
    stopped = stop_server(settings.taxi_home)
    click.echo(f"The embedded PostgreSQL of {settings.taxi_home} {'is stopped' if stopped else 'was not running'}.")


@main.command("check-settings", hidden=True)
@_translate_errors
def check_settings() -> None:
    """Refuse settings that cannot be used: for `make dev`, because Dagster ends in a traceback upon some of them."""
    load_settings()
    dagster_home()
