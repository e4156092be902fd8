"""`dagster dev` for a test, and the GraphQL queries and mutations of its UI."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from taxi_orchestration.cli.programs import program_command
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.months import parse_range, partition_key
from taxi_orchestration.postgres.postmaster import free_port
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.waiting import DAEMON_SECONDS, until

PARTITIONED_ASSETS = "{ assetNodes { assetKey { path } isPartitioned isExecutable } }"
PARTITIONS = """
    query Partitions($key: AssetKeyInput!) {
      assetNodeOrError(assetKey: $key) {
        ... on AssetNode {
          assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } }
        }
      }
    }
"""
REPOSITORIES = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
LAUNCH_BACKFILL = """
    mutation Launch($params: LaunchBackfillParams!) {
      launchPartitionBackfill(backfillParams: $params) {
        __typename
        ... on LaunchBackfillSuccess { backfillId }
        ... on PythonError { message }
      }
    }
"""
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
RE_EXECUTE = """
    mutation ReExecute($params: ReexecutionParams!) {
      launchRunReexecution(reexecutionParams: $params) {
        __typename
        ... on LaunchRunSuccess { run { runId } }
        ... on PythonError { message }
      }
    }
"""
STATUS_OF_RUN = "query Status($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
START_SENSOR = """
    mutation Start($selector: SensorSelector!) {
      startSensor(sensorSelector: $selector) {
        __typename
        ... on Sensor { sensorState { status } }
        ... on PythonError { message }
      }
    }
"""
TICKS = """
    query Ticks($selector: SensorSelector!) {
      sensorOrError(sensorSelector: $selector) { ... on Sensor { sensorState { ticks(limit: 1) { status } } } }
    }
"""
RUNS_OF = """
    query Runs($month: String!) {
      runsOrError(filter: { tags: [{ key: "dagster/partition", value: $month }] }) {
        ... on Runs { results { status } }
      }
    }
"""


class Ui:
    """The GraphQL requests that the UI sends from a browser."""

    def __init__(self, port: int) -> None:
        self.page = f"http://127.0.0.1:{port}"
        self.url = f"{self.page}/graphql"

    def execute_graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        response = requests.post(self.url, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in response, response["errors"]
        return dict(response["data"])

    def is_up(self) -> bool:
        try:
            return "data" in requests.post(self.url, json={"query": PARTITIONED_ASSETS}, timeout=10).json()
        except requests.RequestException:
            return False

    def months(self, asset: str, status: str) -> list[str]:
        """Return the months of an asset that have the partition status MATERIALIZED or FAILED."""
        node = self.execute_graphql(PARTITIONS, key={"path": [asset]})["assetNodeOrError"]
        ranges = [r for r in node["assetPartitionStatuses"]["ranges"] if r["status"] == status]
        windows = [parse_range(r["startKey"], r["endKey"], Clock().now()) for r in ranges]
        return sorted(partition_key(month) for window in windows for month in window.months)

    def list_assets(self) -> list[dict[str, list[str]]]:
        """Return the keys of the assets that a backfill can materialize."""
        nodes = self.execute_graphql(PARTITIONED_ASSETS)["assetNodes"]
        return [node["assetKey"] for node in nodes if node["isPartitioned"] and node["isExecutable"]]

    def launch_backfill(self, assets: Sequence[Mapping[str, Any]], months: Sequence[str]) -> str:
        """Launch a backfill of these assets and months, as the dialog does, and return its id. The daemon runs it."""
        params = {"assetSelection": assets, "partitionNames": months, "tags": []}
        launched = self.execute_graphql(LAUNCH_BACKFILL, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def backfill(self, id_: str) -> dict[str, Any]:
        """Return the record of a backfill and of its runs."""
        return dict(self.execute_graphql(BACKFILL, id=id_)["partitionBackfillOrError"])

    def find_ended_backfill(self, id_: str) -> dict[str, Any] | None:
        """Return the record of a backfill if it has ended."""
        record = self.backfill(id_)
        return record if record["status"].startswith(("COMPLETED", "FAILED", "CANCELED")) else None

    def ended_backfill(self, id_: str, seconds: float, pause: float = 2) -> dict[str, Any]:
        """Wait until a backfill has ended, and return its record."""
        return until(lambda: self.find_ended_backfill(id_), seconds, pause)

    def re_execute_from_failure(self, run_id: str) -> str:
        """Re-execute a failed run "From failure", and return the final status of the new run."""
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE"}
        launched = self.execute_graphql(RE_EXECUTE, params=params)["launchRunReexecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        new_run_id, ends = launched["run"]["runId"], {"SUCCESS", "FAILURE", "CANCELED"}

        def status() -> str:
            return str(self.execute_graphql(STATUS_OF_RUN, id=new_run_id)["runOrError"]["status"])

        until(lambda: status() in ends, DAEMON_SECONDS)
        return status()

    def turn_on(self, sensor: str) -> None:
        """Start a sensor, as its switch under Automation does."""
        started = self.execute_graphql(START_SENSOR, selector=self._selector(sensor))["startSensor"]
        assert started == {"__typename": "Sensor", "sensorState": {"status": "RUNNING"}}

    def has_ticked(self, sensor: str) -> bool:
        """Return whether the daemon has evaluated a sensor."""
        ticks = self.execute_graphql(TICKS, selector=self._selector(sensor))["sensorOrError"]["sensorState"]["ticks"]
        return [tick["status"] for tick in ticks] not in ([], ["STARTED"])

    def _selector(self, sensor: str) -> dict[str, str]:
        (repository,) = self.execute_graphql(REPOSITORIES)["repositoriesOrError"]["nodes"]
        return {
            "repositoryLocationName": repository["location"]["name"],
            "repositoryName": repository["name"],
            "sensorName": sensor,
        }

    def runs_of(self, month: str) -> list[str]:
        """Return the statuses of the runs whose only partition is `month`."""
        return [run["status"] for run in self.execute_graphql(RUNS_OF, month=month)["runsOrError"]["results"]]


@contextmanager
def dagster_dev(environment: Mapping[str, str], log: Path) -> Iterator[Ui]:
    """Run `dagster dev` in the checkout, on a free port, for the duration of the block; then end all its processes."""
    port = free_port()
    command = program_command("dagster", "dev", "--port", str(port))
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT_DIRECTORY,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        ui = Ui(port)
        deadline = time.monotonic() + 120
        while not ui.is_up():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.5)
        yield ui
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
