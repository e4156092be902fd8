"""A bare `dagster dev`, and the UI's button for a range of months, by the GraphQL that the UI sends."""

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

from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration.warehouse.server import WAREHOUSE_DATABASE, find, stop
from taxi_orchestration_tests.tlc_host import TlcHost

MONTHS = [date(2024, month, 1) for month in range(1, 7)]
UNPUBLISHED = date(2024, 4, 1)
KEYS = [f"{month:%Y-%m}" for month in MONTHS]

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
        """The months of an asset that are green (MATERIALIZED) or red (FAILED)."""
        node = self.ask(PARTITIONS, key={"path": [asset]})["assetNodeOrError"]
        ranges = [r for r in node["assetPartitionStatuses"]["ranges"] if r["status"] == status]
        return [key for key in KEYS if any(r["startKey"] <= key <= r["endKey"] for r in ranges)]


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
def test_six_months_from_the_ui_of_which_one_is_unpublished_five_reach_the_marts_and_the_sixth_says_why(
    tlc: TlcHost, tmp_path: Path
) -> None:
    for month in MONTHS:
        if month != UNPUBLISHED:
            tlc.publish(month, rows=200 + month.month)
    home = tmp_path / "home"
    environment = {"TAXI_HOME": str(home), "TLC_BASE_URL": tlc.url, "DAGSTER_STUDENT": "ui"}
    good = [key for key, month in zip(KEYS, MONTHS, strict=True) if month != UNPUBLISHED]
    try:
        with dagster_dev(environment, tmp_path / "dev.log") as ui:
            nodes = ui.ask(PARTITIONED_ASSETS)["assetNodes"]
            selection = [n["assetKey"] for n in nodes if n["isPartitioned"] and n["isExecutable"]]
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
            for asset in ("raw_trips", "fct_trips", "monthly_revenue", "trip_quality"):
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

        server = find(home)
        assert server is not None, "the embedded PostgreSQL outlives dagster dev"
        with psycopg.connect(
            server.target(WAREHOUSE_DATABASE).url(), options="-c search_path=dagster_ui"
        ) as connection:
            quality = connection.execute(
                "select source_month, fact_trips + rejected_trips from trip_quality where raw_trips > 0 order by 1"
            ).fetchall()
        assert quality == [(month, 200 + month.month) for month in MONTHS if month != UNPUBLISHED]

        with dagster_dev(environment, tmp_path / "dev.log") as ui:
            assert ui.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]["status"] == "COMPLETED_FAILED"
            assert ui.months("fct_trips", "MATERIALIZED") == good
            assert ui.months("raw_trips", "FAILED") == ["2024-04"]
    finally:
        stop(home, "immediate")
