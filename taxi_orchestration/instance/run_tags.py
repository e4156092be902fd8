"""Tags of runs: the student, the months, and the automatic attempts at a file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.dagster_names import PARTITION, RANGE_END, RANGE_START
from taxi_orchestration.months import Window, parse_partition_key, partition_key
from taxi_orchestration.settings import DEFAULT_SCHEMA, student_of

# The sensor that requests a file again after a failed load.
TLC_PUBLICATIONS = "tlc_publications"

# The schema that a run writes into, for filters in the UI where several students share it; the default schema's runs
# have no such tag.
SCHEMA = "taxi/schema"

# The UI hides tags that begin with .dagster/, and no others.
REQUESTED_BY = ".dagster/taxi_requested_by"
REQUESTED_AT = ".dagster/taxi_requested_at"
FILE_VERSION = ".dagster/taxi_file_version"
ATTEMPT = ".dagster/taxi_attempt"

# The list of runs hides Dagster's own tags, so that a range would show no months.
MONTHS = "months"

MAX_ATTEMPTS = 5
# Pauses of 1, 4, 16 and 64 hours: the fifth attempt is three and a half days after the first.
FIRST_PAUSE = timedelta(hours=1)
PAUSE_GROWTH = 4

# The runs that are searched for earlier attempts: more than two years of runs.
RECENT_RUNS = 200

# The states between the queue and the end of a run.
EXECUTING = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Attempts:
    """The number of automatic attempts at one file of a month, and the time of the last."""

    made: int
    last: datetime

    @property
    def next(self) -> datetime | None:
        """Return when the next attempt is due; None if no automatic attempt is left."""
        return None if self.made >= MAX_ATTEMPTS else self.last + FIRST_PAUSE * PAUSE_GROWTH ** (self.made - 1)


def is_of(run: dg.DagsterRun, assets: AssetKeys) -> bool:
    """Return whether a run is of this student, by its selected assets, which are known before it begins.

    A run of a whole job has the tag of the job.
    """
    chosen = [*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())]
    if chosen:
        return any(map(assets.has, chosen))
    return student_of(schema_of(run.tags)) == assets.student


def schema_tag(schema: str) -> dict[str, str]:
    """Return the tag SCHEMA for what writes into a student's schema; no tag for the default schema."""
    return {} if schema == DEFAULT_SCHEMA else {SCHEMA: schema}


def schema_of(tags: Mapping[str, str]) -> str:
    """Return the schema that is written into, from the tags of a run or a job."""
    return tags.get(SCHEMA, DEFAULT_SCHEMA)


def requester_tag(instigator: str, assets: AssetKeys) -> str:
    """Return the value of the tag REQUESTED_BY: the student and the sensor or schedule."""
    return f"{assets.student}/{instigator}" if assets.student else instigator


def file_of_run(run: dg.DagsterRun) -> tuple[str, str]:
    """Return the partition key and the file version that a run was requested for."""
    return run.tags.get(PARTITION, ""), run.tags.get(FILE_VERSION, "")


def attempts_by(instance: dg.DagsterInstance, requested_by: str) -> dict[tuple[str, str], Attempts]:
    """Return the attempts so far, by partition key and file version."""
    runs: dict[tuple[str, str], list[dg.DagsterRun]] = {}
    for run in instance.get_runs(dg.RunsFilter(tags={REQUESTED_BY: requested_by}), limit=RECENT_RUNS):
        runs.setdefault(file_of_run(run), []).append(run)
    return {
        file: Attempts(
            # The highest number, because runs may be deleted, and a re-execution has the tags of its run.
            made=max((int(run.tags[ATTEMPT]) for run in of_file if ATTEMPT in run.tags), default=len(of_file)),
            last=max(datetime.fromisoformat(run.tags[REQUESTED_AT]) for run in of_file),
        )
        for file, of_file in runs.items()
    }


def keys_in_progress(instance: dg.DagsterInstance, assets: AssetKeys, keys: Iterable[str]) -> set[str]:
    """Return which of these partitions a queued or running run of the student covers."""
    runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, *EXECUTING]))
    return set(keys) & {month for run in runs if is_of(run, assets) for month in months_of_run(run)}


def tags_of_months(window: Window) -> dict[str, str]:
    """Return the tags of a run for these months: Dagster's own, and the one that the UI shows."""
    first, last = window.keys
    if first == last:
        # The UI shows this tag.
        return {PARTITION: first}
    return {RANGE_START: first, RANGE_END: last, MONTHS: str(window)}


def months_of_run(run: dg.DagsterRun) -> list[str]:
    """Return the partition keys of a run, from its tags."""
    first, last = run.tags.get(RANGE_START), run.tags.get(RANGE_END)
    if first and last:
        window = Window.through(parse_partition_key(first), parse_partition_key(last))
        return [partition_key(month) for month in window.months]
    return [run.tags[PARTITION]] if PARTITION in run.tags else []


def named_months(run: dg.DagsterRun) -> dict[str, str]:
    """Return the tag that names the months of a run of several; a run of one month has Dagster's own tag."""
    months = months_of_run(run)
    return {MONTHS: f"{months[0]} to {months[-1]}"} if len(months) > 1 else {}
