"""Metadata of tables: columns, rows, amounts, sample rows and SQL, and one folded entry for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from dagster import MetadataValue, TableColumn, TableSchema

from taxi_orchestration.defs.markdown import as_markdown
from taxi_orchestration.instance.builds import BUILT_FROM, DETAILS
from taxi_orchestration.instance.dagster_names import ROWS
from taxi_orchestration.months import Window
from taxi_orchestration.tlc.dataset import Column
from taxi_orchestration.warehouse.load_log import LoadedFile
from taxi_orchestration.warehouse.measures import MonthSummary, count_by_month, summarize_months
from taxi_orchestration.warehouse.warehouse import Warehouse

# dagster-dbt's names of the execution time of a node, and of the rows that a test found.
_SECONDS, _FAILING_ROWS = "Execution Duration", "dagster_dbt/failed_row_count"
_FACTS, _REJECTED = "fct_trips", "rejected_trips"


def node_metadata(dbt_metadata: Mapping[str, Any], sql: str | None) -> dict[str, MetadataValue]:
    """Return readable metadata of a node that dbt built."""
    shown: dict[str, MetadataValue] = {"seconds": _seconds(dbt_metadata)}
    if sql:
        shown["SQL"] = MetadataValue.md(f"```sql\n{sql.strip()}\n```")
    return shown


def check_metadata(dbt_metadata: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """Return readable metadata of a test that dbt ran."""
    shown: dict[str, MetadataValue] = {"seconds": _seconds(dbt_metadata)}
    if _FAILING_ROWS in dbt_metadata:
        shown["failing rows"] = dbt_metadata[_FAILING_ROWS]
    return shown


def file_details(file: LoadedFile) -> dict[str, Any]:
    """Return the row of raw_loads as JSON, for an entry that the UI folds: it does from 1000 characters on."""
    known = {name: value for name, value in vars(file).items() if value is not None}
    return json.loads(json.dumps(known, default=str))


def raw_table_metadata(qualified_schema: str, name: str, columns: Sequence[Column]) -> dict[str, Any]:
    """Return the qualified name of a raw table, and its columns with types and descriptions."""
    described = [TableColumn(column.name, column.postgres_type, description=column.comment) for column in columns]
    return {"dagster/column_schema": TableSchema(described), "dagster/table_name": f"{qualified_schema}.{name}"}


def months_metadata(
    warehouse: Warehouse,
    node: Mapping[str, Any],
    window: Window,
    files: Mapping[date, LoadedFile],
    dbt_metadata: Mapping[str, Any],
    sql: str | None,
) -> dict[date, dict[str, MetadataValue]]:
    """Return the metadata of each month of a table that dbt built for the window."""
    table, start, end = node["name"], window.start, window.end
    summaries = summarize_months(warehouse, table, start, end, with_amount="total_amount" in node["columns"])
    other = {_FACTS: _REJECTED, _REJECTED: _FACTS}.get(table)
    others = count_by_month(warehouse, other, start, end) if other else {}
    metadata = {}
    for month in window.months:
        summary = summaries.get(month, MonthSummary())
        shown: dict[str, MetadataValue] = {ROWS: MetadataValue.int(summary.rows)}
        if summary.total_amount is not None:
            shown["sum of total_amount"] = MetadataValue.float(float(summary.total_amount))
        if other:
            rejected = summary.rows if table == _REJECTED else others.get(month, 0)
            everything = summary.rows + others.get(month, 0)
            shown["share rejected"] = MetadataValue.text(f"{rejected / max(everything, 1):.3%}")
        if summary.preview:
            shown["preview"] = MetadataValue.md(as_markdown(summary.preview))
        metadata[month] = shown | node_metadata(dbt_metadata, sql)
        if file := files.get(month):
            # The digest of the source rows, to compare with the present rows.
            details = {BUILT_FROM: file.rows_sha256, **file_details(file)}
            metadata[month][DETAILS] = MetadataValue.json(details)
    return metadata


def _seconds(dbt_metadata: Mapping[str, Any]) -> MetadataValue:
    return (
        MetadataValue.float(round(float(dbt_metadata[_SECONDS].value), 2))
        if _SECONDS in dbt_metadata
        else MetadataValue.null()
    )
