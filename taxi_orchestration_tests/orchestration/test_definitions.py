"""The definitions before any run: assets, checks, jobs, partitions, and the configuration of Dagster."""

import json
import re
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.dbt.runner import prepared_project, read_manifest
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.code_references import repository_url, with_code_references
from taxi_orchestration.defs.conditions import changed_code, changed_months
from taxi_orchestration.defs.dbt_models import build_dbt_assets
from taxi_orchestration.defs.exposures import client_specs
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.raw_trips import build_raw_trips
from taxi_orchestration.defs.raw_zones import build_raw_zones
from taxi_orchestration.defs.retries import RETRIES
from taxi_orchestration.defs.tlc_source import build_tlc_files
from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.instance.storage import TaxiStepLogs
from taxi_orchestration.report.read import SOURCES
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings, load_settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.definitions_text import ALERTING, COMMITTED, definitions_as_lines
from taxi_orchestration_tests.support.warehouses import storage_database

REPORT, CLIENTS = "taxi_report", "sql_clients"
EXPOSURES = {REPORT, CLIENTS}
SOURCE = f"tlc_{DATASET.name}"

README = (PROJECT_DIRECTORY / "README.md").read_text()

OWN_SERVER = {
    **{"PG_HOST": "db.example", "PG_PORT": "6432", "PG_USER": "ann", "PG_PASSWORD": "s3cret!", "PG_DBNAME": "trips"},
}


@pytest.fixture
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_the_definitions_load_as_dagster_dev_loads_them_and_start_no_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("TAXI_HOME", str(tmp_path))
    dg.Definitions.validate_loadable(build_definitions(load_settings()))
    assert not (tmp_path / "postgres").exists()


def test_the_definitions_are_those_of_the_committed_text(settings: Settings) -> None:
    lines = definitions_as_lines(build_definitions(settings.model_copy(update=ALERTING)))
    # After an intended change, run the command in the first lines of support/definitions_text.py.
    assert list(lines) == COMMITTED.read_text().splitlines()


def test_every_asset_has_a_description_kinds_a_table_name_and_a_code_reference(
    specs: dict[str, dg.AssetSpec], settings: Settings
) -> None:
    for name, spec in specs.items():
        assert spec.description, name
        (source,) = spec.metadata["dagster/code_references"].code_references
        assert find_file(source).is_file(), name
        assert spec.kinds, name
        assert name in (SOURCE, REPORT) or "postgres" in spec.kinds
        # Owners belong to one Dagster deployment, and a checkout does not know them.
        assert not spec.owners, name
        if name not in {SOURCE} | EXPOSURES:
            assert spec.metadata["dagster/table_name"] == f"taxi.{settings.schema_name}.{name}"


def find_file(reference: dg.LocalFileCodeReference | dg.UrlCodeReference) -> Path:
    """Return the file of a code reference, which is a URL where the checkout has a git origin."""
    if isinstance(reference, dg.LocalFileCodeReference):
        return Path(reference.file_path)
    return PROJECT_DIRECTORY / re.sub(r"^https://.*/tree/HEAD/|#L\d+$", "", reference.url)


def test_with_a_git_origin_every_asset_links_to_its_source_on_the_host(settings: Settings) -> None:
    artifacts = prepared_project(settings)
    manifest, assets, months = read_manifest(artifacts), AssetKeys(), monthly_partitions()
    linked = with_code_references(
        [build_raw_trips(assets, months, "taxi.public", 12), *build_raw_zones(assets, "taxi.public")],
        [
            build_tlc_files(months, assets),
            *build_dbt_assets(manifest, artifacts, assets, months, changed_months(settings), changed_code()),
            *client_specs(manifest, assets),
        ],
        "https://github.com/ny/taxi",
    )
    urls = {}
    for spec in (spec for asset in linked for spec in asset.specs):
        (reference,) = spec.metadata["dagster/code_references"].code_references
        urls[spec.key.to_user_string()] = reference.url
        assert find_file(reference).is_file()
    assert urls["raw_trips"].startswith("https://github.com/ny/taxi/tree/HEAD/taxi_orchestration/defs/raw_trips.py#L")
    assert urls["fct_trips"].startswith(
        "https://github.com/ny/taxi/tree/HEAD/dbt_project/models/marts/core/fct_trips.sql"
    )
    assert {SOURCE, CLIENTS} < set(urls)


@pytest.mark.parametrize(
    ("origin", "page"),
    [
        ("https://github.com/ny/taxi.git", "https://github.com/ny/taxi"),
        ("https://ann:s3cret@gitlab.com/a/b/taxi", "https://gitlab.com/a/b/taxi"),
        ("git@github.com:ny/taxi.git", "https://github.com/ny/taxi"),
        ("ssh://git@github.com/ny/taxi.git", "https://github.com/ny/taxi"),
        ("ssh://git@github.com:22/ny/taxi", "https://github.com/ny/taxi"),
        ("https://git.example.org/ny/taxi.git", None),
        ("/srv/git/taxi", None),
    ],
)
def test_the_web_address_of_an_origin_is_known_for_two_hosts_and_has_no_password(
    tmp_path: Path, origin: str, page: str | None
) -> None:
    assert repository_url(tmp_path) is None
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert repository_url(tmp_path) is None
    subprocess.run(["git", "remote", "add", "origin", origin], cwd=tmp_path, check=True)
    assert repository_url(tmp_path) == page


def test_every_table_has_its_columns_with_types_and_meanings(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        if name not in {SOURCE} | EXPOSURES:
            columns = spec.metadata["dagster/column_schema"].columns
            assert columns, name
            for column in columns:
                assert column.description, f"{name}.{column.name}"
                assert column.type, f"{name}.{column.name}"


def test_the_lineage_ends_with_the_exposures_of_dbt(
    definitions: dg.Definitions, settings: Settings, specs: dict[str, dg.AssetSpec]
) -> None:
    manifest = read_manifest(prepared_project(settings))
    nodes = {**manifest["nodes"], **manifest["sources"]}
    exposures = {exposure["name"]: exposure for exposure in manifest["exposures"].values()}
    reads = {
        name: {nodes[unique_id]["name"] for unique_id in exposure["depends_on"]["nodes"]}
        for name, exposure in exposures.items()
    }
    assert set(exposures) == EXPOSURES
    # The report reads SOURCES. The SQL clients read the tables that the README lists.
    assert reads[REPORT] == {source.table for source in SOURCES.values()}
    offered = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^(\| `.*?) \|", README, re.MULTILINE))))
    models = {node["name"] for node in nodes.values() if node["resource_type"] == "model"}
    assert reads[CLIENTS] == offered & models | {name for name in models if name.startswith("dim_")}
    graph = definitions.resolve_asset_graph()
    for name, exposure in exposures.items():
        spec = specs[name]
        assert {key.to_user_string() for key in graph.get(spec.key).parent_keys} == reads[name] - {"raw_loads"}
        assert spec.description == exposure["description"]
        assert spec.owners == specs["fct_trips"].owners
    # Dagster materializes the report. The SQL clients are an external asset.
    assert (graph.get(specs[REPORT].key).is_executable, graph.get(specs[CLIENTS].key).is_executable) == (True, False)
    leaves = {key.to_user_string() for key in graph.get_all_asset_keys() if not graph.get(key).child_keys}
    assert leaves == EXPOSURES


def test_every_check_has_a_description_and_a_name_of_at_most_42_characters(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.asset_check_keys:
        assert graph.get(key).description, key
        assert len(key.name) <= 42, key


def test_the_definitions_load_without_a_warning(settings: Settings, recwarn: pytest.WarningsRecorder) -> None:
    repository = build_definitions(settings).get_repository_def()
    repository.load_all_definitions()
    assert [str(warning.message) for warning in recwarn] == []


def test_a_backfill_of_raw_trips_has_the_configured_number_of_months_per_run(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXI_MONTHS_PER_RUN", "6")
    raw_trips = build_definitions(load_settings()).resolve_asset_graph().get(dg.AssetKey("raw_trips"))
    assert raw_trips.backfill_policy == dg.BackfillPolicy.multi_run(6)


def test_every_step_of_the_pipeline_is_retried_and_dbt_has_one_slot(definitions: dg.Definitions) -> None:
    steps = {node.name: node.definition for node in definitions.resolve_job_def(TAXI_PIPELINE).graph.nodes}
    assert {name: step.pool for name, step in steps.items() if isinstance(step, dg.OpDefinition)} == {
        "raw_trips": None,
        "dbt_models": "dbt",
    }
    for step in steps.values():
        assert isinstance(step, dg.OpDefinition)
        assert step.retry_policy == RETRIES


def test_the_instance_is_configured_by_the_checkouts_dagster_yaml(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert isinstance(instance.compute_log_manager, TaxiStepLogs)
    assert instance.run_monitoring_enabled
    assert instance.get_settings("telemetry") == {"enabled": False}
    assert instance.event_log_storage.get_pool_config().default_pool_limit == 1
    assert instance.get_settings("run_retries")["retry_on_asset_or_op_failure"] is False
    assert instance.get_settings("concurrency")["runs"] == {"max_concurrent_runs": 4}


def test_an_instance_that_is_opened_twice_has_the_same_runs(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(dg.GraphDefinition("empty").to_job())
    with open_instance() as other:
        assert [r.run_id for r in other.get_runs()] == [run.run_id]


def test_a_connection_to_dagsters_storage_that_was_cut_is_reopened(
    instance: dg.DagsterInstance, server: PostgresTarget
) -> None:
    materialization = dg.AssetMaterialization("raw_zones")
    instance.report_runless_asset_event(materialization)
    database = storage_database()
    with psycopg.connect(server.url(), autocommit=True) as other_session:
        terminated = other_session.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database]
        ).fetchall()
        assert terminated
        count_connections = "select count(*) from pg_stat_activity where datname = %s"
        while other_session.execute(count_connections, [database]).fetchone() != (0,):
            time.sleep(0.01)
    instance.report_runless_asset_event(materialization)
    assert len(instance.fetch_materializations(dg.AssetKey("raw_zones"), limit=10).records) == 2


def test_the_workspace_names_definitions_that_exist() -> None:
    workspace = yaml.safe_load((PROJECT_DIRECTORY / "workspace.yaml").read_text())
    (entry,) = workspace["load_from"]
    assert entry["python_module"]["module_name"] == "taxi_orchestration.definitions"
    # Dagster stores runs and sensor states by this name. `dagster dev` reads pyproject.toml, `taxi` reads this file.
    project = tomllib.loads((PROJECT_DIRECTORY / "pyproject.toml").read_text())
    assert entry["python_module"]["location_name"] == project["tool"]["dg"]["project"]["code_location_name"]


def test_no_password_is_in_dagster_yaml() -> None:
    text = (PROJECT_DIRECTORY / "dagster.yaml").read_text()
    assert "password" not in text.lower()
    assert "://" not in text


@pytest.mark.parametrize("variables", [{}, OWN_SERVER], ids=["embedded", "own server"])
def test_the_ui_shows_where_the_tables_are_and_no_password(
    variables: dict[str, str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster._core.remote_representation.external_data import RepositorySnap

    for name, value in {**variables, "TAXI_ALERT_URLS": "json://host/s3cret-token"}.items():
        monkeypatch.setenv(name, value)
    repository = build_definitions(load_settings()).get_repository_def()
    shown = RepositorySnap.from_def(repository)
    (warehouse,) = (resource for resource in shown.resources or [] if resource.name == "warehouse")
    values = {name: json.loads(str(value)) for name, value in warehouse.configured_values.items()}
    expected = {"host": "embedded", "port": "embedded", "database": "taxi", "user": "taxi"}
    if variables:
        expected = {"host": "db.example", "port": "6432", "database": "trips", "user": "ann"}
    assert values == expected | {"schema": environment["PG_SCHEMA"]}
    assert OWN_SERVER["PG_PASSWORD"] not in str(shown.resources)
    assert "s3cret-token" not in str(shown.resources)
    assert "lambda" not in str(shown.resources)
    (settings_resource,) = (resource for resource in shown.resources or [] if resource.name == "settings")
    shown_settings = {name: json.loads(str(value)) for name, value in settings_resource.configured_values.items()}
    assert (shown_settings["tlc_host"], shown_settings["alerts"]) == (environment["TLC_BASE_URL"], "json")
