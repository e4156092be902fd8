"""deploy/docker for real: up, a student's months from the UI, each container killed once, no secret in the image."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.docker_engine import build, docker, require_engine, stand_in
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.synthetic import write_month, write_zones
from taxi_orchestration_tests.support.waiting import until
from taxi_orchestration_tests.support.zone_shapes import write_zone_shapes

PROJECT = "taxi-test"
STUDENT = "ada"
ROWS = 300
SECONDS = 300
LAUNCH = """
    mutation Launch($params: ExecutionParams!) {
      launchRun(executionParams: $params) {
        __typename
        ... on LaunchRunSuccess { run { runId } }
        ... on PythonError { message }
      }
    }
"""
PERMISSIONS = "{ permissions { permission value } }"
RUNS = "query Runs { runsOrError { ... on Runs { results { runId status tags { key value } } } } }"


@dataclass
class Class:
    """The containers of a class, and the UI behind its login."""

    url: str
    variables: dict[str, str]
    logins: dict[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str) -> str:
        file = PROJECT_DIRECTORY / "deploy/docker/compose.yaml"
        return docker("compose", "-p", PROJECT, "--file", str(file), *arguments, **self.variables)

    def login(self, name: str) -> tuple[str, str]:
        """The name and the password that the proxy takes."""
        if name not in self.logins:
            volume = f"{PROJECT}_logins:/logins:ro"
            read = ("run", "--rm", "--user", "root", "-v", volume, "taxi-orchestration", "cat", f"/logins/{name}")
            self.logins[name] = docker(*read)
        return name, self.logins[name]

    def ask(self, query: str, login: str = "ada", **variables: Any) -> Any:
        answer = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, auth=self.login(login), timeout=60
        )
        answer.raise_for_status()
        assert "errors" not in answer.json(), answer.text
        return answer.json()["data"]

    def is_up(self) -> bool:
        """Return whether the UI has the definitions of all students; a code server out of reach counts as an error."""
        entries = "locationEntries { locationOrLoadError { __typename } }"
        try:
            workspace = self.ask(f"{{ workspaceOrError {{ ... on Workspace {{ {entries} }} }} }}")["workspaceOrError"]
        except requests.RequestException:
            return False
        kinds = [(entry["locationOrLoadError"] or {}).get("__typename") for entry in workspace["locationEntries"]]
        return set(kinds) == {"RepositoryLocation"}

    def launch(self, month: str) -> str:
        """Send the request of the button "Launch run" of the job's page."""
        params = {
            "selector": {
                "repositoryLocationName": STUDENT,
                "repositoryName": "__repository__",
                "jobName": "taxi_pipeline",
            },
            "mode": "default",
            "runConfigData": "{}",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": month}]},
        }
        launched = self.ask(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def status_of(self, month: str) -> list[str]:
        """Return the statuses of the runs of a month, the newest first."""
        tag = {"key": "dagster/partition", "value": month}
        return [run["status"] for run in self.ask(RUNS)["runsOrError"]["results"] if tag in run["tags"]]

    def wait_for(self, month: str, *statuses: str) -> None:
        """Wait until the runs of a month stand like this, the newest first; fails at once where one failed."""

        def look() -> bool:
            now = self.status_of(month)
            assert now[0] != "FAILURE" or "FAILURE" in statuses, self.compose("logs", "--tail", "50")
            return now == list(statuses)

        until(look, SECONDS, pause=0.5)

    def crash(self, container: str) -> None:
        """Kill the processes of a container as a machine does that is out of memory; Docker knows of no order."""
        os.kill(int(docker("inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)

    def exact_months(self) -> dict[str, tuple[str, int]]:
        """Return the state and the rows of each month that has rows, by `taxi status` in the student's code server."""
        said = docker("exec", f"{PROJECT}-{STUDENT}-1", "sh", "-c", "taxi status --json || true")
        return {row["month"]: (row["state"], row["raw_rows"]) for row in json.loads(said) if row["raw_rows"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    base = require_engine()
    build(base)
    files = tmp_path_factory.mktemp("tlc")
    for folder in ("trip-data", "misc"):
        (files / folder).mkdir()
    for month in (JANUARY, FEBRUARY, MARCH):
        write_month(files / "trip-data" / DATASET.file_name(month), month, ROWS, seed=month.month)
    write_zones(files / "misc/taxi_zone_lookup.csv")
    write_zone_shapes(files / "misc/taxi_zones.zip")
    for path in [files.parent, files, *files.rglob("*")]:
        path.chmod(0o755)
    variables = {
        "POSTGRES_IMAGE": stand_in(base, "postgres"),
        "CADDY_IMAGE": stand_in(base, "caddy"),
        "TLC_BASE_URL": "http://tlc:8000",
        "TAXI_HTTP_PORT": "3281",
        "TAXI_HTTPS_PORT": "3282",
    }
    students = Class("http://127.0.0.1:3281", variables)
    try:
        students.compose("up", "--detach", "--no-build")
        docker(
            *(
                "run",
                "--detach",
                "--name",
                f"{PROJECT}-tlc",
                "--network",
                f"{PROJECT}_default",
                "--network-alias",
                "tlc",
            ),
            *("-v", f"{files}:/files:ro", base, "python3", "-m", "http.server", "8000", "--directory", "/files"),
        )
        until(students.is_up, 120, pause=1)
        yield students
    finally:
        docker("rm", "--force", f"{PROJECT}-tlc")
        students.compose("down", "--volumes", "--remove-orphans")


def test_nobody_sees_a_page_without_the_password_of_a_student(running: Class) -> None:
    name, password = running.login("bob")
    assert requests.get(running.url, timeout=10).status_code == 401
    assert requests.get(running.url, auth=(name, "guessed"), timeout=10).status_code == 401
    assert requests.get(running.url, auth=(name, password), timeout=10).status_code == 200


@pytest.mark.timeout(1200)
def test_months_are_exact_whichever_container_is_killed_meanwhile(running: Class) -> None:
    running.launch("2024-01")
    running.wait_for("2024-01", "SUCCESS")
    assert running.exact_months() == {"2024-01": ("completed", ROWS)}

    # A run's own container: run monitoring fails the run, and run retries begin it again.
    run_id = running.launch("2024-02")
    container = until(lambda: docker("ps", "--quiet", "--filter", f"label=dagster/run_id={run_id}").strip(), SECONDS)
    running.wait_for("2024-02", "STARTED")
    running.crash(str(container))
    running.wait_for("2024-02", "SUCCESS", "FAILURE")

    # The others while a run goes on: none of them is needed by it, and Docker starts each again.
    running.launch("2024-03")
    for service in (STUDENT, "daemon", "webserver"):
        began = time.time()
        running.crash(f"{PROJECT}-{service}-1")
        until(running.is_up, SECONDS, pause=1)
        print(f"{service} again after {time.time() - began:.0f} s")
    running.wait_for("2024-03", "SUCCESS")
    months = {f"2024-0{month}": ("completed", ROWS) for month in (1, 2, 3)}
    until(lambda: running.exact_months() == months, SECONDS, pause=1)


def test_a_guest_sees_what_runs_and_can_start_nothing(running: Class) -> None:
    def may(login: str) -> set[str]:
        return {p["permission"] for p in running.ask(PERMISSIONS, login)["permissions"] if p["value"]}

    assert "launch_pipeline_execution" in may("teacher")
    assert not {"launch_pipeline_execution", "terminate_pipeline_execution", "wipe_assets"} & may("guest")
    assert running.ask(RUNS, "guest") == running.ask(RUNS)


def test_a_backup_brings_a_lost_schema_back_by_the_lines_of_the_page(running: Class, tmp_path: Path) -> None:
    page = (PROJECT_DIRECTORY / "docs/deploy.md").read_text()
    back_up, restore = (re.search(rf"^\| {what} \| `(.+)` \|$", page, re.M) for what in ("back up", "restore"))
    assert back_up
    assert restore
    variables = {"COMPOSE_FILE": str(PROJECT_DIRECTORY / "deploy/docker/compose.yaml"), "COMPOSE_PROJECT_NAME": PROJECT}
    before = running.exact_months()
    assert len(before) == 3
    drop = f"psql --username postgres --host 127.0.0.1 --dbname taxi --command 'drop schema dagster_{STUDENT} cascade'"
    lose = f"docker compose exec -T postgres {drop}"
    for line in (back_up[1], lose, restore[1]):
        subprocess.run(
            ["/bin/sh", "-ec", line], cwd=tmp_path, env={**os.environ, **running.variables, **variables}, check=True
        )
        assert running.exact_months() == ({} if line == lose else before)


def test_no_secret_is_in_an_image_a_log_or_the_records_of_runs(running: Class) -> None:
    secrets = {
        word
        for volume in ("postgres_secrets", "dagster", "logins", "ada", "bob")
        for word in docker(
            *("run", "--rm", "--user", "root", "-v", f"{PROJECT}_{volume}:/s:ro", "taxi-orchestration"),
            *("sh", "-c", "cd /s; for f in *; do cat $f; echo; done"),
        ).split()
    }
    passwords = {found[1] if (found := re.search(r":([^:@]+)@", word)) else word for word in secrets}
    assert len(passwords) == 8, "of the superuser, of Dagster, of two students; four logins"
    history = docker("history", "--no-trunc", "taxi-orchestration")
    logs = running.compose("logs")
    records = json.dumps(running.ask(RUNS)) + docker("inspect", *docker("ps", "--all", "--quiet").split())
    for password in passwords:
        assert password not in history
        assert password not in logs
        assert password not in records
    assert not re.search(r"(?i)index-url|extra-index|trusted-host", history)


def test_the_image_is_of_an_unprivileged_user_and_holds_no_file_of_a_build(running: Class) -> None:
    image = ("run", "--rm", "--entrypoint", "", "taxi-orchestration")
    assert docker(*image, "id", "--user").strip() == "10001"
    assert docker(*image, "sh", "-c", "test -w /opt/taxi || test -w /opt/venv || echo no").strip() == "no"
    found = docker(
        *image, "sh", "-c", "ls -A /run/secrets /etc/pip.conf /etc/pip-ca.pem /opt/taxi/.env 2>/dev/null; true"
    )
    for path in found.split():
        size = docker(*image, "sh", "-c", f"stat -c %s {path}").strip()
        assert size == "0", f"{path}: what a secret of the build was mounted over is an empty file"
    manifests = docker(*image, "sh", "-c", "ls /var/lib/taxi/dbt/*/manifest.json").split()
    assert [Path(path).parent.name.rsplit("-", 1)[0] for path in manifests] == [
        *("dagster_ada", "dagster_bob", "dagster_default")
    ]
