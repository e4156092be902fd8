"""A bare `dagster dev`: the UI's button for a range of months and its switches, by the GraphQL that the UI sends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from pytest_httpserver import HTTPServer

from taxi_orchestration.defs.alerts import ALERTS
from taxi_orchestration.defs.conditions import BUILD_CHANGED_MONTHS
from taxi_orchestration.instance.attempts import TLC_PUBLICATIONS
from taxi_orchestration.loading import open_loader
from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, find, remove
from taxi_orchestration.settings import PROJECT_DIRECTORY, load_settings
from taxi_orchestration.warehouse.warehouse import open_warehouse
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.waiting import until

MONTHS = [date(2024, month, 1) for month in range(1, 7)]
UNPUBLISHED = date(2024, 4, 1)
KEYS = [f"{month:%Y-%m}" for month in MONTHS]
NEW, REISSUED = date(2024, 7, 1), date(2024, 2, 1)

PARTITIONED_ASSETS = "{ assetNodes { assetKey { path } isPartitioned isExecutable } }"
LAUNCH = """
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
        ... on PartitionBackfill { status error { message } runs(limit: 50) { runId status } }
      }
    }
"""
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
STEP_FAILURES = """
    query Events($id: ID!) {
      runOrError(runId: $id) {
        ... on Run {
          eventConnection { events { __typename ... on ExecutionStepFailureEvent { error { message } } } }
        }
      }
    }
"""


class Ui:
    """What the UI in a browser asks and tells."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = requests.post(self.url, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])

    def is_up(self) -> bool:
        try:
            return "data" in requests.post(self.url, json={"query": PARTITIONED_ASSETS}, timeout=10).json()
        except requests.RequestException:
            return False

    def months(self, asset: str, status: str) -> list[str]:
        """The months of an asset that are MATERIALIZED or FAILED."""
        node = self.ask(PARTITIONS, key={"path": [asset]})["assetNodeOrError"]
        ranges = [r for r in node["assetPartitionStatuses"]["ranges"] if r["status"] == status]
        return [key for key in KEYS if any(r["startKey"] <= key <= r["endKey"] for r in ranges)]

    def turn_on(self, sensor: str) -> None:
        """Move a switch under Automation."""
        started = self.ask(START_SENSOR, selector=self._selector(sensor))["startSensor"]
        assert started == {"__typename": "Sensor", "sensorState": {"status": "RUNNING"}}

    def has_ticked(self, sensor: str) -> bool:
        """Whether the daemon has looked at a sensor."""
        ticks = self.ask(TICKS, selector=self._selector(sensor))["sensorOrError"]["sensorState"]["ticks"]
        return [tick["status"] for tick in ticks] not in ([], ["STARTED"])

    def _selector(self, sensor: str) -> dict[str, str]:
        (repository,) = self.ask(REPOSITORIES)["repositoriesOrError"]["nodes"]
        return {
            "repositoryLocationName": repository["location"]["name"],
            "repositoryName": repository["name"],
            "sensorName": sensor,
        }

    def runs_of(self, month: str) -> list[str]:
        """How the runs of one month alone stand."""
        return [run["status"] for run in self.ask(RUNS_OF, month=month)["runsOrError"]["results"]]


def trips_by_month(home: Path) -> dict[date, int]:
    """The facts and rejected trips of every month, as the mart of quality has them."""
    server = find(home)
    assert server is not None, "the embedded PostgreSQL outlives dagster dev"
    with psycopg.connect(server.target(WAREHOUSE_DATABASE).url(), options="-c search_path=dagster_ui") as connection:
        return dict(
            connection.execute(
                "select source_month, fact_trips + rejected_trips from trip_quality where raw_trips > 0"
            ).fetchall()
        )


def load_behind_dagsters_back(month: date, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Load a month by a process that Dagster knows nothing of."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with open_loader(settings := load_settings(), open_warehouse(settings)) as loader:
        loader.load_month(month)


@contextmanager
def dagster_dev(environment: dict[str, str], log: Path) -> Iterator[Ui]:
    """`dagster dev` in the checkout, on a free port; everything that it started is gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(Path(sys.executable).with_name("dagster"))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program, "dev", "--port", str(port)],
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


@pytest.mark.timeout(600)
def test_of_six_months_from_the_ui_five_reach_the_marts_and_with_its_switches_on_others_follow_without_a_click(
    tlc: TlcHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
) -> None:
    for month in MONTHS:
        if month != UNPUBLISHED:
            tlc.publish(month, rows=200 + month.month)
    home = tmp_path / "home"
    httpserver.expect_request("/alerts").respond_with_data("")
    environment = {
        "TAXI_HOME": str(home),
        "TLC_BASE_URL": tlc.url,
        "DAGSTER_STUDENT": "ui",
        "TAXI_ALERT_URLS": f"json://{httpserver.host}:{httpserver.port}/alerts",
    }
    good = [key for key, month in zip(KEYS, MONTHS, strict=True) if month != UNPUBLISHED]
    try:
        with dagster_dev(environment, tmp_path / "dev.log") as ui:
            # What failed before its first look it does not tell.
            until(lambda: ui.has_ticked(ALERTS))
            nodes = ui.ask(PARTITIONED_ASSETS)["assetNodes"]
            # As the button on raw_trips, with all that is downstream: also views, which have no months.
            others = ("raw_zone", "stg_", "tlc_")
            selection = [
                n["assetKey"] for n in nodes if n["isExecutable"] and not n["assetKey"]["path"][-1].startswith(others)
            ]
            launched = ui.ask(LAUNCH, params={"assetSelection": selection, "partitionNames": KEYS, "tags": []})
            assert launched["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", launched
            backfill = launched["launchPartitionBackfill"]["backfillId"]
            deadline = time.monotonic() + 480
            while True:
                told = ui.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
                if told["status"].startswith(("COMPLETED", "FAILED", "CANCELED")):
                    break
                assert time.monotonic() < deadline, told
                time.sleep(2)
            assert told["status"] == "COMPLETED_FAILED", told
            for asset in ("raw_trips", "fct_trips", "int_monthly_revenue_by_file", "trip_quality"):
                assert ui.months(asset, "MATERIALIZED") == good, asset
            assert ui.months("raw_trips", "FAILED") == ["2024-04"]
            messages = [
                event["error"]["message"]
                for run in told["runs"]
                if run["status"] == "FAILURE"
                for event in ui.ask(STEP_FAILURES, id=run["runId"])["runOrError"]["eventConnection"]["events"]
                if event["__typename"] == "ExecutionStepFailureEvent"
            ]
            assert any("2024-04" in m and "403" in m and "about two months late" in m for m in messages), messages

        expected = {month: 200 + month.month for month in MONTHS if month != UNPUBLISHED}
        assert trips_by_month(home) == expected

        # The sensor looks as soon as it is on, and then every five minutes: so this is out before.
        tlc.publish(REISSUED, rows=250, seed=1)
        load_behind_dagsters_back(REISSUED, monkeypatch, environment)
        tlc.publish(NEW, rows=300)
        with dagster_dev(environment, tmp_path / "dev.log") as ui:
            assert ui.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]["status"] == "COMPLETED_FAILED"
            assert ui.months("fct_trips", "MATERIALIZED") == good
            assert ui.months("raw_trips", "FAILED") == ["2024-04"]
            ui.turn_on(TLC_PUBLICATIONS)
            ui.turn_on(BUILD_CHANGED_MONTHS)
            expected |= {REISSUED: 250, NEW: 300}
            until(lambda: trips_by_month(home) == expected)
            until(lambda: ui.runs_of("2024-07") != ["STARTED"])
            assert ui.runs_of("2024-07") == ["SUCCESS"], "the condition leaves alone what a run of the sensor builds"
        told = [request.get_json()["title"] for request, _ in httpserver.log]
        assert told.count("taxi: raw_trips failed for 2024-04") == 1, told
    finally:
        remove(home)
