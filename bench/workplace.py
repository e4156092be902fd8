"""The environment of a benchmark: a separate home, schema and embedded server, and a host with synthetic months."""

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
from taxi_orchestration.postgres.postmaster import free_port
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
    """A server, a host, and the environment variables that select both."""

    directory: Path
    url: str
    target: PostgresTarget

    @property
    def settings(self) -> Settings:
        """Return the settings of `environment`."""
        return Settings(tlc_base_url=self.url, taxi_home=self.directory / "home", pg_schema=SCHEMA)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a `taxi` that uses this server and host."""
        own = {"TLC_BASE_URL": self.url, "TAXI_HOME": str(self.directory / "home"), "PG_SCHEMA": SCHEMA}
        return {**os.environ, **own}

    def publish(self, month: date, rows: int = MONTH_ROWS, row_group_rows: int = 1_048_576) -> Path:
        """Publish a synthetic month on the host, and return its file. The rows depend only on the month."""
        path = self.directory / "host" / "trip-data" / DATASET.file_name(month)
        write_month(path, month, rows, seed=month.year * 12 + month.month, row_group_rows=row_group_rows)
        return path

    def publish_range(self, first: date, months: int, rows: int = MONTH_ROWS) -> list[date]:
        """Publish `months` consecutive months, and return them."""
        published = [add_months(first, number) for number in range(months)]
        for month in published:
            self.publish(month, rows)
        return published

    def start_over(self) -> None:
        """Drop the schema, and let the server write everything to disk."""
        with psycopg.connect(self.target.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(SCHEMA)))
            connection.execute("checkpoint")

    def settle(self) -> None:
        """Finish pending writes and the work of autovacuum, which would disturb the next measurement."""
        with psycopg.connect(self.target.url(), autocommit=True) as connection:
            connection.execute("vacuum (analyze)")
            connection.execute("checkpoint")

    @contextmanager
    def loader(self) -> Iterator[Loader]:
        """Open a loader for the duration of the block."""
        with open_loader(self.settings, open_warehouse(self.settings)) as loader:
            yield loader

    def taxi(self, *arguments: str, code: int = 0) -> float:
        """Run `taxi` as a user does, and return the seconds. Raises if its exit code is not `code`."""
        command = program_command("taxi", *arguments)
        start = time.perf_counter()
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != code:
            raise RuntimeError(f"taxi {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return time.perf_counter() - start


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Set up a workplace in a temporary directory for the duration of the block, and then remove it."""
    directory = Path(tempfile.mkdtemp(prefix="taxi-bench-"))
    for folder in ("host/trip-data", "host/misc", "home"):
        (directory / folder).mkdir(parents=True)
    write_zones(directory / "host" / "misc" / "taxi_zone_lookup.csv")
    port = free_port()
    # A separate process does not compete for this interpreter's lock.
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
        _wait_for_port(port)
        yield Workplace(directory, f"http://127.0.0.1:{port}", target)
    finally:
        host.terminate()
        host.wait()
        remove(directory / "home")
        shutil.rmtree(directory, ignore_errors=True)


def _wait_for_port(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("the benchmark's host of synthetic months did not start")
