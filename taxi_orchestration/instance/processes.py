"""Which process executes a run, and the end of runs whose process is gone. What a run does belongs elsewhere.

Dagster does not learn of a killed process or a machine that is switched off: the run would stay "started" forever and
keep its slot.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import psutil
from dagster import DagsterInstance, DagsterRun, RunsFilter

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.run_tags import EXECUTING, is_of
from taxi_orchestration.postgres.postmaster import has_ended

# The UI hides tags that begin with .dagster/, and no others.
PROCESS_TAG = ".dagster/taxi_process"

# The start of a process is recorded by the wall clock, which may be set, and by uptime, which restarts with the
# machine. Another process of the same id differs in both.
_CLOCK_SECONDS = 10
_UPTIME_SECONDS = 1


@dataclass(frozen=True)
class RunProcess:
    """The process that executes a run or backfill; the JSON of its tag.

    It holds the id of the run, because a retried run inherits tags, and the start, because process ids are reused.
    `started` is in seconds since the epoch, `uptime` in seconds since the start of the machine.
    """

    id: str
    host: str
    pid: int
    started: float
    uptime: float

    def tags(self) -> dict[str, str]:
        """Return the tag that records the process."""
        return {PROCESS_TAG: json.dumps(asdict(self))}


def this_process(id_: str) -> RunProcess:
    """Return this process as the executor of the run or backfill of this id."""
    started = psutil.Process().create_time()
    return RunProcess(id_, socket.gethostname(), os.getpid(), started, started - psutil.boot_time())


def is_orphaned(run: DagsterRun) -> bool:
    """Return whether the process that executes the run is gone; False where this machine cannot know."""
    return is_process_gone(run.run_id, run.tags)


def is_process_gone(id_: str, tags: Mapping[str, str]) -> bool:
    """Return whether the process that these tags of a run or backfill name is gone; False where that is unknown."""
    named = _process_of(id_, tags)
    if named is None:
        return False
    try:
        created = psutil.Process(named.pid).create_time()
    except psutil.NoSuchProcess:
        return True
    is_another = (
        abs(created - named.started) > _CLOCK_SECONDS
        and abs(created - psutil.boot_time() - named.uptime) > _UPTIME_SECONDS
    )
    return is_another or has_ended(named.pid)


def living_process(run: DagsterRun) -> int | None:
    """Return the id of the process that executes the run; None where it is gone or on another machine."""
    named = _process_of(run.run_id, run.tags)
    return named.pid if named and not is_orphaned(run) else None


def _process_of(id_: str, tags: Mapping[str, str]) -> RunProcess | None:
    """Return the process that the tag names, if it belongs to this id and this machine."""
    try:
        named = RunProcess(**json.loads(tags[PROCESS_TAG]))
    except (KeyError, ValueError, TypeError):
        return None
    return named if (named.id, named.host) == (id_, socket.gethostname()) else None


def fail_orphaned_runs(instance: DagsterInstance, assets: AssetKeys) -> list[str]:
    """Mark a student's runs whose process is gone as failed, so that they hold no slot and can be retried.

    Returns their ids.
    """
    executing = instance.get_runs(RunsFilter(statuses=EXECUTING))
    orphaned = [run for run in executing if is_of(run, assets) and is_orphaned(run)]
    for run in orphaned:
        instance.report_run_failed(run, "The process of this run was killed, or its machine was switched off.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in orphaned]
