"""deploy/docker in containers: start, months launched from the UI, every container killed once, no leaked secret."""

import json
import os
import re
import signal
import subprocess
import tarfile
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
class Deployment:
    """The containers of a class, and the UI behind its login."""

    url: str
    variables: dict[str, str]
    logins: dict[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str) -> str:
        file = PROJECT_DIRECTORY / "deploy/docker/compose.yaml"
        return docker("compose", "-p", PROJECT, "--file", str(file), *arguments, **self.variables)

    def login(self, name: str) -> tuple[str, str]:
        """Return the name and the password that the proxy accepts."""
        if name not in self.logins:
            volume = f"{PROJECT}_logins:/logins:ro"
            read = ("run", "--rm", "--user", "root", "-v", volume, "taxi-orchestration", "cat", f"/logins/{name}")
            self.logins[name] = docker(*read)
        return name, self.logins[name]

    def execute_graphql(self, query: str, login: str = "ada", **variables: Any) -> Any:
        response = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, auth=self.login(login), timeout=60
        )
        response.raise_for_status()
        assert "errors" not in response.json(), response.text
        return response.json()["data"]

    def is_up(self) -> bool:
        """Return whether the UI has the definitions of all students, so that every code server is reachable."""
        entries = "locationEntries { locationOrLoadError { __typename } }"
        try:
            data = self.execute_graphql(f"{{ workspaceOrError {{ ... on Workspace {{ {entries} }} }} }}")
            locations = data["workspaceOrError"]["locationEntries"]
        except requests.RequestException:
            return False
        kinds = [(entry["locationOrLoadError"] or {}).get("__typename") for entry in locations]
        return set(kinds) == {"RepositoryLocation"}

    def launch(self, month: str) -> str:
        """Launch a run of a month, with the request of the job page's button "Launch run", and return its id."""
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
        launched = self.execute_graphql(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def read_statuses(self, month: str) -> list[str]:
        """Return the statuses of the runs of a month, newest first."""
        tag = {"key": "dagster/partition", "value": month}
        return [run["status"] for run in self.execute_graphql(RUNS)["runsOrError"]["results"] if tag in run["tags"]]

    def wait_for(self, month: str, *statuses: str) -> None:
        """Wait until the runs of a month have these statuses, newest first. Fails at once if the newest run fails."""

        def has_statuses() -> bool:
            found = self.read_statuses(month)
            assert found[0] != "FAILURE" or "FAILURE" in statuses, self.compose("logs", "--tail", "50")
            return found == list(statuses)

        until(has_statuses, SECONDS, pause=0.5)

    def crash(self, container: str) -> None:
        """Send SIGKILL to a container's main process, as the kernel does when out of memory. Docker is not involved."""
        os.kill(int(docker("inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)

    def read_month_states(self) -> dict[str, tuple[str, int]]:
        """Return the state and the number of rows of each month with rows, by `taxi status` in the code server."""
        output = docker("exec", f"{PROJECT}-{STUDENT}-1", "sh", "-c", "taxi status --json || true")
        return {row["month"]: (row["state"], row["raw_rows"]) for row in json.loads(output) if row["raw_rows"]}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
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
    started = Deployment("http://127.0.0.1:3281", variables)
    try:
        started.compose("up", "--detach", "--no-build")
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
        until(started.is_up, 120, pause=1)
        yield started
    finally:
        docker("rm", "--force", f"{PROJECT}-tlc")
        started.compose("down", "--volumes", "--remove-orphans")


def test_the_ui_refuses_requests_without_a_valid_password(deployment: Deployment) -> None:
    name, password = deployment.login("bob")
    assert requests.get(deployment.url, timeout=10).status_code == 401
    assert requests.get(deployment.url, auth=(name, "guessed"), timeout=10).status_code == 401
    assert requests.get(deployment.url, auth=(name, password), timeout=10).status_code == 200


@pytest.mark.timeout(1200)
def test_months_are_exact_after_any_container_is_killed_during_a_run(deployment: Deployment) -> None:
    deployment.launch("2024-01")
    deployment.wait_for("2024-01", "SUCCESS")
    assert deployment.read_month_states() == {"2024-01": ("completed", ROWS)}

    # The container of a run: run monitoring marks the run as failed, and run retries start it again.
    run_id = deployment.launch("2024-02")
    container = until(lambda: docker("ps", "--quiet", "--filter", f"label=dagster/run_id={run_id}").strip(), SECONDS)
    deployment.wait_for("2024-02", "STARTED")
    deployment.crash(container)
    deployment.wait_for("2024-02", "SUCCESS", "FAILURE")

    # The other containers during a run: the run needs none of them, and Docker restarts each.
    deployment.launch("2024-03")
    for service in (STUDENT, "daemon", "webserver"):
        began = time.time()
        deployment.crash(f"{PROJECT}-{service}-1")
        until(deployment.is_up, SECONDS, pause=1)
        print(f"{service} restarted after {time.time() - began:.0f} s")
    deployment.wait_for("2024-03", "SUCCESS")
    months = {f"2024-0{month}": ("completed", ROWS) for month in (1, 2, 3)}
    until(lambda: deployment.read_month_states() == months, SECONDS, pause=1)


def test_a_guest_sees_the_runs_and_cannot_launch_or_terminate_any(deployment: Deployment) -> None:
    def read_permissions(login: str) -> set[str]:
        return {p["permission"] for p in deployment.execute_graphql(PERMISSIONS, login)["permissions"] if p["value"]}

    assert "launch_pipeline_execution" in read_permissions("teacher")
    assert not {"launch_pipeline_execution", "terminate_pipeline_execution", "wipe_assets"} & read_permissions("guest")
    assert deployment.execute_graphql(RUNS, "guest") == deployment.execute_graphql(RUNS)


def test_a_lost_schema_and_a_lost_history_are_restored_with_the_documented_commands(
    deployment: Deployment, tmp_path: Path
) -> None:
    page = (PROJECT_DIRECTORY / "docs/deploy.md").read_text()
    commands = dict(re.findall(r"^\| ((?:back up|restore).*?) \| `(.+)` \|$", page, re.M))
    variables = {"COMPOSE_FILE": str(PROJECT_DIRECTORY / "deploy/docker/compose.yaml"), "COMPOSE_PROJECT_NAME": PROJECT}

    def run(line: str) -> None:
        environment = {**os.environ, **deployment.variables, **variables}
        subprocess.run(["/bin/sh", "-ec", line], cwd=tmp_path, env=environment, check=True)

    deployment.launch("2024-01")
    deployment.wait_for("2024-01", "SUCCESS")
    before = deployment.read_month_states()
    assert before["2024-01"] == ("completed", ROWS)
    drop = f"psql --username postgres --host 127.0.0.1 --dbname taxi --command 'drop schema dagster_{STUDENT} cascade'"
    lose = f"docker compose exec -T postgres {drop}"
    for line in (commands["back up the trips"], lose, commands["restore the trips"]):
        run(line)
        assert deployment.read_month_states() == ({} if line == lose else before)

    history = deployment.execute_graphql(RUNS)
    truncate = "psql --username postgres --host 127.0.0.1 --dbname dagster --command 'truncate runs cascade'"
    run(commands["back up the history"])
    run("docker compose stop webserver viewer daemon ada bob")
    run(f"docker compose exec -T postgres {truncate}")
    run(commands["restore the history"])
    run("docker compose up --detach --no-build")
    until(deployment.is_up, SECONDS, pause=1)
    assert deployment.execute_graphql(RUNS) == history

    run(commands["back up the secrets"])
    with tarfile.open(tmp_path / "secrets.tar") as archive:
        saved = set(archive.getnames())
    assert saved >= {"./postgres/postgres_password", "./logins/teacher", f"./students/{STUDENT}/pg_password"}
    run(commands["restore the secrets, before the first start"])


def test_no_secret_is_in_an_image_a_log_or_a_run_record(deployment: Deployment) -> None:
    secrets = {
        word
        for volume in ("postgres_secrets", "dagster", "logins", "ada", "bob")
        for word in docker(
            *("run", "--rm", "--user", "root", "-v", f"{PROJECT}_{volume}:/s:ro", "taxi-orchestration"),
            *("sh", "-c", "cd /s; for f in *; do cat $f; echo; done"),
        ).split()
    }
    passwords = {found[1] if (found := re.search(r":([^:@]+)@", word)) else word for word in secrets}
    assert len(passwords) == 8, "expected are those of the superuser, of Dagster, of two students, and four logins"
    history = docker("history", "--no-trunc", "taxi-orchestration")
    logs = deployment.compose("logs")
    containers = docker("ps", "--all", "--quiet").split()
    records = json.dumps(deployment.execute_graphql(RUNS)) + docker("inspect", *containers)
    for password in passwords:
        assert password not in history
        assert password not in logs
        assert password not in records
    assert not re.search(r"(?i)index-url|extra-index|trusted-host", history)


def test_the_image_runs_as_an_unprivileged_user_and_contains_no_build_files(deployment: Deployment) -> None:
    image = ("run", "--rm", "--entrypoint", "", "taxi-orchestration")
    assert docker(*image, "id", "--user").strip() == "10001"
    assert docker(*image, "sh", "-c", "test -w /opt/taxi || test -w /opt/venv || echo no").strip() == "no"
    found = docker(
        *image, "sh", "-c", "ls -A /run/secrets /etc/pip.conf /etc/pip-ca.pem /opt/taxi/.env 2>/dev/null; true"
    )
    for path in found.split():
        size = docker(*image, "sh", "-c", f"stat -c %s {path}").strip()
        assert size == "0", f"{path}: the file that a build secret was mounted over must be empty"
    manifests = docker(*image, "sh", "-c", "ls /var/lib/taxi/dbt/*/manifest.json").split()
    assert [Path(path).parent.name.rsplit("-", 1)[0] for path in manifests] == [
        *("dagster_ada", "dagster_bob", "dagster_default")
    ]
