"""The commands of `taxi`: arguments and dispatch. Output belongs to terminal.py, the work to other modules.

The commands import what they need once the arguments are parsed: the settings take a quarter of a second, Dagster takes
seconds, and most commands do not need it.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import threading
import time
import warnings
import webbrowser
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click

from taxi_orchestration.months import MOST_MONTHS_AT_ONCE, default_months_at_once
from taxi_orchestration.tlc.dataset import DATASET

if TYPE_CHECKING:
    from taxi_orchestration.cli.selection import Reprocess, Selection
    from taxi_orchestration.instance.status import Records
    from taxi_orchestration.months import Window
    from taxi_orchestration.settings import Settings
    from taxi_orchestration.warehouse.warehouse import Warehouse

Arguments = ParamSpec("Arguments")

SOMETHING_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


def run() -> None:
    """Run `taxi` as a program, and exit without Python's clean-up: the operating system frees the memory at once.

    Python would visit half a million objects once more and free each: 1.5 of 10.5 s of CPU of a backfill of three
    months (measured by hand).
    """
    code: list[object] = [SOMETHING_FAILED]

    def end_now() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code[0] if isinstance(code[0], int) else SOMETHING_FAILED)

    # atexit calls the function that was registered first last, after all threads have ended.
    atexit.register(end_now)
    try:
        main()
    except SystemExit as ended:
        code[0] = ended.code or 0
        raise


@click.group(
    help=f"New York {DATASET.label} trips, exact by month, in PostgreSQL.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="taxi-orchestration")
def main() -> None:
    """Group the commands."""
    # Half a million objects of Dagster's and dbt's modules live until the end: garbage collections that visit them
    # took 0.8 of 6.3 s of CPU of a backfill (measured by hand).
    gc.set_threshold(100_000, 20, 100)


def _with_settings(command: Callable[Concatenate[Settings, Arguments], int | None]) -> Callable[Arguments, None]:
    """Load the settings, run a command with these, and print expected errors without a traceback."""

    @wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        # Dagster and dbt warn of their own deprecated and beta parts, which a user cannot change, and Dagster of every
        # attempt to connect to its storage.
        warnings.simplefilter("ignore")
        logging.getLogger().addHandler(logging.NullHandler())
        try:
            from taxi_orchestration.cli.programs import ProgramError
            from taxi_orchestration.postgres.binaries import ServerError
            from taxi_orchestration.postgres.connection import WarehouseError
            from taxi_orchestration.settings import SettingsError, load_settings, read_dotenv

            read_dotenv()
            code = command(load_settings(), *args, **kwargs) or 0
            sys.stdout.flush()
        except KeyboardInterrupt:
            # The first clause, because Ctrl-C during the imports leaves the names of the others undefined.
            click.echo(f"taxi: {describe_interrupt(kwargs.get('reprocess'))}", err=True)
            code = INTERRUPTED
            if any(not thread.daemon for thread in threading.enumerate()[1:]):
                # An ordinary exit would join threads that wait for a host or a lock.
                os._exit(code)
        except BrokenPipeError:
            # The reader closed the pipe, as `head` does; Python would fail again when it flushes the output at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = SOMETHING_FAILED
        except (SettingsError, ProgramError, ServerError, WarehouseError) as error:
            from taxi_orchestration.cli.terminal import print_error

            print_error(str(error))
            code = BAD_INPUT
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            advice = "Free some space or make the directory writable, or set TAXI_HOME to another directory."
            click.echo(f"taxi: writing a file failed{place}: {error.strerror or error}. {advice}", err=True)
            code = BAD_INPUT
        sys.exit(code)

    return run


def describe_interrupt(reprocess: object) -> str:
    """Return the message after Ctrl-C; `reprocess` is the option of `taxi backfill`, None for other commands."""
    if reprocess is None:
        return "interrupted."
    if reprocess == "completed":
        return "interrupted. The loaded months are kept. The same command begins again."
    return "interrupted. Run the same command to continue; it skips what is done."


def _parse_window(context: click.Context, _: click.Parameter, months: Sequence[str]) -> Window | None:
    """Return the months FROM to TO; None if --missing or --changed select the months."""
    from taxi_orchestration.defs.clock import Clock
    from taxi_orchestration.months import MonthError, parse_range

    if len(months) > 2:
        raise click.UsageError(f"{len(months)} months were given. Give one month, or two: FROM and TO.")
    if not months and not (context.params.get("missing") or context.params.get("changed")):
        raise click.UsageError(
            "No month was given. Give one as 2024-03, or FROM and TO as 2024-01 2024-03, or --missing, --changed."
        )
    try:
        return parse_range(months[0], months[-1], Clock().now()) if months else None
    except MonthError as error:
        raise click.UsageError(str(error)) from error


@main.command()
@click.argument("window", metavar="[FROM [TO]]", nargs=-1, callback=_parse_window)
@click.option("--missing", is_flag=True, is_eager=True, help="The published months that are not loaded.")
@click.option("--changed", is_flag=True, is_eager=True, help="The loaded months that the TLC has re-issued.")
@click.option("--dry-run", is_flag=True, help="Show what would be loaded, and load nothing.")
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
    type=click.IntRange(1, MOST_MONTHS_AT_ONCE),
    default=default_months_at_once,
    help="How many months are loaded side by side.  [default: as many as there are cores]",
)
@click.option("--verbose", is_flag=True, help="Show the lines of dbt's log too.")
@_with_settings
def backfill(
    settings: Settings,
    window: Window | None,
    missing: bool,
    changed: bool,
    dry_run: bool,
    reprocess: Reprocess,
    run_backwards: bool,
    max_active_runs: int,
    verbose: bool,
) -> int:
    """Load months, build the models, run the checks.

    FROM and TO are months such as 2024-01, both included. FROM alone is that month; a date stands for its month.
    --missing and --changed select among the months FROM to TO, or among all since the oldest loaded one.
    """
    from taxi_orchestration.cli import terminal
    from taxi_orchestration.cli.selection import Selection, months_at_source, months_to_do
    from taxi_orchestration.defs.clock import Clock
    from taxi_orchestration.instance.status import compare_months, known_window
    from taxi_orchestration.months import partition_key
    from taxi_orchestration.tlc.errors import TlcError
    from taxi_orchestration.tlc.publications import fetch_publications
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    began = time.monotonic()
    if window and window.start < settings.first_month:
        raise click.UsageError(
            f"{partition_key(window.start)} is before {partition_key(settings.first_month)}, the TAXI_FIRST_MONTH of "
            "this project. Choose a later month, or set another."
        )
    with terminal.waiting("Looking at what is loaded"):
        warehouse = open_warehouse(settings)
        window = window or known_window(warehouse, Clock().now(), settings.first_month)
        records = _read_records(settings, warehouse, window, ends_orphans=True)
        statuses = compare_months(warehouse, records, window)
    if missing or changed:
        published = fetch_publications(settings.tlc_base_url, window.months)
        if errors := [answer for answer in published.values() if isinstance(answer, TlcError)]:
            terminal.print_error(str(errors[0]))
            return SOMETHING_FAILED
        months = months_at_source(statuses, published, missing, changed, run_backwards)
    else:
        months = months_to_do(statuses, reprocess, run_backwards)
    if dry_run:
        terminal.show_plan(window, months)
        return 0
    if not months:
        terminal.show_nothing_to_do(statuses)
        return 0
    shown = months if missing or changed else window.months
    selection = Selection(window, months, shown, newest_first=run_backwards)
    return _load_and_build(settings, warehouse, selection, max_active_runs, verbose, began)


def _load_and_build(
    settings: Settings,
    warehouse: Warehouse,
    selection: Selection,
    months_at_once: int,
    verbose: bool,
    began: float,
) -> int:
    """Load and build the selected months; show the progress and the result."""
    from taxi_orchestration.cli import terminal
    from taxi_orchestration.cli.screen import showing_progress
    from taxi_orchestration.instance.status import compare_months

    window, months = selection.window, selection.months
    with showing_progress(len(months), verbose) as screen:
        # Imported while the screen already shows progress: it takes seconds.
        from taxi_orchestration.cli.backfill import MONTHS_PER_RUN, Backfill
        from taxi_orchestration.dbt.runner import DbtError
        from taxi_orchestration.definitions import build_definitions
        from taxi_orchestration.instance.opening import open_instance

        try:
            definitions = build_definitions(settings, progress=screen)
        except DbtError as error:
            screen.stop()
            terminal.print_error(str(error))
            return SOMETHING_FAILED
        with open_instance() as instance:
            months_per_run = settings.taxi_months_per_run or MONTHS_PER_RUN
            started = Backfill(
                definitions, instance, months_at_once, selection.newest_first, months_per_run, progress=screen
            )
            outcome = started.run(months, is_of_a_range=len(window.months) > 1)
            statuses = compare_months(warehouse, _read_records(settings, warehouse, window), window)
    logs = [
        log
        for run_id in outcome.failed_runs
        for log in (settings.taxi_home / "step_logs" / run_id).rglob("*.out")
        if log.stat().st_size
    ]
    shown = {month: statuses[month] for month in selection.shown}
    terminal.show_summary(shown, outcome, screen.seconds, time.monotonic() - began, logs)
    # The last month of a nightly range may not be published; if none is, the address of the host may be wrong.
    is_any_loaded = any(status.file for status in shown.values())
    return 0 if outcome.succeeded and is_any_loaded else SOMETHING_FAILED


def _read_records(settings: Settings, warehouse: Warehouse, window: Window, *, ends_orphans: bool = False) -> Records:
    """Return Dagster's record of these months, from the cache unless new events were recorded.

    With `ends_orphans` orphaned runs are marked as failed first.
    """
    from taxi_orchestration.defs.clock import Clock
    from taxi_orchestration.instance.record_cache import RecordCache
    from taxi_orchestration.instance.status import known_window, read_records

    cache = RecordCache(settings)
    if (cache.is_idle or not ends_orphans) and (records := cache.read(window.months)):
        return records
    from taxi_orchestration.asset_keys import AssetKeys
    from taxi_orchestration.instance.opening import open_instance
    from taxi_orchestration.instance.processes import fail_orphaned_runs

    # All months that the next command may need: that costs little more than the few of this one.
    months = sorted({*window.months, *known_window(warehouse, Clock().now(), settings.first_month).months})
    assets = AssetKeys(settings.student)
    with open_instance() as instance:
        if ends_orphans and fail_orphaned_runs(instance, assets):
            cache = RecordCache(settings)
        records = read_records(instance, assets, months)
    cache.write(records)
    return records


@main.command()
@click.option("--all", "shows_all", is_flag=True, help="One row a month, in place of the grid.")
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects, one a month.")
@_with_settings
def status(settings: Settings, shows_all: bool, as_json: bool) -> int:
    """Show every month, and the months that need something.

    A month needs something if it is failed, unfinished, newly published or re-issued. The exit code is 1 if a requested
    month failed, fails a check, is unfinished, was re-issued or is lost from PostgreSQL.
    """
    from taxi_orchestration.cli import terminal
    from taxi_orchestration.defs.clock import Clock
    from taxi_orchestration.instance.status import check_all_months, compare_months, known_window
    from taxi_orchestration.months import windows_of
    from taxi_orchestration.tlc.publications import fetch_publications
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    now = Clock().now()
    with terminal.waiting("Looking at what is loaded"), ThreadPoolExecutor(1) as executor:
        warehouse = open_warehouse(settings)
        window = known_window(warehouse, now, settings.first_month)
        answers = executor.submit(fetch_publications, settings.tlc_base_url, window.months)
        records = _read_records(settings, warehouse, window)
        # A month that was requested and failed may be older than the loaded ones.
        of_month, first = records.of_month, settings.first_month
        failed = sorted(m for m in of_month if first <= m < window.start and of_month[m].has_failed)
        windows = [*windows_of(failed), window]
        statuses = {m: s for each in windows for m, s in compare_months(warehouse, records, each).items()}
        published = {**fetch_publications(settings.tlc_base_url, failed), **answers.result()}
        findings = check_all_months(warehouse, records, published, now, settings.first_month)
    if as_json:
        terminal.show_json(statuses, published)
    else:
        (terminal.show_table if shows_all else terminal.show_grid)(statuses, published)
        terminal.show_needs(statuses, published, findings)
    coverage, _ = findings
    signs = {terminal.sign_of(month, published[m]) for m, month in statuses.items()}
    return SOMETHING_FAILED if coverage.level == "error" or signs & terminal.NEEDS_ACTION else 0


@main.command()
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: report.html in TAXI_HOME]",
)
@_with_settings
def report(settings: Settings, opens: bool, output: Path | None) -> None:
    """Write the report: one HTML file with charts of all months.

    Whoever opens it needs no network.
    """
    if output and not output.parent.is_dir():
        raise click.UsageError(f"{output.parent} is no directory: make it, or give --output another file.")
    from taxi_orchestration.asset_keys import AssetKeys
    from taxi_orchestration.defs.clock import Clock
    from taxi_orchestration.instance.opening import open_instance
    from taxi_orchestration.instance.status import count_checks
    from taxi_orchestration.report.file import report_path, write_report
    from taxi_orchestration.warehouse.load_log import loaded_files
    from taxi_orchestration.warehouse.warehouse import open_warehouse

    path = output or report_path(settings)
    with open_instance() as instance:
        warehouse = open_warehouse(settings)
        checks = count_checks(instance, AssetKeys(settings.student), list(loaded_files(warehouse)))
    write_report(warehouse, Clock().now(), checks, path)
    click.echo(f"The report is in {path}", err=True)
    if opens and not webbrowser.open(path.absolute().as_uri()):
        click.echo(f"taxi: no browser was found on this machine. Open {path} by hand.", err=True)


@main.command("alert-test")
@_with_settings
def alert_test(settings: Settings) -> int:
    """Send a message to all of TAXI_ALERT_URLS."""
    from taxi_orchestration.defs.notify import Message, NotifyError, send
    from taxi_orchestration.settings import SettingsError

    if not settings.alert_urls:
        raise SettingsError("TAXI_ALERT_URLS is not set, so that alerts reach nobody. .env.example shows an example.")
    message = Message(
        "taxi: a test",
        f"What: taxi alert-test\nWhy: a test of whether alerts arrive\nTo do: nothing.\nSee: {settings.taxi_ui_url}",
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
@click.option("--jdbc", "form", flag_value="jdbc", help="For DBeaver, Metabase and others in Java.")
@click.option("--sqlalchemy", "form", flag_value="sqlalchemy", help="For pandas, Superset and others in Python.")
@click.option("--read-only", is_flag=True, help="For a role that can only read, created if missing.")
@_with_settings
def url(settings: Settings, form: str | None, read_only: bool) -> None:
    """Print the address for other programs.

    Without an option, a libpq URL of the warehouse, with schema and password. Starts the embedded PostgreSQL if needed.
    docs/connect.md has the lines for each program.
    """
    from taxi_orchestration.cli.connect import make_address

    click.echo(make_address(settings, form, read_only))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_with_settings
def psql(settings: Settings, arguments: Sequence[str]) -> None:
    """Open psql on the warehouse, in the right schema. What follows `--` goes to psql."""
    from taxi_orchestration.cli.connect import open_psql

    open_psql(settings, arguments)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_with_settings
def dbt(settings: Settings, arguments: Sequence[str]) -> None:
    """Run dbt on the project and the warehouse.

    ARGUMENTS are dbt's, for example: taxi dbt test --select fct_trips.
    """
    from taxi_orchestration.cli.connect import run_dbt

    run_dbt(settings, arguments)


@main.command()
@click.option("--force", is_flag=True, help="Stop it even while programs are connected.")
@_with_settings
def stop(settings: Settings, force: bool) -> int:
    """Stop the embedded PostgreSQL, data kept."""
    from taxi_orchestration.cli import terminal
    from taxi_orchestration.cli.data import describe_use
    from taxi_orchestration.postgres.server import stop as stop_server

    if not force and (use := describe_use(settings)):
        terminal.print_error(f"{use} End them, or stop it anyway: taxi stop --force")
        return SOMETHING_FAILED
    stopped = stop_server(settings.taxi_home)
    click.echo(f"The embedded PostgreSQL of {settings.taxi_home} {'is stopped' if stopped else 'was not running'}.")
    return 0


@main.command(hidden=True)
@click.option("--port", type=click.IntRange(1, 65535), default=3000)
@_with_settings
def dev(settings: Settings, port: int) -> None:
    """Start the Dagster UI: what `make dev` runs."""
    from taxi_orchestration.cli.dev import start

    start(settings, port)


@main.group("class")
def class_() -> None:
    """Manage a class on one Dagster.

    Each student has a schema, a role and a code location.
    """


@class_.command("add")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--code",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="A checkout of the students' own, for what their code location serves.  [default: this one]",
)
@_with_settings
def class_add(settings: Settings, names: Sequence[str], code: Path | None) -> None:
    """Create a role, a schema and a code location for each of NAMES.

    The role of PG_USER must be allowed to create roles and schemas. Repeating the command changes no password and no
    table.
    """
    from taxi_orchestration.cli.classroom import add_students, name_students
    from taxi_orchestration.cli.dev import find_running
    from taxi_orchestration.cli.terminal import print_note

    if code and not (code / "taxi_orchestration" / "definitions.py").is_file():
        raise click.UsageError(f"{code} is no checkout of this project: it has no taxi_orchestration/definitions.py.")
    students = name_students(settings, names)
    add_students(settings, students, code)
    for student in students:
        click.echo(f"{student.name}: settings and password are in {student.file}")
    stop = f"stop the Dagster UI at {ui} (Ctrl-C in its terminal), then " if (ui := find_running(settings)) else ""
    print_note(f"Next: {stop}taxi class serve, which opens the Dagster UI of all.")


@class_.command("remove")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@_with_settings
def class_remove(settings: Settings, names: Sequence[str], yes: bool) -> int:
    """Remove students with all their tables, after a confirmation."""
    from taxi_orchestration.cli.classroom import describe_student, name_students, remove_students

    students = name_students(settings, names)
    for student in students:
        click.echo(describe_student(settings, student))
    if not yes and not click.confirm("Remove all that? This cannot be undone.", default=False):
        click.echo("Nothing was removed.")
        return 0
    remove_students(settings, students)
    click.echo(f"Removed: {', '.join(student.name for student in students)}.")
    return 0


@class_.command("status")
@click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects, one a student.")
@_with_settings
def class_status(settings: Settings, as_json: bool) -> int:
    """Show the months, rows, checks and last run of each student.

    Below the table it says what is wrong. The exit code is 1 if anything is wrong.
    """
    from taxi_orchestration.cli import terminal
    from taxi_orchestration.cli.class_status import read_class
    from taxi_orchestration.defs.clock import Clock

    with terminal.waiting("Reading what each student has loaded"):
        found, note = read_class(settings, Clock().now())
    (terminal.show_class_json if as_json else terminal.show_class)(found)
    if note:
        terminal.print_note(note)
    return SOMETHING_FAILED if any(student.wrong for student in found) else 0


@class_.command("serve")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option("--read-only-port", type=click.IntRange(1, 65535), help="The port of a second, read-only UI.")
@_with_settings
def class_serve(settings: Settings, port: int, read_only_port: int | None) -> None:
    """Serve one Dagster UI for all students, until Ctrl-C.

    Each student has a code server.
    """
    if port == read_only_port:
        raise click.UsageError("--port and --read-only-port must differ.")
    from taxi_orchestration.cli.class_server import serve

    serve(settings, port, read_only_port)


@main.command("remove-data", hidden=True)
@_with_settings
def remove_data(settings: Settings) -> int:
    """Remove the loaded months and Dagster's history, after a confirmation: what `make clean-data` runs."""
    from taxi_orchestration.cli.data import describe_data, remove_data

    if not (found := describe_data(settings)):
        click.echo(f"There is no data in {settings.taxi_home}.")
        return 0
    if not click.confirm(f"Remove {found} from {settings.taxi_home}? This cannot be undone.", default=False):
        click.echo("Nothing was removed.")
        return 0
    remove_data(settings)
    click.echo(f"Removed from {settings.taxi_home}: {found}.")
    return 0
