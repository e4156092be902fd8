"""Runs and backfills that this process executes, recorded as Dagster's own are, so that every page of its UI has them.

Dagster's daemon starts no run for such a backfill: by its record everything is requested already. It only follows what
is made, and cancels it where somebody asks for that in the UI.
"""

import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from dagster import AssetKey, DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun, JobDefinition

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.dagster_internals import (
    AssetBackfillData,
    AssetGraphSubset,
    BulkActionsFilter,
    BulkActionStatus,
    InMemoryJob,
    PartitionBackfill,
    PartitionsSubset,
    RemoteRepositoryOrigin,
    TimestampWithTimezone,
    execute_run_iterator,
    location_origins_from_config,
    make_new_backfill_id,
)
from taxi_orchestration.instance.dagster_names import BACKFILL, LAUNCHED_BY, TAXI_BACKFILL, workspace
from taxi_orchestration.instance.processes import is_process_gone, this_process
from taxi_orchestration.instance.run_tags import MONTHS, SCHEMA
from taxi_orchestration.months import format_months, partition_key
from taxi_orchestration.settings import student_of

# The name under which Dagster serves the definitions of a code location.
_REPOSITORY = "__repository__"

# Dagster takes no title of more than a hundred characters.
LONGEST_NAME = 80

# A process that is gone leaves its backfill in one of these.
_UNFINISHED = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


@dataclass
class RunningBackfill:
    """A backfill that goes on. Whoever executes its runs says whether one failed, and which months were not to be had.

    Those are neither made nor failed.
    """

    instance: DagsterInstance
    id: str
    has_failures: bool = False
    not_published: set[date] = field(default_factory=set)

    def execute(
        self, job: JobDefinition, assets: Sequence[AssetKey], tags: Mapping[str, str], config: Mapping[str, Any]
    ) -> tuple[DagsterRun, list[DagsterEvent]]:
        """Execute the job for these assets as a run of this backfill; returns what became of it.

        Raises no error of the run's; KeyboardInterrupt where it comes before the first step.
        """
        run_id = str(uuid.uuid4())
        schema = schema_of(job)
        (location,) = location_origins_from_config(workspace(student_of(schema)), "workspace.yaml").values()
        run = self.instance.create_run_for_job(
            job,
            run_id=run_id,
            run_config=config,
            tags={
                BACKFILL: self.id,
                LAUNCHED_BY: TAXI_BACKFILL,
                SCHEMA: schema,
                **this_process(run_id).tags(),
                **tags,
            },
            asset_selection=set(assets),
            # Without it the run is on no page but that of all runs.
            remote_job_origin=RemoteRepositoryOrigin(location, _REPOSITORY).get_job_origin(job.name),
        )
        try:
            events = list(execute_run_iterator(InMemoryJob(job), run, self.instance))
        except KeyboardInterrupt:
            begun = self.instance.get_run_by_id(run_id)
            if begun and not begun.is_finished:
                self.instance.report_run_canceled(begun, "Interrupted in the terminal before it began.")
            raise
        return self.instance.get_run_by_id(run_id) or run, events


def schema_of(job: JobDefinition) -> str:
    """The schema that the runs of a job write into, which its tags say."""
    return job.run_tags[SCHEMA]


@contextmanager
def recorded_backfill(
    instance: DagsterInstance, job: JobDefinition, months: Sequence[date]
) -> Iterator[RunningBackfill]:
    """Record a backfill of all assets of the job for these months: that it goes on in the block, and how it ended."""
    end_orphaned_backfills(instance, AssetKeys(student_of(schema_of(job))))
    running = RunningBackfill(instance, make_new_backfill_id())
    instance.add_backfill(new_record(instance, running.id, job, months))
    status = BulkActionStatus.COMPLETED_FAILED
    try:
        yield running
        if not running.has_failures:
            status = BulkActionStatus.COMPLETED_SUCCESS
    except KeyboardInterrupt:
        status = BulkActionStatus.CANCELED
        raise
    finally:
        _end(instance, running.id, status, running.not_published)


def end_orphaned_backfills(instance: DagsterInstance, assets: AssetKeys) -> None:
    """End the records of a student's backfills whose process was killed: no daemon may be there to do it."""
    for record in instance.get_backfills(BulkActionsFilter(statuses=_UNFINISHED)):
        if any(map(assets.has, record.asset_selection or ())) and is_process_gone(record.backfill_id, record.tags):
            _end(instance, record.backfill_id, BulkActionStatus.COMPLETED_FAILED, set())


def new_record(instance: DagsterInstance, id_: str, job: JobDefinition, months: Sequence[date]) -> PartitionBackfill:
    """The record of a backfill that begins now; by it everything is requested, so that the daemon requests nothing."""
    keys = [partition_key(month) for month in sorted(months)]
    graph, assets = job.asset_layer.asset_graph, sorted(job.asset_layer.executable_asset_keys)
    definitions = {asset: definition for asset in assets if (definition := graph.get(asset).partitions_def)}
    target = _of_assets({asset: each.subset_with_partition_keys(keys) for asset, each in definitions.items()})
    now, named = time.time(), _format_few(months)
    return PartitionBackfill(
        backfill_id=id_,
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={LAUNCHED_BY: TAXI_BACKFILL, MONTHS: named, SCHEMA: schema_of(job), **this_process(id_).tags()},
        backfill_timestamp=now,
        asset_selection=assets,
        title=f"{TAXI_BACKFILL} {named}",
        asset_backfill_data=AssetBackfillData(
            target_subset=target,
            requested_runs_for_target_roots=True,
            requested_subset=target,
            materialized_subset=_of_assets({}),
            failed_and_downstream_subset=_of_assets({}),
            latest_storage_id=instance.event_log_storage.get_maximum_record_id() or 0,
            backfill_start_time=TimestampWithTimezone(now, "UTC"),
        ),
    )


def _end(instance: DagsterInstance, id_: str, status: BulkActionStatus, not_published: Collection[date]) -> None:
    """Write into the record of a backfill how it ended, and what it made of each asset."""
    record = instance.get_backfill(id_)
    if record is None or record.asset_backfill_data is None:
        return
    data, left_out = record.asset_backfill_data, set(map(partition_key, not_published))
    made, failed = {}, {}
    for asset, target in data.target_subset.partitions_subsets_by_asset_key.items():
        keys = set(target.get_partition_keys())
        # What was made before the last look of the daemon stands in the record.
        latest = instance.event_log_storage.get_latest_storage_id_by_partition(
            asset, DagsterEventType.ASSET_MATERIALIZATION, keys, after_cursor=data.latest_storage_id
        )
        before = data.materialized_subset.partitions_subsets_by_asset_key.get(asset, target.empty_subset())
        made[asset] = before | _subset(target, latest)
        failed[asset] = target - made[asset] - _subset(target, left_out & keys)
    materialized = _of_assets(made)
    is_canceled = status is BulkActionStatus.CANCELED
    ended = data._replace(
        materialized_subset=materialized,
        # What nobody came to is not failed.
        failed_and_downstream_subset=_of_assets({} if is_canceled else failed),
        requested_subset=materialized if is_canceled else materialized | _of_assets(failed),
    )
    instance.update_backfill(
        record._replace(asset_backfill_data=ended, status=status, backfill_end_timestamp=time.time())
    )


def _of_assets(subsets: Mapping[AssetKey, PartitionsSubset]) -> AssetGraphSubset:
    return AssetGraphSubset.create_empty_subset()._replace(partitions_subsets_by_asset_key=subsets)


def _subset(target: PartitionsSubset, keys: Iterable[str]) -> PartitionsSubset:
    return target.empty_subset().with_partition_keys(keys)


def _format_few(months: Sequence[date]) -> str:
    named = format_months(months)
    if len(named) > LONGEST_NAME:
        return f"{len(months)} months from {partition_key(min(months))} to {partition_key(max(months))}"
    return named
