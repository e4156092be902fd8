"""The monthly checks of raw_trips: names, blocking checks, and the data that they need."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date

from dagster import AssetCheckEvaluation, AssetCheckSpec, DagsterInstance, PartitionsDefinition, PreviewWarning

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.evaluations import evaluation_of
from taxi_orchestration.instance.builds import latest_materializations
from taxi_orchestration.months import next_month, partition_key
from taxi_orchestration.quality.columns import check_columns
from taxi_orchestration.quality.finding import SAMPLE_ROWS, Finding
from taxi_orchestration.quality.pickups import check_pickups, has_many_outside
from taxi_orchestration.quality.rows import check_rows
from taxi_orchestration.quality.volume import check_volume
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.measures import MonthMeasure, measure_months, pickups_outside
from taxi_orchestration.warehouse.warehouse import Warehouse

Findings = Mapping[date, Mapping[str, Finding]]

FILE_IS_WHOLE = "file_is_whole"
COLUMNS_AS_AGREED = "columns_as_agreed"
PICKUPS_IN_MONTH = "pickups_lie_in_the_month"
VOLUME_AS_EXPECTED = "volume_as_expected"
_DESCRIPTIONS = {
    FILE_IS_WHOLE: "The row counts of the file's footer, of raw_loads and of raw_trips are equal.",
    COLUMNS_AS_AGREED: (
        "The file has the columns of its era: a new or a missing optional column warns, a missing required one fails."
    ),
    PICKUPS_IN_MONTH: "At most 1 % of a file's pickups are outside its month.",
    VOLUME_AS_EXPECTED: (
        "A month has between half and twice the rows of the same month last year, or of the median of the last twelve."
    ),
}


def raw_checks(assets: AssetKeys, months: PartitionsDefinition | None = None) -> list[AssetCheckSpec]:
    """Return the specs of the checks, which the loading step evaluates."""
    with warnings.catch_warnings():
        # Dagster warns that partitioned checks are beta, which a user cannot change.
        warnings.simplefilter("ignore", PreviewWarning)
        return [
            AssetCheckSpec(
                name,
                asset=assets.raw_trips,
                description=description,
                blocking=name == FILE_IS_WHOLE,
                partitions_def=months,
            )
            for name, description in _DESCRIPTIONS.items()
        ]


def raw_findings(
    warehouse: Warehouse, months: Collection[date], footer_rows: Mapping[date, int] | None = None
) -> Findings:
    """Evaluate the checks of these months; `footer_rows` are the row counts of the files that this run loaded.

    Takes two queries for any number of months, and one for each month with sample rows.
    """
    files = loaded_files(warehouse)
    measures = measure_months(warehouse, min(months), next_month(max(months)), DATASET.pickup)
    rows = {month: file.rows for month, file in files.items()}
    findings: dict[date, dict[str, Finding]] = {}
    for month in sorted(months):
        key, file = partition_key(month), files.get(month)
        measure = measures.get(month, MonthMeasure())
        outside = []
        if has_many_outside(measure):
            outside = pickups_outside(warehouse, month, SAMPLE_ROWS, DATASET.pickup, DATASET.dropoff)
        findings[month] = {FILE_IS_WHOLE: check_rows(key, measure, (footer_rows or {}).get(month))}
        if file:
            findings[month] |= {
                COLUMNS_AS_AGREED: check_columns(month, file.columns, list(file.drift.get("left_out", ()))),
                PICKUPS_IN_MONTH: check_pickups(key, measure, outside),
                VOLUME_AS_EXPECTED: check_volume(month, rows),
            }
    return findings


def evaluations(
    instance: DagsterInstance, specs: Sequence[AssetCheckSpec], findings: Findings
) -> Iterator[AssetCheckEvaluation]:
    """Yield an evaluation for each check and month, with the month's last materialization."""
    keys = [partition_key(month) for month in findings]
    latest = latest_materializations(instance, specs[0].asset_key, keys) if specs else {}
    for month, of_month in findings.items():
        for spec in specs:
            if spec.name in of_month:
                yield evaluation_of(spec, of_month[spec.name], partition_key(month), latest.get(partition_key(month)))
