"""Where a benchmark runs: a home, a schema and an embedded server of its own, and a host with synthetic months."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psycopg
from psycopg import sql

from taxi_orchestration.cli.programs import program_command
from taxi_orchestration.loading import Loader, open_loader
from taxi_orchestration.months import add_months
from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, ensure_running, remove
from taxi_orchestration.settings import DEFAULT_SCHEMA, PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.warehouse import open_warehouse
from taxi_orchestration_tests.support.synthetic import write_month, write_zones

FIRST_MONTH = DATASET.first_month
MONTH_ROWS = 57_000
SCHEMA = DEFAULT_SCHEMA


@dataclass(frozen=True)
class Workplace:
    """A server, a host, and the environment that leads to both."""

    directory: Path
    url: str
    target: PostgresTarget

    @property
    def settings(self) -> Settings:
        """The settings of `environment`."""
        return Settings(tlc_base_url=self.url, taxi_home=self.directory / "home", pg_schema=SCHEMA)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a `taxi` that works here."""
        own = {"TLC_BASE_URL": self.url, "TAXI_HOME": str(self.directory / "home"), "PG_SCHEMA": SCHEMA}
        return {**os.environ, **own}

    def publish(self, month: date, rows: int = MONTH_ROWS, row_group_rows: int = 1_048_576) -> Path:
        """Make a month and put it on the host; its rows depend on the month alone."""
        path = self.directory / "host" / "trip-data" / DATASET.file_name(month)
        write_month(path, month, rows, seed=month.year * 12 + month.month, row_group_rows=row_group_rows)
        return path

    def publish_range(self, first: date, months: int, rows: int = MONTH_ROWS) -> list[date]:
        """Make so many months in a row."""
        made = [add_months(first, number) for number in range(months)]
        for month in made:
            self.publish(month, rows)
        return made

    def start_over(self) -> None:
        """An empty schema, and no work left for the server."""
        with psycopg.connect(self.target.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(SCHEMA)))
            connection.execute("checkpoint")

    def settle(self) -> None:
        """No write, and nothing for autovacuum, is left of what came before."""
        with psycopg.connect(self.target.url(), autocommit=True) as connection:
            connection.execute("vacuum (analyze)")
            connection.execute("checkpoint")

    @contextmanager
    def loader(self) -> Iterator[Loader]:
        """Loads months here."""
        with open_loader(self.settings, open_warehouse(self.settings)) as loader:
            yield loader

    def taxi(self, *arguments: str, code: int = 0) -> float:
        """Run `taxi` as a user does; the seconds it took. Raises where it ends with another `code`."""
        command = program_command("taxi", *arguments)
        start = time.perf_counter()
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != code:
            raise RuntimeError(f"taxi {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return time.perf_counter() - start


@contextmanager
def workplace() -> Iterator[Workplace]:
    """A workplace in a temporary directory, with nothing left of it afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="taxi-bench-"))
    for folder in ("host/trip-data", "host/misc", "home"):
        (directory / folder).mkdir(parents=True)
    write_zones(directory / "host" / "misc" / "taxi_zone_lookup.csv")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A process of its own, so that it takes no turn of this one's interpreter.
    serve = [
        sys.executable,
        "-m",
        "http.server",
        str(port),
        "--bind",
        "127.0.0.1",
        "--directory",
        str(directory / "host"),
    ]
    host = subprocess.Popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        target = ensure_running(directory / "home").target(WAREHOUSE_DATABASE)
        _wait_for(port)
        yield Workplace(directory, f"http://127.0.0.1:{port}", target)
    finally:
        host.terminate()
        host.wait()
        remove(directory / "home")
        shutil.rmtree(directory, ignore_errors=True)


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the benchmark's host of synthetic months did not start")
