"""What is so, month by month: in the warehouse, and in Dagster's record. What is to be done about it is decided elsewhere."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from dagster import (
    AssetKey,
    AssetPartitionStatus,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    EventLogRecord,
)

from taxi_orchestration.assets.raw_trips import RAW_TRIPS
from taxi_orchestration.partitions import (
    Window,
    add_months,
    key_of,
    last_complete_month,
    monthly_partitions,
    next_month,
)
from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.tlc.client import TlcClient
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.warehouse.months import LoadedFile, count_by_month, loaded_files

FCT_TRIPS = AssetKey("fct_trips")
REJECTED_TRIPS = AssetKey("rejected_trips")

State = Literal["missing", "failed", "unfinished", "completed"]

_PAGE = 500
_REQUESTS_AT_ONCE = 8


@dataclass(frozen=True)
class Checks:
    """The checks of the dbt run that built a month: how many there were, and those that do not hold for it, by name."""

    total: int = 0
    failed: Sequence[str] = ()
    warned: Sequence[str] = ()

    @property
    def passed(self) -> int:
        """How many hold."""
        return self.total - len(self.failed) - len(self.warned)


@dataclass(frozen=True)
class MonthStatus:
    """One month: its file, its rows in every table, its checks, and where it stands.

    `missing`: nobody has loaded it. `failed`: the last attempt did. `unfinished`: loaded, but the models were not built
    from that load. `completed`: loaded, and built from that load.
    """

    month: date
    state: State
    file: LoadedFile | None = None
    raw_rows: int = 0
    fact_rows: int = 0
    rejected_rows: int = 0
    checks: Checks = field(default_factory=Checks)
    run_id: str | None = None
    built_at: datetime | None = None

    @property
    def is_exact(self) -> bool:
        """Whether raw_trips is the whole file, and facts and rejected trips are all of raw_trips."""
        return (
            self.file is not None
            and self.file.rows == self.raw_rows
            and self.raw_rows == self.fact_rows + self.rejected_rows
        )

    @property
    def is_well(self) -> bool:
        """Whether nobody has to do anything about the month; one that nobody asked for is well."""
        return self.state == "missing" or (self.state == "completed" and self.is_exact and not self.checks.failed)


def known_window(target: PostgresTarget, schema: str) -> Window:
    """The months worth a look: from the oldest loaded one to the newest that is over; half a year where none is loaded."""
    newest = last_complete_month()
    oldest = min(loaded_files(target, schema), default=add_months(newest, -5))
    return Window(oldest, next_month(newest))


def publications(base_url: str, months: Sequence[date]) -> dict[date, bool | None]:
    """Whether the TLC has these months; None where its host does not answer."""

    def is_published(month: date) -> bool | None:
        try:
            return client.publication(month).published
        except TlcError:
            return None

    with TlcClient(base_url, attempts=1) as client, ThreadPoolExecutor(_REQUESTS_AT_ONCE) as executor:
        return dict(zip(months, executor.map(is_published, months), strict=True))


def month_statuses(
    target: PostgresTarget, schema: str, instance: DagsterInstance, window: Window
) -> dict[date, MonthStatus]:
    """Where every month of the window stands. Reads the warehouse and Dagster's storage, and nothing else."""
    files = loaded_files(target, schema)
    counts = {
        table: count_by_month(target, schema, table, window.start, window.end)
        for table in ("raw_trips", "fct_trips", "rejected_trips")
    }
    keys = [key_of(month) for month in window.months]
    attempts = instance.get_status_by_partition(RAW_TRIPS, keys, monthly_partitions) or {}
    loads = _latest(instance, RAW_TRIPS, keys)
    builds = _latest(instance, FCT_TRIPS, keys)
    checks_of_run = {run_id: _checks(instance, run_id) for run_id in {build.run_id for build in builds.values()}}

    statuses = {}
    for month in window.months:
        key = key_of(month)
        load, build = loads.get(key), builds.get(key)
        file = files.get(month)
        failed = attempts.get(key) == AssetPartitionStatus.FAILED
        raw, fact, rejected = (counts[table].get(month, 0) for table in counts)
        # Dagster numbers its events in the order in which they came: no clock has to be trusted.
        is_built = bool(load and build and build.storage_id > load.storage_id and raw == fact + rejected)
        state: State = "completed"
        if failed:
            state = "failed"
        elif file is None:
            state = "missing"
        elif not is_built:
            state = "unfinished"
        statuses[month] = MonthStatus(
            month=month,
            state=state,
            file=file,
            raw_rows=raw,
            fact_rows=fact,
            rejected_rows=rejected,
            checks=_of_month(checks_of_run[build.run_id], key) if build else Checks(),
            run_id=file.dagster_run_id if file else None,
            built_at=datetime.fromtimestamp(build.timestamp).astimezone() if build else None,
        )
    return statuses


def _latest(instance: DagsterInstance, asset: AssetKey, keys: Sequence[str]) -> dict[str, EventLogRecord]:
    """The newest materialization of each of these partitions of an asset."""
    latest: dict[str, EventLogRecord] = {}
    cursor = None
    while True:
        page = instance.fetch_materializations(AssetRecordsFilter(asset, asset_partitions=keys), _PAGE, cursor)
        for record in page.records:
            if record.partition_key is not None:
                latest.setdefault(record.partition_key, record)
        if not page.has_more or len(latest) == len(keys):
            return latest
        cursor = page.cursor


def _checks(instance: DagsterInstance, run_id: str) -> list[tuple[str, bool, bool, str]]:
    """Each check of a run: its name, whether it passed, whether it only warns, and the months that it named."""
    checks = []
    for entry in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
        evaluation = entry.get_dagster_event().asset_check_evaluation_data
        months = evaluation.metadata.get("months")
        checks.append(
            (
                evaluation.check_name,
                evaluation.passed,
                evaluation.severity.name == "WARN",
                str(months.value) if months else "",
            )
        )
    return checks


def _of_month(checks: Sequence[tuple[str, bool, bool, str]], key: str) -> Checks:
    failing = [
        (name, warns) for name, passed, warns, months in checks if not passed and (key in months or "-" not in months)
    ]
    return Checks(
        total=len(checks),
        failed=[name for name, warns in failing if not warns],
        warned=[name for name, warns in failing if warns],
    )
