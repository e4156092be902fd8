"""Runs and backfills that this process executes, recorded like Dagster's own, so that every page of the UI shows them.

The record marks every partition as requested, so that Dagster's daemon launches no run for such a backfill. The daemon
only updates its progress, and cancels it on request in the UI.
"""

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
)
from taxi_orchestration.instance.dagster_names import BACKFILL, LAUNCHED_BY, TAXI_BACKFILL, workspace
from taxi_orchestration.instance.processes import is_process_gone, this_process
from taxi_orchestration.instance.run_tags import MONTHS, schema_of, schema_tag
from taxi_orchestration.months import format_months, partition_key
from taxi_orchestration.settings import student_of

# The repository name of a code location with definitions.
_REPOSITORY = "__repository__"

# Dagster limits the title to a hundred characters.
LONGEST_NAME = 80

# The states in which a killed process leaves its backfill.
_UNFINISHED = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


@dataclass
class RunningBackfill:
    """A backfill in progress. The caller sets whether a run failed, and which months are not published.

    Months that are not published count neither as materialized nor as failed.
    """

    instance: DagsterInstance
    id: str
    has_failures: bool = False
    not_published: set[date] = field(default_factory=set)

    def execute(
        self,
        job: JobDefinition,
        assets: Sequence[AssetKey],
        tags: Mapping[str, str],
        config: Mapping[str, Any],
        on_event: Callable[[DagsterEvent], None],
    ) -> tuple[DagsterRun, list[DagsterEvent]]:
        """Execute the job for these assets as a run of this backfill; return the run and its events.

        `on_event` is called with each event as it happens. A failure of the run raises nothing; an interrupt before its
        first step raises KeyboardInterrupt.
        """
        run_id = str(uuid.uuid4())
        schema = schema_of(job.run_tags)
        (location,) = location_origins_from_config(workspace(student_of(schema)), "workspace.yaml").values()
        run = self.instance.create_run_for_job(
            job,
            run_id=run_id,
            run_config=config,
            tags={
                BACKFILL: self.id,
                LAUNCHED_BY: TAXI_BACKFILL,
                **schema_tag(schema),
                **this_process(run_id).tags(),
                **tags,
            },
            asset_selection=set(assets),
            # Without an origin only the page of all runs shows the run.
            remote_job_origin=RemoteRepositoryOrigin(location, _REPOSITORY).get_job_origin(job.name),
        )
        events = []
        try:
            for event in execute_run_iterator(InMemoryJob(job), run, self.instance):
                events.append(event)
                on_event(event)
        except KeyboardInterrupt:
            begun = self.instance.get_run_by_id(run_id)
            if begun and not begun.is_finished:
                self.instance.report_run_canceled(begun, "Interrupted in the terminal before it began.")
            raise
        return self.instance.get_run_by_id(run_id) or run, events


@contextmanager
def recorded_backfill(
    instance: DagsterInstance, job: JobDefinition, months: Sequence[date]
) -> Iterator[RunningBackfill]:
    """Record a backfill of all assets of the job for these months: in progress during the block, then its result."""
    end_orphaned_backfills(instance, AssetKeys(student_of(schema_of(job.run_tags))))
    running = RunningBackfill(instance, _new_id(months))
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


def _new_id(months: Sequence[date]) -> str:
    """Return an id that names the months: the header of a run shows no months of a range, but its backfill."""
    ends = dict.fromkeys([partition_key(min(months)), partition_key(max(months))])
    # Dagster stores at most 32 characters, and its list of runs shows those before the first hyphen.
    return f"{uuid.uuid4().hex[:8]}-{'-to-'.join(ends)}"


def end_orphaned_backfills(instance: DagsterInstance, assets: AssetKeys) -> None:
    """End the records of a student's orphaned backfills: there may be no daemon that does."""
    for record in instance.get_backfills(BulkActionsFilter(statuses=_UNFINISHED)):
        if any(map(assets.has, record.asset_selection or ())) and is_process_gone(record.backfill_id, record.tags):
            _end(instance, record.backfill_id, BulkActionStatus.COMPLETED_FAILED, set())


def new_record(instance: DagsterInstance, id_: str, job: JobDefinition, months: Sequence[date]) -> PartitionBackfill:
    """Return the record of a backfill that begins now, with every partition requested."""
    keys = [partition_key(month) for month in sorted(months)]
    graph, assets = job.asset_layer.asset_graph, sorted(job.asset_layer.executable_asset_keys)
    definitions = {asset: definition for asset in assets if (definition := graph.get(asset).partitions_def)}
    target = _of_assets({asset: each.subset_with_partition_keys(keys) for asset, each in definitions.items()})
    now, named = time.time(), _format_few(months)
    return PartitionBackfill(
        backfill_id=id_,
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={
            LAUNCHED_BY: TAXI_BACKFILL,
            MONTHS: named,
            **schema_tag(schema_of(job.run_tags)),
            **this_process(id_).tags(),
        },
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
    """Write the result of a backfill into its record: status, materialized and failed partitions."""
    record = instance.get_backfill(id_)
    if record is None or record.asset_backfill_data is None:
        return
    data, left_out = record.asset_backfill_data, set(map(partition_key, not_published))
    made, failed = {}, {}
    for asset, target in data.target_subset.partitions_subsets_by_asset_key.items():
        keys = set(target.get_partition_keys())
        # The daemon has moved earlier materializations into the record.
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
        # Partitions that were never attempted are not failed.
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
