"""One month from the button in the UI: what lies between the launch of the run and its success."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import requests

from bench.results import Goal, Section
from bench.workplace import Workplace, workplace
from taxi_orchestration.instance.storage import DRIVER
from taxi_orchestration.settings import PROJECT_DIRECTORY

MONTH = date(2024, 1, 1)

_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
_STATS = """
query($id: ID!) {
  runOrError(runId: $id) {
    ... on Run { status stats { ... on RunStatsSnapshot { launchTime endTime } } }
  }
}
"""
_LOCATIONS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"


def run(quick: bool) -> Section:
    """Ours and the plain version, each in a `dagster dev` of its own; the daemon's tick lies before the launch."""
    times = 3 if quick else 5
    with workplace() as place:
        place.publish(MONTH)
        place.taxi("backfill", f"{MONTH:%Y-%m}", f"{MONTH:%Y-%m}")
        with _dagster_dev(place.environment, []) as url:
            ours = [_launch(url, place) for _ in range(times)]
        place.start_over()
        with _dagster_dev(_plain_environment(place), ["-m", "bench.plain_dagster"]) as url:
            plain = [_launch(url, place) for _ in range(times)]
    # The first run of each warms the disk's cache.
    figures = statistics.median(ours[1:]), statistics.median(plain[1:])
    return Section(
        "The button in the UI",
        [
            Goal(
                "one month from the button, launch to success, against the plain version",
                figures[0] / figures[1],
                "×",
                at_most=0.5,
                measured=f"{figures[0]:.1f} against {figures[1]:.1f} s",
            )
        ],
        ["launch to success, s", *(f"run {number}" for number in range(1, times + 1))],
        [["taxi", *(f"{s:.1f}" for s in ours)], ["plain Dagster", *(f"{s:.1f}" for s in plain)]],
        note="Plain: the same loader and models with dagster-dbt's command-line resource, the multiprocess executor "
        "and Dagster's default storage of events and logs (bench/plain_dagster.py).",
    )


def _plain_environment(place: Workplace) -> dict[str, str]:
    home = place.directory / "plain"
    home.mkdir()
    url = replace(place.target, dbname="dagster").url(DRIVER)
    (home / "dagster.yaml").write_text(f"storage:\n  postgres:\n    postgres_url: '{url}'\n")
    return {**place.environment, "DAGSTER_HOME": str(home), "PYTHONPATH": str(PROJECT_DIRECTORY)}


@contextmanager
def _dagster_dev(environment: dict[str, str], arguments: Sequence[str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("dagster")
    process = subprocess.Popen(
        [program, "dev", "--port", str(port), *arguments],
        env=environment,
        cwd=PROJECT_DIRECTORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}/graphql"
    try:
        _wait_for_location(url)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for_location(url: str) -> None:
    for _ in range(240):
        try:
            if _ask(url, _LOCATIONS)["repositoriesOrError"]["nodes"]:
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    raise RuntimeError("dagster dev did not load the definitions in two minutes")


def _launch(url: str, place: Workplace) -> float:
    """Seconds from the launch of a run of the month to its success."""
    (repository,) = _ask(url, _LOCATIONS)["repositoriesOrError"]["nodes"]
    selector = {
        "repositoryName": repository["name"],
        "repositoryLocationName": repository["location"]["name"],
        "jobName": "taxi_pipeline",
    }
    tags = [{"key": "dagster/partition", "value": f"{MONTH:%Y-%m}"}]
    place.settle()
    launched = _ask(
        url, _LAUNCH, params={"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
    )["launchRun"]
    if "run" not in launched:
        raise RuntimeError(f"the run was not launched: {launched}")
    for _ in range(600):
        found = _ask(url, _STATS, id=launched["run"]["runId"])["runOrError"]
        if found["status"] == "SUCCESS":
            return float(found["stats"]["endTime"] - found["stats"]["launchTime"])
        if found["status"] in ("FAILURE", "CANCELED"):
            raise RuntimeError(f"the run ended with {found['status']}")
        time.sleep(0.5)
    raise RuntimeError("the run did not end in five minutes")


def _ask(url: str, query: str, **variables: Any) -> dict[str, Any]:
    answer = requests.post(url, json={"query": query, "variables": variables}, timeout=60).json()
    if "errors" in answer:
        raise RuntimeError(str(answer["errors"]))
    return dict(answer["data"])
