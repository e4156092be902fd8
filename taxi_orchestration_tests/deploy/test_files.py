"""The files of deploy/ refer only to files, variables and volumes that exist. No Docker engine is needed."""

import importlib
import json
import os
import pwd
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterRun
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher import WorkerStatus
from dagster._serdes import ConfigurableClassData
from dagster_docker import DockerRunLauncher

from taxi_orchestration.report.file import report_path
from taxi_orchestration.settings import PROJECT_DIRECTORY, Settings, load_settings

DEPLOY = PROJECT_DIRECTORY / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKSPACE = yaml.safe_load((DEPLOY / "docker/workspace.yaml").read_text())
STUDENTS = [entry["grpc_server"]["location_name"] for entry in WORKSPACE["load_from"]]
DOCKERFILE = (DEPLOY / "docker/Dockerfile").read_text()
# Set by Docker Compose, or read only by the files of deploy/.
NOT_SETTINGS = {
    *("COMPOSE_PROJECT_NAME", "TAXI_IMAGE", "BASE", "POSTGRES_IMAGE", "CADDY_IMAGE"),
    *("TAXI_SITE", "TAXI_HTTP_PORT", "TAXI_HTTPS_PORT"),
}
SETTINGS = {name.upper() for name in Settings.model_fields}
DEPLOY_PAGE = (PROJECT_DIRECTORY / "docs/deploy.md").read_text()
README = (DEPLOY / "docker/README.md").read_text()
README_PARAGRAPHS = [" ".join(part.split()) for part in README.split("\n\n")]


def find_checkout_file(path: str) -> Path:
    """Return the file of the checkout that the image has at `path`."""
    return DEPLOY / "docker" / Path(path).name if path.startswith("/opt/dagster/") else PROJECT_DIRECTORY / path


def test_each_student_has_a_service_a_code_location_a_volume_and_a_manifest() -> None:
    for student in STUDENTS:
        service = SERVICES[student]
        assert service["environment"]["DAGSTER_STUDENT"] == student
        assert service["environment"]["PG_USER"] == f"dagster_{student}"
        assert service["volumes"][0] == f"{student}:/run/secrets:ro"
        assert f"{student}:/secrets/students/{student}" in SERVICES["passwords"]["volumes"]
    assert {entry["grpc_server"]["host"] for entry in WORKSPACE["load_from"]} == set(STUDENTS) <= SERVICES.keys()
    assert SERVICES["passwords"]["build"]["args"]["STUDENTS"].split() == STUDENTS
    (default,) = re.findall(r'^ARG STUDENTS="(.+)"$', DOCKERFILE, re.MULTILINE)
    assert default.split() == STUDENTS


def test_a_run_has_the_variables_and_volumes_of_its_code_server_and_no_secret() -> None:
    for student in STUDENTS:
        environment = SERVICES[student]["environment"]
        context = json.loads(environment["DAGSTER_CONTAINER_CONTEXT"])["docker"]
        variables = dict(entry.split("=", 1) for entry in context["env_vars"])
        assert variables.items() <= environment.items()
        assert {name for name in environment if name.startswith(("PG_", "DAGSTER_STUDENT"))} <= variables.keys()
        assert not any("PASSWORD" in name or name == "DAGSTER_POSTGRES_URL" for name in variables)
        assert context["networks"] == ["${COMPOSE_PROJECT_NAME}_default"]
        volumes = context["container_kwargs"]["volumes"]
        run_volumes = [volume.removeprefix("${COMPOSE_PROJECT_NAME}_") for volume in volumes]
        assert run_volumes == SERVICES[student]["volumes"]
        assert not any("docker.sock" in volume for volume in run_volumes)


def test_only_webserver_and_daemon_have_the_docker_socket_and_only_proxy_a_port() -> None:
    reach = {name for name, service in SERVICES.items() if "docker.sock" in str(service.get("volumes"))}
    assert reach == {"webserver", "daemon"}
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"proxy"}


def test_the_page_says_what_a_student_with_an_own_image_can_do() -> None:
    (text,) = [part for part in README_PARAGRAPHS if "`DAGSTER_CONTAINER_IMAGE`" in part]
    for fact in ("whom you trust with the whole machine", "rights of root", "the password of Dagster's storage"):
        assert fact in text


def test_only_code_servers_have_the_alert_urls_and_each_may_have_a_file_instead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The sensor that sends the alerts runs in the code server.
    assert {name for name, service in SERVICES.items() if "TAXI_ALERT_URLS" in str(service)} == set(STUDENTS)
    (text,) = [part for part in README_PARAGRAPHS if "(except `TAXI_ALERT_URLS`" in part]
    (name,) = re.findall(r"/secrets/students/ada/(\w+)", text)
    (tmp_path / name).write_text("json://localhost/ada\n")
    monkeypatch.setattr("taxi_orchestration.settings.SECRETS_DIRECTORY", tmp_path)
    # Without TAXI_ALERT_URLS in .env the variable is empty in the container.
    monkeypatch.setenv("TAXI_ALERT_URLS", "")
    assert [url.get_secret_value() for url in load_settings().alert_urls] == ["json://localhost/ada"]


def test_volumes_variables_and_files_of_the_compose_file_exist() -> None:
    text = (DEPLOY / "docker/compose.yaml").read_text()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, _ = volume.partition(":")
            is_known = source in COMPOSE["volumes"] or source == "/var/run/docker.sock"
            assert is_known or (DEPLOY / "docker" / source).is_file(), volume
    assert set(re.findall(r"\$\{(\w+)", text)) - SETTINGS == NOT_SETTINGS
    names = set(re.findall(r"^\s+((?:PG|TAXI|TLC|DAGSTER)_\w+):", text, re.MULTILINE))
    assert names - SETTINGS - NOT_SETTINGS == {"DAGSTER_CONTAINER_IMAGE", "DAGSTER_CONTAINER_CONTEXT"}
    for service in SERVICES.values():
        for word in service.get("command", []):
            if word.startswith(("deploy/", "/opt/dagster/")):
                assert find_checkout_file(word).is_file(), word
    assert find_checkout_file(SERVICES["webserver"]["entrypoint"][0]).stat().st_mode & 0o111


def test_the_files_and_the_module_of_the_dockerfile_exist_and_its_user_is_not_root() -> None:
    ignored = (PROJECT_DIRECTORY / ".dockerignore").read_text().splitlines()
    for arguments in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in arguments.split()[:-1]:
            assert (PROJECT_DIRECTORY / source).exists(), source
            assert any(f"!{source}".startswith(line) for line in ignored if line.startswith("!")), source
    # Other tests load the module. This test checks that the command of the image names it.
    module = re.search(r'"-m", "([\w.]+)"\]$', DOCKERFILE, re.MULTILINE)
    assert module
    assert importlib.util.find_spec(module[1])
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE) == ["taxi"]
    for secret in re.findall(r"^(?:ENV|ARG) .*$", DOCKERFILE, re.MULTILINE):
        assert not re.search("(?i)password|token|index", secret)


def test_the_page_copies_the_report_from_where_taxi_report_writes_it(tmp_path: Path) -> None:
    (student, path) = re.findall(r"docker compose cp (\w+):(\S+) ", README)[0]
    assert f"docker compose exec {student} taxi report" in README
    (home,) = re.findall(r"\bTAXI_HOME=(\S+)", DOCKERFILE)
    settings = load_settings(dagster_student=student, taxi_home=tmp_path)
    assert Path(path) == Path(home) / report_path(settings).name


def test_a_removed_password_is_written_again_and_reaches_every_copy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The image has the account `taxi`. Only root can give a file to another account.
    monkeypatch.setattr(pwd, "getpwnam", lambda _: pwd.getpwuid(os.getuid()))
    monkeypatch.setattr(os, "chown", lambda *_, **__: None)
    spec = importlib.util.spec_from_file_location("prepare", DEPLOY / "docker/prepare.py")
    assert spec
    assert spec.loader
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    for name in ("STUDENTS", "DAGSTER", "LOGINS", "SUPERUSER"):
        monkeypatch.setattr(prepare, name, tmp_path / name.lower())
    for folder in ("dagster", "logins", "students/ada", "students/bob"):
        (tmp_path / folder).mkdir(parents=True)

    def read_all() -> dict[str, str]:
        return {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}

    prepare.write_passwords()
    first = read_all()
    prepare.write_passwords()
    assert read_all() == first
    (tmp_path / "dagster/dagster_postgres_url").unlink()
    (tmp_path / "students/ada/pg_password").unlink()
    prepare.write_passwords()
    second = read_all()
    urls = {name for name in first if name.endswith("dagster_postgres_url")}
    assert len(urls) == 3
    assert len({second[name] for name in urls}) == 1
    assert {name for name in first if second[name] != first[name]} == urls | {"students/ada/pg_password"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o600}


def test_the_page_says_what_to_restart_for_each_kind_of_password() -> None:
    (text,) = [part for part in README_PARAGRAPHS if "To change a password" in part]
    named = set(re.findall(r"`(/secrets/[\w/]+)`", text)) | set(re.findall(r"rm (/secrets/[\w/]+)`", text))
    kinds = {"students/ada/pg_password", "logins/ada", "dagster/dagster_postgres_url"}
    assert named == {f"/secrets/{kind}" for kind in kinds}
    assert set(re.findall(r"`(proxy|webserver|viewer|daemon)`", text)) == {"proxy", "webserver", "viewer", "daemon"}
    assert "The file of the superuser must stay" in text


def test_an_upgrade_of_compose_stops_builds_migrates_and_starts_in_this_order() -> None:
    (upgrades,) = re.findall(r"^## Upgrades$(.*?)^## ", DEPLOY_PAGE, re.MULTILINE | re.DOTALL)
    order = ("compose stop ", "compose build", "dagster instance migrate`", "compose up --detach")
    places = [[found.start() for found in re.finditer(command, upgrades)] for command in order]
    assert [len(each) for each in places] == [1] * len(order)
    assert places == sorted(places)
    (stopped,) = re.findall(r"compose stop ([\w ]+)", upgrades)
    # The code servers of the students start no run by themselves.
    assert set(stopped.split()) == {name for name, service in SERVICES.items() if "/opt/dagster/" in str(service)}


def test_the_commands_for_backups_name_services_databases_and_volumes_that_exist() -> None:
    commands = re.findall(r"^\| (?:back up|restore).* \| `(.+)` \|$", DEPLOY_PAGE, re.MULTILINE)
    for command in commands:
        service = re.match(r"docker compose (?:exec|run)(?: -\S+)* (\w+) ", command)
        assert service, command
        assert service[1] in SERVICES, command
    prepared = (DEPLOY / "docker/prepare.py").read_text()
    databases = ["dagster", *re.findall(r'^WAREHOUSE = "(\w+)"$', prepared, re.MULTILINE)]
    ends = [f" {name} > {name}.dump" for name in databases] + [f"--dbname {name} < {name}.dump" for name in databases]
    ends += [" -C /secrets . > secrets.tar", " -C /secrets < secrets.tar"]
    assert [end for end in ends if sum(command.endswith(end) for command in commands) != 1] == []
    assert all(":/secrets/" in volume for volume in SERVICES["passwords"]["volumes"])


def test_the_project_is_installed_editable_and_with_the_constraints() -> None:
    # dbt_project stands beside the package in a checkout, and is not in site-packages.
    texts = [DOCKERFILE, *(path.read_text() for path in DEPLOY.rglob("README.md"))]
    commands = re.findall(r"pip install ([^`\n]*)", "\n".join(texts).replace("\\\n", " "))
    installs = [command for command in commands if re.search(r"""(^|[\s'"])\.($|[\s['"])""", command)]
    assert len(installs) == 2
    for install in installs:
        assert "--editable" in install, install
        assert "--constraint constraints.txt" in install, install


def test_the_storage_url_of_the_celery_page_requires_tls() -> None:
    # Dagster's own storage takes the default of libpq, `prefer`, which accepts a server without TLS.
    urls = re.findall(r"DAGSTER_POSTGRES_URL=(\S+)", (DEPLOY / "celery/README.md").read_text())
    assert urls
    assert all("?sslmode=require" in url for url in urls)


@pytest.mark.parametrize("place", ["docker", "celery"])
def test_dagster_accepts_the_dagster_yaml(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAGSTER_POSTGRES_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setenv(name, "redis://none")
    config, _ = dagster_instance_config(str(DEPLOY / place))
    for part in ("run_launcher", *(("storage",) if place == "docker" else ())):
        named = config[part].get("custom", config[part])
        assert hasattr(importlib.import_module(named["module"]), named["class"])


def test_run_monitoring_in_compose_fails_only_runs_whose_container_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    named = dagster_instance_config(str(DEPLOY / "docker"))[0]["run_launcher"]
    launcher = ConfigurableClassData(named["module"], named["class"], "{}").rehydrate(DockerRunLauncher)
    assert launcher.supports_check_run_worker_health
    # `taxi backfill` executes a run in a student's container: it has no tag of a container of its own.
    assert launcher.check_run_worker_health(DagsterRun(job_name="x")).status == WorkerStatus.RUNNING
    monkeypatch.setattr(DockerRunLauncher, "_get_container", lambda *_: None)
    removed = DagsterRun(job_name="x", tags={"docker/container_id": "removed"})
    assert launcher.check_run_worker_health(removed).status == WorkerStatus.NOT_FOUND
