"""Findings as Dagster's check evaluations."""

from dagster import AssetCheckEvaluation, AssetCheckSeverity, AssetCheckSpec, EventLogRecord, MetadataValue

from taxi_orchestration.defs.markdown import as_markdown
from taxi_orchestration.instance.dagster_internals import AssetCheckEvaluationTargetMaterializationData
from taxi_orchestration.instance.dagster_names import CHECKED_MONTHS, TO_DO
from taxi_orchestration.quality.finding import SAMPLE_ROWS, Finding


def evaluation_of(
    spec: AssetCheckSpec, finding: Finding, month: str | None = None, checked: EventLogRecord | None = None
) -> AssetCheckEvaluation:
    """Return the evaluation of a finding, for the partition `month` or for all months.

    `checked` is the checked materialization: without it no automation condition counts the check as current.
    """
    metadata: dict[str, MetadataValue] = {TO_DO: MetadataValue.text(finding.to_do)}
    if months := month or finding.months:
        metadata[CHECKED_MONTHS] = MetadataValue.text(months)
    for name, value in finding.counts.items():
        match value:
            case int():
                metadata[name] = MetadataValue.int(value)
            case float():
                metadata[name] = MetadataValue.float(value)
            case _:
                metadata[name] = MetadataValue.text(value)
    if finding.sample:
        metadata["sample"] = MetadataValue.md(as_markdown(finding.sample[:SAMPLE_ROWS]))
    if finding.rows_by_month:
        # Imported here: it takes a second and 100 MiB, and most loads draw nothing.
        from taxi_orchestration.report.volume import draw_volume

        metadata["rows by month"] = MetadataValue.md(draw_volume(finding.rows_by_month))
    return AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=finding.level == "pass",
        severity=AssetCheckSeverity.ERROR if finding.level == "error" else AssetCheckSeverity.WARN,
        description=finding.summary,
        metadata=metadata,
        blocking=spec.blocking,
        partition=month,
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=checked.storage_id, run_id=checked.run_id, timestamp=checked.timestamp
        )
        if checked
        else None,
    )
