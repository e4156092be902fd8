"""Celery workers on several hosts, which are containers, and the services that the workers need."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from taxi_orchestration.months import partition_key
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.dagster_dev import Ui
from taxi_orchestration_tests.support.docker_engine import docker, stand_in
from taxi_orchestration_tests.support.synthetic import write_month, write_zones
from taxi_orchestration_tests.support.waiting import until
from taxi_orchestration_tests.support.zone_shapes import write_zone_shapes

NETWORK = "taxi-celery"
PORT = 3283
PASSWORD = "only-for-this-network"
WORKER = ("celery", "-A", "dagster_celery.app", "worker", "-Q", "dagster", "-c", "1", "--disable-prefetch")


@dataclass
class Hosts:
    """The containers of one test or benchmark."""

    months: Sequence[date]
    ui: Ui = field(default_factory=lambda: Ui(PORT))

    def wait_until_up(self) -> None:
        """Wait until the UI knows the assets of the code server."""
        until(lambda: self.ui.is_up() and self.ui.list_assets(), 180, pause=1)

    def launch_backfill(self) -> str:
        """Launch a backfill of all months, with the request of the UI's dialog, and return its id."""
        self.wait_until_up()
        return self.ui.launch_backfill(self.ui.list_assets(), [partition_key(month) for month in self.months])

    def read_month_states(self) -> dict[str, tuple[str, int]]:
        """Return the state and the number of rows of each month that has rows, as `taxi status` reports them."""
        output = docker("exec", f"{NETWORK}-code", "sh", "-c", "taxi status --json || true")
        return {row["month"]: (row["state"], row["raw_rows"]) for row in json.loads(output) if row["raw_rows"]}


@contextmanager
def running_hosts(
    base: str, directory: Path, months: Sequence[date], rows: int, workers: int, config: Mapping[str, Any] | None = None
) -> Iterator[Hosts]:
    """Run `workers` Celery workers and their services for the duration of the block.

    `config` overrides sections of the dagster.yaml of deploy/celery.
    """
    files = directory / "tlc"
    for folder in ("trip-data", "misc"):
        (files / folder).mkdir(parents=True, exist_ok=True)
    for month in months:
        write_month(files / "trip-data" / DATASET.file_name(month), month, rows, seed=month.toordinal())
    write_zones(files / "misc/taxi_zone_lookup.csv")
    write_zone_shapes(files / "misc/taxi_zones.zip")
    (directory / "dagster.yaml").write_text(render_dagster_yaml(workers, config or {}))
    (directory / "password").write_text(PASSWORD)
    (directory / "workspace.yaml").write_text(
        "load_from: [{grpc_server: {host: code, port: 4000, location_name: taxi}}]"
    )
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755)
    variables = {
        "DAGSTER_POSTGRES_URL": f"postgresql+psycopg2://postgres:{PASSWORD}@postgres/dagster",
        "CELERY_BROKER_URL": "redis://redis:6379/0",
        "CELERY_RESULT_BACKEND": "redis://redis:6379/1",
        "TLC_BASE_URL": "http://tlc:8000",
        "TAXI_MONTHS_PER_RUN": "6",
        **{"PG_HOST": "postgres", "PG_USER": "postgres", "PG_PASSWORD": PASSWORD, "PG_DBNAME": "taxi"},
        "PG_SSLMODE": "disable",
    }

    def start(name: str, image: str, *command: str, options: Sequence[str] = ()) -> None:
        environment = [f"--env={key}={value}" for key, value in variables.items()]
        docker(
            *(
                "run",
                "--detach",
                "--init",
                "--name",
                f"{NETWORK}-{name}",
                "--network",
                NETWORK,
                "--network-alias",
                name,
            ),
            *environment,
            *options,
            *(image, *command),
        )

    home_mounts = ["-v", f"{directory}/dagster.yaml:/opt/dagster/dagster.yaml:ro", "--no-healthcheck"]
    home_mounts += ["-v", f"{directory}/workspace.yaml:/opt/dagster/workspace.yaml:ro"]
    remove_hosts()
    docker("network", "create", NETWORK)
    try:
        password = ["-v", f"{directory}/password:/run/password:ro", "--env", "POSTGRES_PASSWORD_FILE=/run/password"]
        start("postgres", stand_in(base, "postgres"), "postgres", "-c", "max_connections=200", options=password)
        start("redis", stand_in(base, "redis"))
        serve = ("python3", "-m", "http.server", "8000", "--directory", "/files")
        start("tlc", base, *serve, options=["-v", f"{files}:/files:ro"])
        ready = ("sh", "-c", "pg_isready --host 127.0.0.1 || true")
        until(lambda: "accepting" in docker("exec", f"{NETWORK}-postgres", *ready), pause=0.5)
        for name in ("dagster", "taxi"):
            docker("exec", "--env", f"PGPASSWORD={PASSWORD}", f"{NETWORK}-postgres", *_build_createdb_command(name))
        start("code", "taxi-orchestration", options=home_mounts)
        start("daemon", "taxi-orchestration", "dagster-daemon", "run", options=home_mounts)
        ui = ("dagster-webserver", "--host", "0.0.0.0", "--port", "3000", "-w", "/opt/dagster/workspace.yaml")
        start("ui", "taxi-orchestration", *ui, options=[*home_mounts, "-p", f"127.0.0.1:{PORT}:3000"])
        for number in range(1, workers + 1):
            start(f"host{number}", "taxi-orchestration", *WORKER, options=home_mounts)
        yield Hosts(months)
    finally:
        remove_hosts()


def _build_createdb_command(name: str) -> tuple[str, ...]:
    return ("createdb", "--host", "127.0.0.1", "--username", "postgres", name)


def remove_hosts() -> None:
    """Remove the test network and all containers in it."""
    names = docker("ps", "--all", "--quiet", "--filter", f"network={NETWORK}").split()
    if names:
        docker("rm", "--force", "--volumes", *names)
    if docker("network", "ls", "--quiet", "--filter", f"name=^{NETWORK}$"):
        docker("network", "rm", NETWORK)


def render_dagster_yaml(workers: int, config: Mapping[str, Any]) -> str:
    """Return the dagster.yaml of deploy/celery for `workers` concurrent runs, with the sections of `config` merged."""
    text = (PROJECT_DIRECTORY / "deploy/celery/dagster.yaml").read_text()
    content = yaml.safe_load(text)
    content["concurrency"]["runs"]["max_concurrent_runs"] = workers
    for section, values in config.items():
        content[section] |= values
    return yaml.safe_dump(content)
