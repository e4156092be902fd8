"""The checks of each month as Dagster's: their names, which of them stop what is downstream, the data they need."""

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
from taxi_orchestration.warehouse.load_log import LoadedFile, loaded_files
from taxi_orchestration.warehouse.measures import MonthMeasure, measure_months, pickups_outside
from taxi_orchestration.warehouse.warehouse import Warehouse

Findings = Mapping[date, Mapping[str, Finding]]

FILE_IS_WHOLE = "file_is_whole"
COLUMNS_AS_AGREED = "columns_as_agreed"
PICKUPS_IN_MONTH = "pickups_lie_in_the_month"
VOLUME_AS_EXPECTED = "volume_as_expected"
_DESCRIPTIONS = {
    FILE_IS_WHOLE: (
        "The rows that the file's footer promises were copied, and are those that raw_loads says and raw_trips has."
    ),
    COLUMNS_AS_AGREED: (
        "The file has the columns of its time: a new or a missing optional one warns, a missing required one fails."
    ),
    PICKUPS_IN_MONTH: "No more than 1 % of a file's pickups lie outside its month.",
    VOLUME_AS_EXPECTED: (
        "A month has between half and twice the rows of the same month last year, or of the median of the last twelve."
    ),
}


def raw_checks(assets: AssetKeys, months: PartitionsDefinition | None = None) -> list[AssetCheckSpec]:
    """The checks of raw_trips, made by the step that loads it."""
    with warnings.catch_warnings():
        # Checks by partition are new in Dagster, which is nothing that a user could act on.
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
    """What is true of these months of raw_trips; `footer_rows` are those of the files that this run has loaded.

    Asks the server twice, however many months there are, and once more for each that has a sample to show.
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
            times = (DATASET.pickup, DATASET.dropoff)
            outside = pickups_outside(warehouse, month, SAMPLE_ROWS, *times)
        findings[month] = {FILE_IS_WHOLE: check_rows(key, measure, (footer_rows or {}).get(month))}
        if file:
            findings[month] |= {
                COLUMNS_AS_AGREED: check_columns(month, file.columns, _left_out(file)),
                PICKUPS_IN_MONTH: check_pickups(key, measure, outside),
                VOLUME_AS_EXPECTED: check_volume(month, rows),
            }
    return findings


def _left_out(file: LoadedFile) -> list[str]:
    found = file.drift.get("left_out")
    return list(found) if isinstance(found, Mapping) else []


def evaluations(
    instance: DagsterInstance, specs: Sequence[AssetCheckSpec], findings: Findings
) -> Iterator[AssetCheckEvaluation]:
    """The findings as Dagster records them: one evaluation a check and month, of the month's last materialization."""
    keys = [partition_key(month) for month in findings]
    latest = latest_materializations(instance, specs[0].asset_key, keys) if specs else {}
    for month, of_month in findings.items():
        for spec in specs:
            if spec.name in of_month:
                yield evaluation_of(spec, of_month[spec.name], partition_key(month), latest.get(partition_key(month)))
