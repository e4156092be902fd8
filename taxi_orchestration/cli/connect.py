"""The warehouse for other programs: its address, psql, and dbt by hand."""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack

import click

from taxi_orchestration.cli.programs import become, program_command
from taxi_orchestration.postgres.binaries import find_psql
from taxi_orchestration.postgres.connection import WarehouseError, connect, passes_options
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings, SettingsError, make_home
from taxi_orchestration.warehouse.reader import ensure_reader
from taxi_orchestration.warehouse.warehouse import open_warehouse


def make_address(settings: Settings, form: str | None, read_only: bool) -> str:
    """Return the address of the warehouse with schema and password, as libpq, or `form`, writes it.

    `read_only` is for a role that can only read, created if missing. Notes go to stderr. Starts the embedded PostgreSQL
    if needed. Raises SettingsError for `read_only` in another server.
    """
    warehouse = open_warehouse(settings)
    target = warehouse.target
    if read_only:
        if settings.warehouse is not None:
            raise SettingsError(
                "--read-only creates a role in the embedded PostgreSQL only. In another server the administrator "
                "creates the role: docs/reliability.md has the grants."
            )
        target = ensure_reader(settings.taxi_home, warehouse)
    if form == "jdbc":
        return target.jdbc_url(settings.search_path)
    try:
        keeps_path = _keeps_search_path(settings, target)
    except WarehouseError:
        # An unreachable server has a correct address too.
        keeps_path = True
    if not keeps_path:
        click.echo(f"taxi: a pooler is in between: name the schema yourself, {settings.schema_name}.", err=True)
    driver = "postgresql+psycopg2" if form == "sqlalchemy" else "postgresql"
    return target.url(driver, settings.search_path if keeps_path else None)


def open_psql(settings: Settings, arguments: Sequence[str]) -> None:
    """Replace this process by psql on the warehouse, in the right schema."""
    target = open_warehouse(settings).target
    environment = {**os.environ, **target.environment()}
    if _keeps_search_path(settings, target):
        environment["PGOPTIONS"] = f"{os.environ.get('PGOPTIONS', '')} -c search_path={settings.search_path}"
    else:
        # A search_path would stay in the pooler's session for the next client.
        environment.pop("PGOPTIONS", None)
        set_path = f"set local search_path = {settings.search_path}"
        if any(re.match(r"-[aAbeEnqsStxX1]*[cf]|--(command|file)", argument) for argument in arguments):
            arguments = ["--single-transaction", "--quiet", "--command", set_path, *arguments]
        else:
            click.echo(f"taxi: a pooler is in between: begin each transaction with: begin; {set_path};", err=True)
    with connect(target, autocommit=True, options="") as connection:
        program = str(find_psql(connection.info.server_version // 10_000))
    become([program, *arguments], environment)


def run_dbt(settings: Settings, arguments: Sequence[str]) -> None:
    """Replace this process by dbt on the project and the warehouse; one that builds holds the schema's build lock."""
    from taxi_orchestration.dbt.runner import BUILDING, dbt_environment
    from taxi_orchestration.warehouse.dbt_tables import one_build
    from taxi_orchestration.warehouse.raw_tables import create_raw_tables

    warehouse = open_warehouse(settings)
    environment = dbt_environment(warehouse, make_home(settings) / "dbt" / "by_hand" / settings.schema_name)
    os.chdir(PROJECT_DIRECTORY)
    with ExitStack() as stack:
        if BUILDING.intersection(arguments):
            create_raw_tables(warehouse)
            connection = stack.enter_context(one_build(warehouse, click.echo))
            # dbt's process inherits the connection, and so the lock, until it ends.
            os.set_inheritable(connection.fileno(), True)
        # dbt writes colours into a pipe too.
        colours = {} if sys.stdout.isatty() else {"DBT_USE_COLORS": "false"}
        become(program_command("dbt", *arguments), {**colours, **os.environ, **environment})


def _keeps_search_path(settings: Settings, target: PostgresTarget) -> bool:
    """Return whether a search_path in the startup options takes effect: a pooler refuses or ignores it."""
    return settings.warehouse is None or passes_options(target)
