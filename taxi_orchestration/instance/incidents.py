"""Present incidents according to Dagster's record, and their difference to reported ones. Messages: defs/alerts.py.

An incident belongs to one step, check, sensor or schedule, for one month or for none. It is:
- a step whose last attempt at a month (or at an asset without months) failed: the run failed, and did not make an asset
  or a monthly check that it had planned. In an orphaned run the first step without a result failed. A later success of
  any run resolves the incident. Unevaluated dbt tests do not count, as their tables do;
- a check of error level whose last evaluation for a month failed; for a check of all months, or of an asset without
  months, the last evaluation counts;
- a sensor or schedule that is on and whose last tick failed.

Warnings, canceled runs and months that were never built are no incidents.

Unsettled incidents are neither reported nor resolved: a month that a run in progress covers, a failed run that Dagster
retries, a file that tlc_publications requests again, a step that the last run did not reach.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.dagster_internals import AssetCheckExecutionRecordStatus
from taxi_orchestration.instance.dagster_names import CHECKED_MONTHS, TO_DO, checked_months
from taxi_orchestration.instance.run_tags import (
    TLC_PUBLICATIONS,
    attempts_by,
    file_of_run,
    months_of_run,
    requester_tag,
)

ALERTS = "alerts"
# The prefix of the keys of sensor and schedule incidents.
INSTIGATORS = ("sensor ", "schedule ")

# Dagster's tag of a failed run, which may be retried until the tag is written.
WILL_RETRY = "dagster/will_retry"
EXECUTIONS_AT_ONCE = 500

_Status = AssetCheckExecutionRecordStatus
_EVALUATED = {_Status.SUCCEEDED, _Status.FAILED}


@dataclass(frozen=True)
class Incident:
    """A failed step, check, sensor or schedule: its month, reason, next step and page of the UI.

    `about` names the months of an incident of all months. An incident that is not settled may still resolve itself.
    """

    what: str
    month: str = ""
    reason: str = ""
    to_do: str = ""
    page: str = ""
    about: str = ""
    is_settled: bool = True

    @property
    def key(self) -> str:
        """Return the key that identifies the incident while it lasts."""
        return f"{self.what}|{self.month}"


def difference(reported: Collection[str], incidents: Sequence[Incident]) -> tuple[list[Incident], list[Incident]]:
    """Return the new incidents, and the `reported` keys that are resolved."""
    new = {i.key: i for i in incidents if i.is_settled and i.key not in reported}
    resolved = sorted(set(reported) - {incident.key for incident in incidents})
    return list(new.values()), [from_key(key) for key in resolved]


def from_key(key: str) -> Incident:
    """Return the incident that a key identifies, without reason and page."""
    what, _, month = key.partition("|")
    return Incident(what, month)


def current_incidents(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition | None, assets: AssetKeys
) -> list[Incident]:
    """Read the present incidents of all assets and checks of the student's repository."""
    record = _Record(instance, repository.asset_graph if repository else None, assets)
    months = record.graph.get(assets.raw_trips).partitions_def
    incidents = [*_failed_steps(record), *_failed_checks(record)]
    # No run resolves a month before TAXI_FIRST_MONTH.
    return [incident for incident in incidents if not incident.month or months.has_partition_key(incident.month)]


def failed_instigators(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition | None, location_name: str
) -> Iterator[Incident]:
    """Read the failing sensors and schedules of a code location, whose ticks are not in the event log.

    Dagster keeps the last ticks of those that the code no longer has.
    """
    existing: set[str] = set()
    if repository:
        sensors, schedules = repository.sensor_defs, repository.schedule_defs
        existing = {sensor.name for sensor in sensors} | {schedule.name for schedule in schedules}
    for state in instance.all_instigator_state():
        of, name = state.origin.repository_origin.code_location_origin, state.instigator_name
        if state.status.name == "STOPPED" or name == ALERTS or of.location_name != location_name:
            continue
        if name not in existing:
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
        tick = next((tick for tick in ticks if tick.status.name in ("FAILURE", "SUCCESS", "SKIPPED")), None)
        if tick and tick.status.name == "FAILURE":
            yield Incident(
                f"{state.instigator_type.value.lower()} {state.instigator_name}",
                reason=_message_of(tick.error),
                to_do="Open its ticks under Automation in the UI. The next tick tries again.",
                page="automation",
            )


@dataclass(frozen=True)
class _Record:
    """Dagster's record during one tick, with each run read once."""

    instance: dg.DagsterInstance
    graph: Any
    assets: AssetKeys
    runs: dict[str, dg.DagsterRun] = field(default_factory=dict)

    def read_runs(self, run_ids: Collection[str]) -> None:
        """Read these runs, except those already read, in one query; deleted runs stay unknown."""
        if missing := sorted(set(run_ids) - self.runs.keys()):
            found = self.instance.get_runs(dg.RunsFilter(run_ids=missing))
            self.runs.update({run.run_id: run for run in found})

    def history(self, key: dg.AssetCheckKey, limit: int = EXECUTIONS_AT_ONCE, **which: Any) -> Sequence[Any]:
        """Return the executions of a check, newest first."""
        return self.instance.event_log_storage.get_asset_check_execution_history(key, limit, **which)

    def months_of(self, execution: Any) -> set[str] | None:
        """Return the months of a check's execution: its partition, else those of its run; None for all months.

        The execution of a deleted run is of no known month.
        """
        if execution.partition:
            return {execution.partition}
        run = self.runs.get(execution.run_id)
        return set(months_of_run(run)) or None if run else set()

    def failed_months(self, execution: Any) -> set[str]:
        """Return the months that an execution found to fail; "" if it checked all months and names none."""
        if not _is_error(execution):
            return set()
        months, named = self.months_of(execution), checked_months(execution.evaluation)
        if months is None:
            return named or {""}
        return months & named if named else months

    def is_retried(self, run: dg.DagsterRun) -> bool:
        """Return whether Dagster retries a failed run, or has not decided yet."""
        return self.instance.run_retries_enabled and run.tags.get(WILL_RETRY, "true") == "true"


def _failed_steps(record: _Record) -> Iterator[Incident]:
    attempts = _open_attempts(record)
    record.read_runs({run_id for _, _, run_id in attempts})
    # In reverse order of the graph, so that the first step stays.
    first_steps = {run_id: step for step, _, run_id in reversed(attempts)}
    failures = {
        run_id: _failures_of(record.instance, run)
        for run_id, run in record.runs.items()
        if run.status is dg.DagsterRunStatus.FAILURE and not record.is_retried(run)
    }
    requested = attempts_by(record.instance, requester_tag(TLC_PUBLICATIONS, record.assets)) if failures else {}
    for (step, month, run_id), asset in attempts.items():
        run = record.runs.get(run_id)
        # A successful run skipped the asset, because the rows were unchanged.
        if run is None or run.status is dg.DagsterRunStatus.SUCCESS:
            continue
        # A failed step fails the steps after it; without one, the run ended in the first step without a result.
        failed = failures.get(run_id, {})
        reasons = failed.get(step) or (failed.get("") if len(failed) == 1 and first_steps[run_id] == step else None)
        requests = requested.get(file_of_run(run)) if asset == record.assets.raw_trips else None
        if reasons is None or (requests and requests.next):
            yield Incident(step, month, is_settled=False)
        else:
            yield Incident(step, month, reasons.get(month, reasons[""]), page=f"runs/{run_id}")


def _open_attempts(record: _Record) -> dict[tuple[str, str, str], dg.AssetKey | None]:
    """Return the last attempts (step, month, run) that planned an asset or a monthly check and did not make it."""
    storage, attempts = record.instance.event_log_storage, dict[tuple[str, str, str], dg.AssetKey | None]()
    for asset in record.graph.toposorted_asset_keys:
        node = record.graph.get(asset)
        if not node.is_materializable:
            continue
        step = node.assets_def.op.name
        if node.is_partitioned:
            found = storage.get_latest_asset_partition_materialization_attempts_without_materializations(asset)
            attempts.update({(step, month, run_id): asset for month, (run_id, _) in found.items()})
        elif planned := storage.get_latest_planned_materialization_info(asset):
            made = record.instance.fetch_materializations(asset, limit=1).records
            if not made or made[0].storage_id < planned.storage_id:
                attempts[step, "", planned.run_id] = asset
    steps = {key: assets.op.name for assets in record.graph.assets_defs for key in assets.check_keys}
    monthly = [key for key in steps if record.graph.get(key).partitions_def]
    for info in storage.get_asset_check_partition_info(monthly):
        if info.latest_execution_status is _Status.PLANNED and info.partition_key:
            attempts.setdefault((steps[info.check_key], info.partition_key, info.latest_planned_run_id), None)
    return attempts


def _failures_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, dict[str, str]]:
    """Return why each step of a run failed, by month, or under "" without a month; step "" is the run itself."""
    failures: dict[str, dict[str, str]] = {}
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for entry in instance.all_logs(run.run_id, of_type=kinds):
        event = entry.get_dagster_event()
        if event.is_step_failure:
            failure = event.step_failure_data.user_failure_data
            named = {key: str(value.value) for key, value in failure.metadata.items()} if failure else {}
            reason = (failure.description if failure else None) or _message_of(event.step_failure_data.error)
            failures[str(event.step_key)] = named | {"": reason}
        else:
            failures[""] = {"": f"{run.job_name}: {event.message or 'Its process ended without an error message.'}"}
    return failures


def _failed_checks(record: _Record) -> Iterator[Incident]:
    for key in sorted(record.graph.asset_check_keys, key=str):
        if key in record.assets.checks_of_all_months or not record.graph.get(key.asset_key).is_partitioned:
            for execution in record.history(key, limit=1, status=_EVALUATED):
                # The freshness check warns of a host that does not answer: the month may still be overdue.
                is_unknown = key == record.assets.freshness_check and not execution.evaluation.passed
                if is_unknown or _is_error(execution):
                    yield _check_incident(execution, "")
        else:
            yield from (_check_incident(execution, month) for month, execution in _failing(record, key).items())


def _failing(record: _Record, key: dg.AssetCheckKey) -> dict[str, Any]:
    """Return the months for which a check fails, or failed and runs again, with its last execution for the month."""
    errors = [e for e in record.history(key, status={_Status.FAILED}) if _is_error(e)]
    record.read_runs({execution.run_id for execution in errors})
    failed = {month for e in errors for month in record.failed_months(e)}
    latest: dict[str, Any] = {}
    cursor = None
    while failed - latest.keys() and (page := record.history(key, cursor=cursor)):
        record.read_runs({execution.run_id for execution in page})
        for execution in page:
            run = record.runs.get(execution.run_id)
            # A run that ended before the check is no evidence.
            if execution.status is not _Status.PLANNED or (run and not run.is_finished):
                months = record.months_of(execution)
                for month in failed if months is None else failed & months:
                    latest.setdefault(month, execution)
        cursor = page[-1].id
    return {m: e for m, e in latest.items() if e.status is _Status.PLANNED or m in record.failed_months(e)}


def _is_error(execution: Any) -> bool:
    """Return whether a check failed at error level."""
    return execution.status is _Status.FAILED and execution.evaluation.severity is dg.AssetCheckSeverity.ERROR


def _check_incident(execution: Any, month: str) -> Incident:
    key = execution.key
    what = f"check {key.name} of {key.asset_key.to_user_string()}"
    if not _is_error(execution):
        return Incident(what, month, is_settled=False)
    evaluation = execution.evaluation
    to_do, about = (evaluation.metadata.get(name) for name in (TO_DO, CHECKED_MONTHS))
    return Incident(
        what,
        month,
        evaluation.description or f"{what} does not hold.",
        str(to_do.value) if to_do else "Open the run and see the rows that the check shows.",
        f"runs/{execution.run_id}"
        if month
        else f"assets/{'/'.join(key.asset_key.path)}?view=checks&checkDetail={key.name}",
        str(about.value) if about and not month else "",
    )


def _message_of(error: Any) -> str:
    """Return the message of the innermost cause of a Dagster error."""
    error = error.cause if error and error.cause else error
    return error.message.strip() if error else "No error message was recorded."
