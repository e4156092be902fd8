"""Waiting times in the UI: its page, one month by the button against plain Dagster, and a range of six months."""

import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date

import psutil
import requests

from bench.results import Goal, Section
from bench.workplace import MONTH_ROWS, Workplace, workplace
from taxi_orchestration.cli.programs import program_command
from taxi_orchestration.instance.storage import DRIVER
from taxi_orchestration.postgres.postmaster import free_port
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.dagster_dev import REPOSITORIES, Ui
from taxi_orchestration_tests.support.programs import process_tree
from taxi_orchestration_tests.support.waiting import until

FIRST, MONTHS = date(2024, 1, 1), 6
# Time after the start until the processes are idle.
REST_SECONDS = 15

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


def run(quick: bool) -> Section:
    """Start the project several times and use its buttons; then use the plain version's button in its `dagster dev`."""
    times = 2 if quick else 3
    with workplace() as place:
        months = place.publish_range(FIRST, MONTHS)
        place.taxi("backfill", f"{FIRST:%Y-%m}")
        pages = []
        for number in range(times):
            with _serve_ui(place.environment, ["taxi", "dev"]) as (ui, process, seconds):
                pages.append(seconds)
                if number == times - 1:
                    processes, mebibytes = _measure_idle(process)
                    buttons = [_launch_month(ui, place) for _ in range(times + 1)]
                    place.settle()
                    whole, work = _launch_range(ui, months)
        place.start_over()
        with _serve_ui(_plain_environment(place), ["dagster", "dev", "-m", "bench.plain_dagster"]) as (
            ui,
            process,
            plain_page,
        ):
            _, plain_mebibytes = _measure_idle(process)
            plain = [_launch_month(ui, place) for _ in range(times)]
    # The first run of each fills the disk cache, so it does not count.
    clicks = [statistics.median(click for click, _ in of[1:]) for of in (buttons, plain)]
    launches = [statistics.median(launch for _, launch in of[1:]) for of in (buttons, plain)]
    page = statistics.median(pages)
    return Section(
        "The UI",
        [
            Goal(
                "make dev, until the UI answers",
                page,
                "s",
                at_most=6,
                reason=f"Dagster's own start: plain Dagster takes {plain_page:.1f} s",
            ),
            Goal(
                f"memory (PSS) of its {processes} processes, idle",
                mebibytes,
                "MB",
                at_most=600,
                reason="webserver, daemon and code server each import Dagster: "
                f"plain Dagster takes {plain_mebibytes:.0f} MB",
            ),
            Goal(
                "one month materialized in the UI, click to success",
                clicks[0],
                "s",
                at_most=6,
                reason=f"run {launches[0]:.1f} s; the rest is the daemon's run queue",
            ),
            Goal(
                "the same, launch to success, time against plain Dagster",
                launches[0] / launches[1],
                "×",
                at_most=0.5,
                measured=f"{launches[0]:.1f} against {launches[1]:.1f} s",
            ),
            Goal(
                f"backfill of {MONTHS} months in the UI, click to completion",
                whole,
                "s",
                at_most=35,
                measured=f"runs {work:.1f} s of it",
                reason="Dagster's daemon polls backfills every 30 s: before, between and after its runs",
            ),
        ],
        ["one month in the UI, s", *(f"run {number}" for number in range(1, len(buttons) + 1))],
        [
            ["taxi, click to success", *(f"{click:.1f}" for click, _ in buttons)],
            ["taxi, launch to success", *(f"{launch:.1f}" for _, launch in buttons)],
            ["plain Dagster, click to success", *(f"{click:.1f}" for click, _ in plain), ""],
            ["plain Dagster, launch to success", *(f"{launch:.1f}" for _, launch in plain), ""],
        ],
        note=f"Months of {MONTH_ROWS:,} rows. Plain Dagster (bench/plain_dagster.py): the same loader and models with "
        "DbtCliResource, the multiprocess executor and Dagster's default storage of events and logs. The daemon polls "
        "its queue before a launch.",
        quotes={
            "button": f"{launches[0]:.1f} s",
            "button_plain": f"{launches[1]:.1f} s",
            "range": f"{whole:.0f} s",
            "page": f"{page:.1f} s",
            "at_rest": f"{mebibytes:.0f} MB",
        },
    )


def _plain_environment(place: Workplace) -> dict[str, str]:
    home = place.directory / "plain"
    home.mkdir()
    url = replace(place.target, dbname="dagster").url(DRIVER)
    (home / "dagster.yaml").write_text(f"storage:\n  postgres:\n    postgres_url: '{url}'\n")
    return {**place.environment, "DAGSTER_HOME": str(home), "PYTHONPATH": str(PROJECT_DIRECTORY)}


@contextmanager
def _serve_ui(environment: dict[str, str], command: Sequence[str]) -> Iterator[tuple[Ui, psutil.Process, float]]:
    """Run a UI for the duration of the block; yields it with its process and the seconds until its page answered."""
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        program_command(*command, "--port", str(port)),
        env=environment,
        cwd=PROJECT_DIRECTORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ui = Ui(port)
    try:
        until(lambda: _is_reachable(ui.page), 120, 0.05)
        seconds = time.perf_counter() - began
        until(lambda: ui.is_up() and ui.execute_graphql(REPOSITORIES)["repositoriesOrError"]["nodes"], 120, 0.2)
        yield ui, psutil.Process(process.pid), seconds
    finally:
        # The code servers of plain Dagster outlive an interrupt of `dagster dev`.
        started = process_tree(process.pid)
        process.send_signal(signal.SIGINT)
        psutil.wait_procs(started, 30)
        for each in started:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


def _is_reachable(page: str) -> bool:
    try:
        return requests.get(page, timeout=10).ok
    except requests.RequestException:
        return False


def _measure_idle(process: psutil.Process) -> tuple[int, float]:
    """Return the number of processes, and their memory in MB. Shared pages count in part (PSS)."""
    time.sleep(REST_SECONDS)
    processes = process_tree(process.pid)
    return len(processes), sum(each.memory_full_info().pss for each in processes) / 1e6


def _launch_month(ui: Ui, place: Workplace) -> tuple[float, float]:
    """Return the seconds from the click to the success of a run of the first month, and from its launch to success."""
    (repository,) = ui.execute_graphql(REPOSITORIES)["repositoriesOrError"]["nodes"]
    selector = {
        "repositoryName": repository["name"],
        "repositoryLocationName": repository["location"]["name"],
        "jobName": "taxi_pipeline",
    }
    tags = [{"key": "dagster/partition", "value": f"{FIRST:%Y-%m}"}]
    place.settle()
    began = time.perf_counter()
    params = {"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
    launched = ui.execute_graphql(_LAUNCH, params=params)["launchRun"]
    if "run" not in launched:
        raise RuntimeError(f"the run was not launched: {launched}")
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        found = ui.execute_graphql(_STATS, id=launched["run"]["runId"])["runOrError"]
        if found["status"] == "SUCCESS":
            return time.perf_counter() - began, float(found["stats"]["endTime"] - found["stats"]["launchTime"])
        if found["status"] in ("FAILURE", "CANCELED"):
            raise RuntimeError(f"the run ended with {found['status']}")
        time.sleep(0.3)
    raise RuntimeError("the run did not end in ten minutes")


def _launch_range(ui: Ui, months: Sequence[date]) -> tuple[float, float]:
    """Return the seconds from the click on a range of all partitioned assets to the backfill's end, and of its runs."""
    assets = ui.list_assets()
    began = time.perf_counter()
    ended = ui.ended_backfill(ui.launch_backfill(assets, [f"{month:%Y-%m}" for month in months]), 600, pause=0.3)
    seconds = time.perf_counter() - began
    if ended["status"] != "COMPLETED_SUCCESS":
        raise RuntimeError(f"the backfill ended with {ended['status']}")
    return seconds, sum(run["endTime"] - run["startTime"] for run in ended["runs"])
