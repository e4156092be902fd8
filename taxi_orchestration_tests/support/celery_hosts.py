"""Several hosts, as containers: a worker of Celery's on each, and beside them all that the workers need."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import requests
import yaml

from taxi_orchestration.months import partition_key
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.dagster_dev import LAUNCH_BACKFILL
from taxi_orchestration_tests.support.docker_engine import docker, stand_in
from taxi_orchestration_tests.support.synthetic import write_month, write_zones
from taxi_orchestration_tests.support.waiting import until
from taxi_orchestration_tests.support.zone_shapes import write_zone_shapes

NETWORK = "taxi-celery"
PORT = 3283
PASSWORD = "only-for-this-network"
WORKER = ("celery", "-A", "dagster_celery.app", "worker", "-Q", "dagster", "-c", "1", "--disable-prefetch")
ASSETS = "{ assetNodes { assetKey { path } isPartitioned isExecutable } }"
BACKFILL = """
    query Backfill($id: String!) {
      partitionBackfillOrError(backfillId: $id) {
        ... on PartitionBackfill {
          status
          error { message }
          runs(limit: 100) { runId status startTime endTime assetSelection { path } tags { key value } }
        }
      }
    }
"""


@dataclass
class Hosts:
    """The containers of one try."""

    months: Sequence[date]

    def ask(self, query: str, **variables: Any) -> Any:
        answer = requests.post(
            f"http://127.0.0.1:{PORT}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def assets(self) -> list[dict[str, Any]]:
        """The assets that a backfill takes; none while the UI or the code server is not up."""
        try:
            nodes = self.ask(ASSETS)["assetNodes"]
        except requests.RequestException:
            return []
        return [node["assetKey"] for node in nodes if node["isPartitioned"] and node["isExecutable"]]

    def wait_until_up(self) -> None:
        """Wait until the UI has the assets of the code server."""
        until(self.assets, 180, pause=1)

    def begin_backfill(self) -> str:
        """Send the request of the UI's dialog for all months."""
        self.wait_until_up()
        assets = self.assets()
        keys = [partition_key(month) for month in self.months]
        launched = self.ask(LAUNCH_BACKFILL, params={"assetSelection": assets, "partitionNames": keys})[
            "launchPartitionBackfill"
        ]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def backfill(self, id_: str) -> dict[str, Any]:
        return dict(self.ask(BACKFILL, id=id_)["partitionBackfillOrError"])

    def wait_for(self, id_: str, seconds: float) -> dict[str, Any]:
        """Wait for the end of a backfill and return its record."""

        def ended() -> dict[str, Any] | None:
            now = self.backfill(id_)
            return now if now["status"].startswith(("COMPLETED", "FAILED", "CANCELED")) else None

        found = until(ended, seconds, pause=2)
        assert isinstance(found, dict)
        return found

    def rows(self) -> dict[str, tuple[str, int]]:
        """Return the state and the rows of each month that has rows, by `taxi status`."""
        said = docker("exec", f"{NETWORK}-code", "sh", "-c", "taxi status --json || true")
        return {row["month"]: (row["state"], row["raw_rows"]) for row in json.loads(said) if row["raw_rows"]}


@contextmanager
def running_hosts(
    base: str, directory: Path, months: Sequence[date], rows: int, workers: int, config: Mapping[str, Any] | None = None
) -> Iterator[Hosts]:
    """So many workers and what they need; `config` is put over the dagster.yaml of deploy/celery."""
    files = directory / "tlc"
    for folder in ("trip-data", "misc"):
        (files / folder).mkdir(parents=True, exist_ok=True)
    for month in months:
        write_month(files / "trip-data" / DATASET.file_name(month), month, rows, seed=month.toordinal())
    write_zones(files / "misc/taxi_zone_lookup.csv")
    write_zone_shapes(files / "misc/taxi_zones.zip")
    (directory / "dagster.yaml").write_text(dagster_yaml(workers, config or {}))
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

    home = ["-v", f"{directory}/dagster.yaml:/opt/dagster/dagster.yaml:ro", "--no-healthcheck"]
    home += ["-v", f"{directory}/workspace.yaml:/opt/dagster/workspace.yaml:ro"]
    remove_hosts()
    docker("network", "create", NETWORK)
    try:
        secret = ["-v", f"{directory}/password:/run/password:ro", "--env", "POSTGRES_PASSWORD_FILE=/run/password"]
        start("postgres", stand_in(base, "postgres"), "postgres", "-c", "max_connections=200", options=secret)
        start("redis", stand_in(base, "redis"))
        serve = ("python3", "-m", "http.server", "8000", "--directory", "/files")
        start("tlc", base, *serve, options=["-v", f"{files}:/files:ro"])
        ready = ("sh", "-c", "pg_isready --host 127.0.0.1 || true")
        until(lambda: "accepting" in docker("exec", f"{NETWORK}-postgres", *ready), pause=0.5)
        for name in ("dagster", "taxi"):
            docker("exec", "--env", f"PGPASSWORD={PASSWORD}", f"{NETWORK}-postgres", *_createdb(name))
        start("code", "taxi-orchestration", options=home)
        start("daemon", "taxi-orchestration", "dagster-daemon", "run", options=home)
        ui = ("dagster-webserver", "--host", "0.0.0.0", "--port", "3000", "-w", "/opt/dagster/workspace.yaml")
        start("ui", "taxi-orchestration", *ui, options=[*home, "-p", f"127.0.0.1:{PORT}:3000"])
        for number in range(1, workers + 1):
            start(f"host{number}", "taxi-orchestration", *WORKER, options=home)
        yield Hosts(months)
    finally:
        remove_hosts()


def _createdb(name: str) -> tuple[str, ...]:
    return ("createdb", "--host", "127.0.0.1", "--username", "postgres", name)


def remove_hosts() -> None:
    """Remove the containers and the network of a try."""
    names = docker("ps", "--all", "--quiet", "--filter", f"network={NETWORK}").split()
    if names:
        docker("rm", "--force", "--volumes", *names)
    if docker("network", "ls", "--quiet", "--filter", f"name=^{NETWORK}$"):
        docker("network", "rm", NETWORK)


def dagster_yaml(workers: int, config: Mapping[str, Any]) -> str:
    """The dagster.yaml of deploy/celery for so many workers, with what a try changes in it."""
    text = (PROJECT_DIRECTORY / "deploy/celery/dagster.yaml").read_text()
    content = yaml.safe_load(text)
    content["concurrency"]["runs"]["max_concurrent_runs"] = workers
    for section, values in config.items():
        content[section] |= values
    return yaml.safe_dump(content)
