"""deploy/kubernetes: the values match the schema of Dagster's chart, and contain no password."""

import copy
import json
import os
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema.validators import validator_for
from pydantic import SecretStr

from taxi_orchestration.settings import PROJECT_DIRECTORY, Settings

TEXT = (PROJECT_DIRECTORY / "deploy/kubernetes/values.yaml").read_text()
VALUES = yaml.safe_load(TEXT)
DEPLOYMENTS = VALUES["dagster-user-deployments"]["deployments"]
SECRETS = {name.upper() for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)}
# A value under a key that contains "password", or a URL with a password.
PASSWORD = re.compile(r"""(?i)password\w*["']?[:,=]\s*(?!""|''|false\b)\S|://[^\s/@]*:[^\s/@]+@""")


def merge_values(base: Any, override: Any) -> Any:
    """Return a chart's values overridden by those of a user, as Helm merges them."""
    if not isinstance(base, dict) or not isinstance(override, dict):
        return override
    return base | {key: merge_values(base[key], value) if key in base else value for key, value in override.items()}


@pytest.fixture(scope="module")
def chart() -> Path:
    directory = os.environ.get("HELM_CHART")
    if not directory:
        pytest.skip("needs the chart: helm pull dagster/dagster --untar, then HELM_CHART=/path/to/dagster")
    return Path(directory)


def test_the_values_match_the_schema_of_the_chart(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    validator = validator_for(schema)(schema)

    def errors(values: dict[str, Any]) -> list[str]:
        merged = merge_values(defaults, values)
        return [f"{'.'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(merged)]

    assert errors(VALUES) == []
    wrong = copy.deepcopy(VALUES)
    wrong["runLauncher"]["config"]["k8sRunLauncher"]["resurces"] = {}
    del wrong["dagster-user-deployments"]["deployments"][0]["port"]
    assert len(errors(wrong)) == 2


def test_every_top_level_value_exists_in_the_chart(chart: Path) -> None:
    assert VALUES.keys() <= yaml.safe_load((chart / "values.yaml").read_text()).keys()


def test_each_student_has_a_deployment_that_refers_to_its_secret_by_name() -> None:
    for deployment in DEPLOYMENTS:
        variables = {variable["name"]: variable["value"] for variable in deployment["env"]}
        assert variables["DAGSTER_STUDENT"] == deployment["name"]
        assert variables["PG_USER"] == f"dagster_{deployment['name']}"
        assert deployment["envSecrets"] == [{"name": f"taxi-{deployment['name']}"}]
        assert variables.keys() <= {name.upper() for name in Settings.model_fields} - SECRETS
        assert deployment["codeServerArgs"] == ["-m", "taxi_orchestration.definitions"]
    assert {"PG_PASSWORD", "DAGSTER_POSTGRES_URL"} <= SECRETS
    assert not PASSWORD.search(TEXT)
    for wrong in ("postgresqlPassword: x", "pgPassword_value: x", "url: postgresql://dagster:x@postgres.example.org/d"):
        assert PASSWORD.search(wrong), wrong


def test_files_with_passwords_are_private_ignored_by_git_and_removed() -> None:
    page = (PROJECT_DIRECTORY / "deploy/kubernetes/README.md").read_text()
    files = re.findall(r"--from-file=\S+=(\S+)", page)
    assert len(files) == 4
    assert "umask 077" in page
    (removed,) = re.findall(r"^rm (.+)$", page, re.MULTILINE)
    ignored = (PROJECT_DIRECTORY / ".gitignore").read_text().splitlines()
    for patterns in (removed.split(), ignored):
        assert [file for file in files if not any(fnmatch(file, pattern) for pattern in patterns)] == []


def test_the_page_says_that_both_host_names_accept_the_same_logins() -> None:
    ingress = VALUES["ingress"]
    hosts = [key for key, value in ingress.items() if isinstance(value, dict) and "host" in value]
    assert len(hosts) == 2
    # The chart has annotations for the whole ingress, not for one host name.
    assert not any("annotations" in ingress[key] for key in hosts)
    assert "accept the same logins" in (PROJECT_DIRECTORY / "deploy/kubernetes/README.md").read_text()


def test_no_container_runs_as_root_and_each_has_a_memory_limit() -> None:
    pods = [VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], *DEPLOYMENTS]
    run = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    for pod in pods:
        assert pod["podSecurityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["allowPrivilegeEscalation"] is False
    assert run["runK8sConfig"]["podSpecConfig"]["securityContext"]["runAsNonRoot"]
    assert all("memory" in part["resources"]["limits"] for part in [*pods, run])
