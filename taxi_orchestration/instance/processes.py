"""Which process executes a run, and the end of runs whose process is gone. What a run does belongs elsewhere.

A process that is killed, or a machine that is switched off, tells Dagster nothing: its run would stay "started" for
ever and keep the slot that the next one waits for.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import psutil
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.run_tags import is_of
from taxi_orchestration.postgres.postmaster import has_ended

# The UI hides tags that begin with .dagster/, and no others.
PROCESS_TAG = ".dagster/taxi_process"

# The start of a process is told twice: by the wall clock, which may be set while it runs, and by the time since the
# machine began, which begins anew with it. Another process has both otherwise.
_CLOCK_SECONDS = 10
_UPTIME_SECONDS = 1

_EXECUTING = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class RunProcess:
    """The process that executes the run, or the backfill, of an id: what its tag says, as JSON.

    The id stands there too: a retried run takes over the tags of the one before. So does the start: process ids are
    used again.
    """

    id: str
    host: str
    pid: int
    started: float
    uptime: float

    def tags(self) -> dict[str, str]:
        """The tag that says so."""
        return {PROCESS_TAG: json.dumps(asdict(self))}


def this_process(id_: str) -> RunProcess:
    """This process, as the one that executes the run, or the backfill, of this id."""
    started = psutil.Process().create_time()
    return RunProcess(id_, socket.gethostname(), os.getpid(), started, started - psutil.boot_time())


def is_orphaned(run: DagsterRun) -> bool:
    """Whether the process that executes the run is gone; False where that cannot be known from this machine."""
    return is_process_gone(run.run_id, run.tags)


def is_process_gone(id_: str, tags: Mapping[str, str]) -> bool:
    """Whether the process that these tags of a run or a backfill name is gone; False where that cannot be known."""
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
    """The id of the process that executes the run; None where it is gone, or not of this machine."""
    named = _process_of(run.run_id, run.tags)
    return named.pid if named and not is_orphaned(run) else None


def _process_of(id_: str, tags: Mapping[str, str]) -> RunProcess | None:
    """The process of this machine that the tag names, where it is of this id."""
    try:
        named = RunProcess(**json.loads(tags[PROCESS_TAG]))
    except (KeyError, ValueError, TypeError):
        return None
    return named if (named.id, named.host) == (id_, socket.gethostname()) else None


def fail_orphaned_runs(instance: DagsterInstance, assets: AssetKeys) -> list[str]:
    """Mark a student's runs whose process is gone as failed, so that they hold no slot and can be retried.

    Returns their ids.
    """
    executing = instance.get_runs(RunsFilter(statuses=_EXECUTING))
    orphaned = [run for run in executing if is_of(run, assets) and is_orphaned(run)]
    for run in orphaned:
        instance.report_run_failed(run, "The process of this run was killed, or its machine was switched off.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in orphaned]
