"""The contract, the raw tables and the dbt models agree on every column; each column is described and tested."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from taxi_orchestration.dbt.runner import prepared_project, read_manifest
from taxi_orchestration.dbt.sources import SOURCES_YML, sources_yml
from taxi_orchestration.instance.builds import MONTHLY_TABLES
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.warehouse import Warehouse

Manifest = dict[str, Any]


@pytest.fixture
def manifest(settings: Settings) -> Manifest:
    return read_manifest(prepared_project(settings))


def select_nodes(manifest: Manifest, resource_type: str = "model") -> list[Mapping[str, Any]]:
    return [node for node in manifest["nodes"].values() if node["resource_type"] == resource_type]


def test_dbts_descriptions_of_raw_tables_are_generated_from_those_of_the_loader() -> None:
    assert SOURCES_YML.read_text() == sources_yml(), "run python -m taxi_orchestration.dbt.sources"


def test_every_monthly_table_records_what_its_months_were_built_from(manifest: Manifest) -> None:
    monthly = {model["name"] for model in select_nodes(manifest) if model["config"]["materialized"] == "month_window"}
    assert monthly == set(MONTHLY_TABLES)


def test_dbts_sources_are_the_tables_that_the_loader_creates(
    manifest: Manifest, settings: Settings, target: PostgresTarget
) -> None:
    create_raw_tables(Warehouse(target, settings.schema_name))
    with psycopg.connect(target.url()) as connection:
        created = connection.execute(
            """
            select relname, attname, format_type(atttypid, null), col_description(attrelid, attnum)
            from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = %s::regnamespace and relkind in ('r', 'p') and attnum > 0
            """,
            [settings.schema_name],
        ).fetchall()
    described = [
        (table["name"], name, column["data_type"], column["description"])
        for table in manifest["sources"].values()
        for name, column in table["columns"].items()
    ]
    assert sorted(described) == sorted(created)


def test_only_staging_models_read_the_raw_tables(manifest: Manifest) -> None:
    readers = [
        node
        for node in manifest["nodes"].values()
        if any(name.startswith("source.") for name in node.get("depends_on", {}).get("nodes", []))
    ]
    assert {node["fqn"][1] for node in readers} == {"staging"}


def test_the_overview_of_dbts_documentation_names_every_fact_and_mart(manifest: Manifest) -> None:
    overview = manifest["docs"]["doc.taxi.__overview__"]["block_contents"]
    marts = {model["name"] for model in select_nodes(manifest) if "marts" in model["fqn"]}
    assert {name for name in marts if not name.startswith("dim_")} - set(re.findall(r"`(\w+)`", overview)) == set()


def test_every_model_seed_source_and_column_is_described_and_has_a_type(manifest: Manifest) -> None:
    incomplete = []
    for node in [*select_nodes(manifest), *select_nodes(manifest, "seed"), *manifest["sources"].values()]:
        if not node["description"].strip():
            incomplete.append(node["name"])
        for name, column in node["columns"].items():
            # dbt reads the column types of a seed from its config.
            data_type = column["data_type"] or (node["config"].get("column_types") or {}).get(name)
            if not column["description"].strip() or not data_type:
                incomplete.append(f"{node['name']}.{name}")
    assert incomplete == []


def test_every_model_has_a_contract_that_dbt_enforces(manifest: Manifest) -> None:
    assert [model["name"] for model in select_nodes(manifest) if not model["config"]["contract"]["enforced"]] == []
    assert [model["name"] for model in select_nodes(manifest) if not model["columns"]] == []


def test_every_seed_has_the_columns_that_are_described(manifest: Manifest) -> None:
    for seed in select_nodes(manifest, "seed"):
        header = (Path(seed["root_path"]) / seed["original_file_path"]).read_text().splitlines()[0]
        assert header.replace('"', "").split(",") == list(seed["columns"]), seed["name"]


def test_the_days_begin_31_days_before_the_first_file(manifest: Manifest) -> None:
    (dates,) = (model for model in select_nodes(manifest) if model["name"] == "dim_dates")
    assert f"timestamp '{DATASET.first_month - timedelta(days=31)}'" in dates["raw_code"]


def test_every_mart_over_all_files_refers_to_the_complete_months(manifest: Manifest) -> None:
    marts = {
        model["name"]: f"{model['description']} {' '.join(model['columns'])}"
        for model in select_nodes(manifest)
        if model["config"]["materialized"] == "view" and {"net_trips", "pickups"} & {*model["columns"]}
    }
    assert len(marts) == 7
    assert [name for name, text in marts.items() if "is_complete" not in text] == []


def test_every_table_has_a_key_that_the_database_or_a_test_enforces(manifest: Manifest) -> None:
    tested = {
        test.get("attached_node")
        for test in select_nodes(manifest, "test")
        if _name_of(test) == "unique_combination_of_columns"
    }
    keyless = [
        model["name"]
        for model in select_nodes(manifest)
        if model["config"]["materialized"] != "view"
        and not any(constraint["type"] == "primary_key" for constraint in model["constraints"])
        and model["unique_id"] not in tested
    ]
    assert keyless == []


def test_every_column_of_every_model_has_a_constraint_or_a_test(manifest: Manifest) -> None:
    untested = []
    for model in select_nodes(manifest):
        covered = {name for constraint in model["constraints"] for name in constraint.get("columns") or []}
        covered |= {name for name, column in model["columns"].items() if column["constraints"]}
        for unit_test in manifest["unit_tests"].values():
            if unit_test["model"] == model["name"]:
                covered |= {name for row in unit_test["expect"]["rows"] for name in row}
        for test in select_nodes(manifest, "test"):
            if test.get("attached_node") == model["unique_id"]:
                arguments = test["test_metadata"]["kwargs"]
                covered |= {*arguments.get("combination_of_columns", ())}
                # Text between quotes names no column.
                covered |= {*re.findall(r"\w+", re.sub("'[^']*'", "", arguments.get("expression", "")))}
        untested += [f"{model['name']}.{column}" for column in model["columns"] if column not in covered]
    assert untested == []


def _name_of(test: Mapping[str, Any]) -> str | None:
    return (test.get("test_metadata") or {}).get("name")


def test_every_dbt_test_has_a_description_and_a_severity(manifest: Manifest) -> None:
    for test in select_nodes(manifest, "test"):
        described = test["description"] or test["config"]["meta"].get("description")
        assert described, test["name"]
        assert test["config"]["severity"].lower() in ("warn", "error"), test["name"]


def test_the_codes_of_the_data_set_are_those_of_dbts_lists(manifest: Manifest) -> None:
    codes = {column.name: {str(code) for code in column.codes} for column in DATASET.columns}
    lists = {"tlc_payment_types": "payment_type", "tlc_rate_codes": "ratecodeid", "tlc_trip_types": "trip_type"}
    lists["tlc_vendors"] = "vendorid"
    assert {seed["name"] for seed in select_nodes(manifest, "seed")} == lists.keys()
    for seed in select_nodes(manifest, "seed"):
        lines = (Path(seed["root_path"]) / seed["original_file_path"]).read_text().splitlines()[1:]
        listed = {line.split(",")[0] for line in lines}
        # Vendor 5 occurs in the files, but no document of the TLC describes it.
        column = lists[seed["name"]]
        assert column in codes, f"{DATASET.name} has no column {column}: skip {seed['name']} here, or remove this seed"
        assert listed == codes[column] - ({"5"} if column == "vendorid" else set()), seed["name"]
