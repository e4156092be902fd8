"""The status of each month at the TLC, in the warehouse and in Dagster's record, and the next step of the user.

Only functions that read Dagster's record import Dagster, which takes seconds; `taxi status` caches the records
(record_cache.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypeGuard

from taxi_orchestration.instance.dagster_names import data_version, is_about
from taxi_orchestration.months import (
    Window,
    add_months,
    newest_month,
    parse_partition_key,
    partition_key,
)
from taxi_orchestration.quality.coverage import check_coverage
from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.quality.freshness import check_freshness
from taxi_orchestration.tlc.client import Publication, is_same_version
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.warehouse.load_log import LoadedFile, loaded_files
from taxi_orchestration.warehouse.measures import count_by_month, months_in_raw_trips
from taxi_orchestration.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from dagster import AssetCheckEvaluation, DagsterInstance, EventLogRecord

    from taxi_orchestration.asset_keys import AssetKeys

State = Literal["missing", "failed", "unfinished", "completed"]


@dataclass(frozen=True)
class Checks:
    """The checks of the runs that loaded and built a month: their number, and the names of those that fail or warn."""

    total: int = 0
    failed: Sequence[str] = ()
    warned: Sequence[str] = ()

    @property
    def passed(self) -> int:
        """Return the number of checks that pass."""
        return self.total - len(self.failed) - len(self.warned)


@dataclass(frozen=True)
class MonthRecord:
    """Dagster's record of a month: the sha256 of the loaded rows and of the rows it was built from, and its checks."""

    has_failed: bool = False
    loaded_rows: str | None = None
    built_rows: str | None = None
    checks: Checks = field(default_factory=Checks)


@dataclass(frozen=True)
class Records:
    """Dagster's record of some months, and all months that it has recorded as materialized."""

    of_month: Mapping[date, MonthRecord]
    materialized: AbstractSet[date]


@dataclass(frozen=True)
class MonthStatus:
    """One month: its file, its rows in every table, its checks and its state.

    `missing`: never loaded. `failed`: the last attempt failed. `unfinished`: loaded, but not recorded in Dagster, not
    built from these rows, or with a wrong row count in a table. `completed`: none of these.
    """

    month: date
    state: State
    file: LoadedFile | None = None
    raw_rows: int = 0
    fact_rows: int = 0
    rejected_rows: int = 0
    checks: Checks = field(default_factory=Checks)
    run_id: str | None = None

    @property
    def is_exact(self) -> bool:
        """Return whether raw_trips has all rows of the file, and facts and rejected trips together all of raw_trips."""
        return (
            self.file is not None
            and self.file.rows == self.raw_rows
            and self.raw_rows == self.fact_rows + self.rejected_rows
        )


def known_window(warehouse: Warehouse, now: datetime, first: date = DATASET.first_month) -> Window:
    """Return the months from the oldest loaded one, or the last six, to the newest that can be published."""
    newest = newest_month(now)
    oldest = min(loaded_files(warehouse), default=add_months(newest, -5))
    return Window.through(max(oldest, first), newest)


def is_published(answer: Publication | TlcError) -> TypeGuard[Publication]:
    """Return whether the host answered that the month is published."""
    return isinstance(answer, Publication) and answer.published


def is_changed(file: LoadedFile | None, publication: Publication | TlcError) -> bool:
    """Return whether the TLC has re-issued the month since it was loaded."""
    return bool(
        file
        and is_published(publication)
        and not is_same_version(publication, file.etag, file.last_modified, file.bytes)
    )


def to_do(status: MonthStatus, publication: Publication | TlcError) -> str:
    """Return what the user has to do about a month; empty for most."""
    month = partition_key(status.month)
    if status.file is None and isinstance(publication, Publication) and not publication.published:
        return ""
    if status.state == "failed" and isinstance(publication, Publication) and not publication.published:
        return "failed: no longer published, the loaded rows are kept"
    if status.state in ("failed", "unfinished"):
        fails = f" once these checks pass: {', '.join(status.checks.failed)}" if status.checks.failed else ""
        return f"{status.state}: taxi backfill {month}{fails}"
    if status.state == "missing":
        return "published: taxi backfill --missing" if is_published(publication) else ""
    if status.checks.failed:
        return f"fails: {', '.join(status.checks.failed)}"
    return "re-issued: taxi backfill --changed" if is_changed(status.file, publication) else ""


def check_all_months(
    warehouse: Warehouse,
    records: Records,
    published: Mapping[date, Publication | TlcError],
    now: datetime,
    first_month: date,
) -> tuple[Finding, Finding]:
    """Evaluate the checks of all months together: coverage and freshness."""
    loaded = months_in_raw_trips(warehouse)
    out = {month for month, publication in published.items() if is_published(publication)}
    after = [answer for month, answer in published.items() if month > max(loaded, default=first_month)]
    error = next((str(answer) for answer in after if isinstance(answer, TlcError)), "")
    # The publication time does not matter here: the grid shows that the month is not loaded.
    since: Mapping[date, datetime | None] = dict.fromkeys(out, now)
    return (
        check_coverage(loaded, records.materialized, out, first_month),
        check_freshness(now, since, loaded, error=error),
    )


def read_records(instance: DagsterInstance, assets: AssetKeys, months: Sequence[date]) -> Records:
    """Read Dagster's record of a student's assets: of these months, and of all others whose last load failed."""
    from dagster import AssetPartitionStatus

    from taxi_orchestration.instance.builds import latest_materializations, rows_built_from
    from taxi_orchestration.instance.partitions import monthly_partitions

    everything, requested = monthly_partitions(), set(map(partition_key, months))
    every_key = sorted(requested.union(everything.get_partition_keys()))
    attempts = instance.get_status_by_partition(assets.raw_trips, every_key, everything) or {}
    failed = {key for key, status in attempts.items() if status == AssetPartitionStatus.FAILED}
    keys = sorted(requested | failed)
    months = list(map(parse_partition_key, keys))
    loads = latest_materializations(instance, assets.raw_trips, keys)
    builds = latest_materializations(instance, assets.fct_trips, keys)
    built_from = rows_built_from(instance, assets, months)
    checks = _checks_of(instance, keys, loads, builds)
    records = {}
    for month, key in zip(months, keys, strict=True):
        load = loads.get(key)
        records[month] = MonthRecord(
            has_failed=key in failed,
            loaded_rows=data_version(load.event_log_entry) if load else None,
            built_rows=built_from.get(month),
            checks=checks[key],
        )
    materialized = {parse_partition_key(key) for key in instance.get_materialized_partitions(assets.raw_trips)}
    return Records(records, materialized)


def compare_months(warehouse: Warehouse, records: Records, window: Window) -> dict[date, MonthStatus]:
    """Return the status of every month of the window, from Dagster's record and the present warehouse."""
    files = loaded_files(warehouse)
    counts = {
        table: count_by_month(warehouse, table, window.start, window.end)
        for table in ("raw_trips", "fct_trips", "rejected_trips")
    }
    statuses = {}
    for month in window.months:
        file, record = files.get(month), records.of_month[month]
        raw, fact, rejected = (counts[table].get(month, 0) for table in counts)
        # By the rows' digest, not by times: a load can commit while dbt builds from the rows before.
        is_known = bool(file and record.loaded_rows == file.rows_sha256)
        is_built = bool(file and record.built_rows == file.rows_sha256)
        status = MonthStatus(
            month=month,
            state="completed",
            file=file,
            raw_rows=raw,
            fact_rows=fact,
            rejected_rows=rejected,
            checks=record.checks,
            run_id=file.dagster_run_id if file else None,
        )
        if record.has_failed:
            status = replace(status, state="failed")
        elif file is None:
            status = replace(status, state="missing")
        elif not (is_known and is_built and status.is_exact):
            status = replace(status, state="unfinished")
        statuses[month] = status
    return statuses


def count_checks(instance: DagsterInstance, assets: AssetKeys, months: Sequence[date]) -> dict[date, tuple[int, int]]:
    """Return the number of checks and of passing checks of each of these months that was loaded or built."""
    from taxi_orchestration.instance.builds import latest_materializations

    keys = [partition_key(month) for month in months]
    loads, builds = (latest_materializations(instance, key, keys) for key in (assets.raw_trips, assets.fct_trips))
    checks = _checks_of(instance, [key for key in keys if key in loads or key in builds], loads, builds)
    return {parse_partition_key(key): (of_month.total, of_month.passed) for key, of_month in checks.items()}


def _checks_of(
    instance: DagsterInstance,
    keys: Sequence[str],
    loads: Mapping[str, EventLogRecord],
    builds: Mapping[str, EventLogRecord],
) -> dict[str, Checks]:
    runs_of = {key: _run_ids(loads.get(key), builds.get(key)) for key in keys}
    by_run = {run_id: _read_checks(instance, run_id) for run_id in set(chain(*runs_of.values()))}
    return {key: _summarize_checks(chain(*(by_run[run_id] for run_id in runs)), key) for key, runs in runs_of.items()}


def _run_ids(*records: EventLogRecord | None) -> list[str]:
    """Return the distinct runs of these records."""
    return list(dict.fromkeys(record.run_id for record in records if record))


def _read_checks(instance: DagsterInstance, run_id: str) -> list[AssetCheckEvaluation]:
    """Return the last evaluation of each check of a run, without the check of all months: a retried step has two."""
    from dagster import DagsterEventType

    from taxi_orchestration.asset_keys import AssetKeys

    entries = instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations = [entry.get_dagster_event().asset_check_evaluation_data for entry in entries]
    last = {(evaluation.asset_check_key, evaluation.partition): evaluation for evaluation in evaluations}
    return [evaluation for evaluation in last.values() if evaluation.check_name != AssetKeys().coverage_check.name]


def _summarize_checks(evaluations: Iterable[AssetCheckEvaluation], key: str) -> Checks:
    """Return the checks of a month: by partition, or of the whole run, whose failures name their months."""
    from dagster import AssetCheckSeverity

    of_month = [evaluation for evaluation in evaluations if evaluation.partition in (None, key)]
    failing = [evaluation for evaluation in of_month if not evaluation.passed and is_about(evaluation, key)]
    return Checks(
        total=len(of_month),
        failed=[e.check_name for e in failing if e.severity is not AssetCheckSeverity.WARN],
        warned=[e.check_name for e in failing if e.severity is AssetCheckSeverity.WARN],
    )
