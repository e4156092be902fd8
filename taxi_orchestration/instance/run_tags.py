"""What the tags of runs say: whose they are, of which months, and how often a file was asked for by itself."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.months import Window, next_month, parse_partition_key, partition_key
from taxi_orchestration.settings import DEFAULT_SCHEMA, student_of

# The sensor that asks again for a file that could not be loaded.
TLC_PUBLICATIONS = "tlc_publications"

# The schema that a run writes into, for people and filters. A run of the version before has none.
SCHEMA = "taxi/schema"

# The UI hides tags that begin with .dagster/, and no others.
ASKED_BY = ".dagster/taxi_asked_by"
ASKED_AT = ".dagster/taxi_asked_at"
FILE_VERSION = ".dagster/taxi_file_version"

# The list of runs shows no tag of Dagster's own, so that a range would be of nothing.
MONTHS = "months"

MAX_ATTEMPTS = 5
# After the first attempt an hour, then 4, 16 and 64: the fifth is made three and a half days after the first.
FIRST_PAUSE = timedelta(hours=1)
PAUSE_GROWTH = 4

# Runs that are looked at for earlier attempts: more than two years of them.
RECENT_RUNS = 200

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Attempts:
    """How often the same file of a month was asked for, and when last."""

    made: int
    last: datetime

    @property
    def next(self) -> datetime | None:
        """When the next one may be made; None where it takes a person."""
        return None if self.made >= MAX_ATTEMPTS else self.last + FIRST_PAUSE * PAUSE_GROWTH ** (self.made - 1)


def is_of(run: dg.DagsterRun, assets: AssetKeys) -> bool:
    """Whether a run is of this student: by the assets that were chosen, which Dagster's own runs say before they begin.

    A run of a whole job says it by the tag of the job.
    """
    chosen = [*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())]
    if chosen:
        return any(map(assets.has, chosen))
    return student_of(run.tags.get(SCHEMA, DEFAULT_SCHEMA)) == assets.student


def asks_for(instigator: str, assets: AssetKeys) -> str:
    """The value of the tag ASKED_BY: the sensor or schedule, behind the name of the student whose it is."""
    return f"{assets.student}/{instigator}" if assets.student else instigator


def file_of_run(run: dg.DagsterRun) -> tuple[str, str]:
    """The partition key and the version of the file that a run was requested for."""
    return run.tags.get("dagster/partition", ""), run.tags.get(FILE_VERSION, "")


def attempts_by(instance: dg.DagsterInstance, asked_by: str) -> dict[tuple[str, str], Attempts]:
    """The attempts that were made so far, by partition key and version of the file."""
    attempts: dict[tuple[str, str], Attempts] = {}
    for run in instance.get_runs(dg.RunsFilter(tags={ASKED_BY: asked_by}), limit=RECENT_RUNS):
        file = file_of_run(run)
        asked_at = datetime.fromisoformat(run.tags[ASKED_AT])
        before = attempts.get(file, Attempts(0, asked_at))
        attempts[file] = Attempts(before.made + 1, max(before.last, asked_at))
    return attempts


def keys_in_progress(instance: dg.DagsterInstance, assets: AssetKeys, keys: Iterable[str]) -> set[str]:
    """Which of these partitions a run of the student's has that waits or goes on, whoever started it."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
    return set(keys) & {month for run in runs if is_of(run, assets) for month in months_of_run(run)}


def tags_of_months(window: Window) -> dict[str, str]:
    """The tags of a run for these months: Dagster's own, and the one that a person sees."""
    first, last = partition_key(window.start), partition_key(window.months[-1])
    if first == last:
        # Which the pages show.
        return {"dagster/partition": first}
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
        MONTHS: str(window),
    }


def months_of_run(run: dg.DagsterRun) -> list[str]:
    """The partition keys of a run, by its tags."""
    first, last = run.tags.get("dagster/asset_partition_range_start"), run.tags.get("dagster/asset_partition_range_end")
    if first and last:
        return [
            partition_key(month)
            for month in Window(parse_partition_key(first), next_month(parse_partition_key(last))).months
        ]
    return [run.tags["dagster/partition"]] if "dagster/partition" in run.tags else []


def named_months(run: dg.DagsterRun) -> dict[str, str]:
    """The tag that names the months of a run over several; a run of one has Dagster's own, which its page shows."""
    months = months_of_run(run)
    return {MONTHS: f"{months[0]} to {months[-1]}"} if len(months) > 1 else {}
