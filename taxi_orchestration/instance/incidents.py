"""What is wrong now, by Dagster's record alone, and how that differs from what was reported. Messages: defs/alerts.py.

An incident is one step, check, sensor or schedule, for one month or for none. It is:
- a step whose last attempt at a month (or at an asset without months) failed. An attempt counts as failed where its run
  failed and an asset, or a monthly check, that the run announced was not made. Of a run whose process is gone the first
  step that made nothing failed. What was loaded or built since, by whatever run, is no incident. Tests of dbt that
  were not evaluated do not count: their tables do;
- a check of error level that failed where it was evaluated last for a month; of a check of all months, and of one of an
  asset without months, the last evaluation counts;
- a sensor or schedule that is on and whose last tick failed.

No incident is a warning, a canceled run, or a month that nobody has built: it may be that nobody was to build it.

What is unsettled is neither reported nor resolved until it is known: a month that a run in progress covers, a failed
run that Dagster retries, a file that tlc_publications asks for again, a step that the last run did not get to.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.dagster_internals import AssetCheckExecutionRecordStatus
from taxi_orchestration.instance.run_tags import TLC_PUBLICATIONS, asks_for, attempts_by, file_of_run, months_of_run

ALERTS = "alerts"
# How the keys of the incidents of failed_instigators begin.
INSTIGATORS = ("sensor ", "schedule ")

# Dagster's own tag of a failed run. Until it is written the run may be retried.
WILL_RETRY = "dagster/will_retry"
EXECUTIONS_AT_ONCE = 500

_Status = AssetCheckExecutionRecordStatus
_EVALUATED = {_Status.SUCCEEDED, _Status.FAILED}
_MONTH = re.compile(r"\b\d{4}-\d{2}\b")


@dataclass(frozen=True)
class Incident:
    """What is wrong (a step, a check, a sensor), for which month, why, what to do, and on which page of the UI it is.

    `about` names the months of an incident of all months. One that is not settled may yet end well.
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
        """What identifies the incident while it lasts."""
        return f"{self.what}|{self.month}"


def difference(reported: Collection[str], incidents: Sequence[Incident]) -> tuple[list[Incident], list[Incident]]:
    """Return the incidents that are new, and those of the `reported` keys that are resolved."""
    new = {i.key: i for i in incidents if i.is_settled and i.key not in reported}
    resolved = sorted(set(reported) - {incident.key for incident in incidents})
    return list(new.values()), [from_key(key) for key in resolved]


def from_key(key: str) -> Incident:
    """Return what a key knows of an incident."""
    what, _, month = key.partition("|")
    return Incident(what, month)


def current_incidents(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition | None, assets: AssetKeys
) -> list[Incident]:
    """Read what is wrong or unsettled now, of all assets and checks of the student's repository."""
    record = _Record(instance, repository.asset_graph if repository else None, assets)
    return [*_failed_steps(record), *_failed_checks(record)]


def failed_instigators(instance: dg.DagsterInstance, location_name: str) -> Iterator[Incident]:
    """Read which sensors and schedules of a code location fail; their ticks are no events."""
    for state in instance.all_instigator_state():
        of = state.origin.repository_origin.code_location_origin
        if state.status.name == "STOPPED" or state.instigator_name == ALERTS or of.location_name != location_name:
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
        tick = next((tick for tick in ticks if tick.status.name in ("FAILURE", "SUCCESS", "SKIPPED")), None)
        if tick and tick.status.name == "FAILURE":
            yield Incident(
                f"{state.instigator_type.value.lower()} {state.instigator_name}",
                reason=_message_of(tick.error),
                to_do="Look at the ticks under Automation in the UI; it is tried again by itself.",
                page="automation",
            )


@dataclass(frozen=True)
class _Record:
    """Dagster's record as of one tick: each run is read once."""

    instance: dg.DagsterInstance
    graph: Any
    assets: AssetKeys
    runs: dict[str, dg.DagsterRun] = field(default_factory=dict)

    def read_runs(self, run_ids: Collection[str]) -> None:
        """Read those of these runs that are not read yet, in one query; a deleted one stays unknown."""
        if missing := sorted(set(run_ids) - self.runs.keys()):
            found = self.instance.get_runs(dg.RunsFilter(run_ids=missing))
            self.runs.update({run.run_id: run for run in found})

    def history(self, key: dg.AssetCheckKey, limit: int = EXECUTIONS_AT_ONCE, **which: Any) -> Sequence[Any]:
        """The executions of a check, newest first."""
        return self.instance.event_log_storage.get_asset_check_execution_history(key, limit, **which)

    def months_of(self, execution: Any) -> set[str]:
        """The months that an execution of a check is of: its own, else all those of its run."""
        run = self.runs.get(execution.run_id)
        return {execution.partition} if execution.partition else set(months_of_run(run) if run else [""])

    def is_retried(self, run: dg.DagsterRun) -> bool:
        """Whether Dagster makes another run of a failed one, or has yet to decide."""
        return self.instance.run_retries_enabled and run.tags.get(WILL_RETRY, "true") == "true"


def _failed_steps(record: _Record) -> Iterator[Incident]:
    attempts = _open_attempts(record)
    record.read_runs({run_id for _, _, run_id in attempts})
    # In the order of the graph, backwards: what stays is the first.
    first_steps = {run_id: step for step, _, run_id in reversed(attempts)}
    failures = {
        run_id: _failures_of(record.instance, run)
        for run_id, run in record.runs.items()
        if run.status is dg.DagsterRunStatus.FAILURE and not record.is_retried(run)
    }
    requested = attempts_by(record.instance, asks_for(TLC_PUBLICATIONS, record.assets)) if failures else {}
    for (step, month, run_id), asset in attempts.items():
        run = record.runs.get(run_id)
        # A run that succeeded had no need to make it: the rows were the same.
        if run is None or run.status is dg.DagsterRunStatus.SUCCESS:
            continue
        # A step that failed fails those after it; where none did, the run ended in the first that made nothing.
        failed = failures.get(run_id, {})
        reasons = failed.get(step) or (failed.get("") if len(failed) == 1 and first_steps[run_id] == step else None)
        requests = requested.get(file_of_run(run)) if asset == record.assets.raw_trips else None
        if reasons is None or (requests and requests.next):
            yield Incident(step, month, is_settled=False)
        else:
            yield Incident(step, month, reasons.get(month, reasons[""]), page=f"runs/{run_id}")


def _open_attempts(record: _Record) -> dict[tuple[str, str, str], dg.AssetKey | None]:
    """The last attempts (step, month, run) that announced an asset, or else a monthly check, and did not make it."""
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
    """Why each step of a run failed, by month where it names some, under "" for others; step "" is the run itself."""
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
            failures[""] = {"": f"{run.job_name}: {event.message or 'Its process ended without saying why.'}"}
    return failures


def _failed_checks(record: _Record) -> Iterator[Incident]:
    for key in sorted(record.graph.asset_check_keys, key=str):
        if key in record.assets.checks_of_all_months or not record.graph.get(key.asset_key).is_partitioned:
            # A warning resolves nothing: a silent host does not mean that the overdue month is loaded.
            for execution in record.history(key, limit=1, status=_EVALUATED):
                if not execution.evaluation.passed:
                    yield _check_incident(execution, "")
        else:
            yield from (_check_incident(execution, month) for month, execution in _failing(record, key).items())


def _failing(record: _Record, key: dg.AssetCheckKey) -> dict[str, Any]:
    """The months for which a check fails, or failed and is under way again, with its last execution for the month."""
    errors = [e for e in record.history(key, status={_Status.FAILED}) if _fails_for(e, "")]
    record.read_runs({execution.run_id for execution in errors})
    failed = {month for e in errors for month in record.months_of(e) if _fails_for(e, month)}
    latest: dict[str, Any] = {}
    cursor = None
    while failed - latest.keys() and (page := record.history(key, cursor=cursor)):
        record.read_runs({execution.run_id for execution in page})
        for execution in page:
            run = record.runs.get(execution.run_id)
            # A run that ended before it came to the check says nothing of it.
            if execution.status is not _Status.PLANNED or (run and not run.is_finished):
                for month in failed & record.months_of(execution):
                    latest.setdefault(month, execution)
        cursor = page[-1].id
    return {m: e for m, e in latest.items() if e.status is _Status.PLANNED or _fails_for(e, m)}


def _fails_for(execution: Any, month: str) -> bool:
    """Whether a check failed at error level, for this month where it names those for which it did."""
    if execution.status is not _Status.FAILED or execution.evaluation.severity is not dg.AssetCheckSeverity.ERROR:
        return False
    months = execution.evaluation.metadata.get("months")
    named = _MONTH.findall(str(months.value)) if months and month else []
    return not named or month in named


def _check_incident(execution: Any, month: str) -> Incident:
    key = execution.key
    what = f"check {key.name} of {key.asset_key.to_user_string()}"
    if not _fails_for(execution, month):
        return Incident(what, month, is_settled=False)
    evaluation = execution.evaluation
    to_do, about = (evaluation.metadata.get(name) for name in ("to do", "months"))
    return Incident(
        what,
        month,
        evaluation.description or f"{what} does not hold.",
        str(to_do.value) if to_do else "Look at the rows that the check shows in the run.",
        f"runs/{execution.run_id}"
        if month
        else f"assets/{'/'.join(key.asset_key.path)}?view=checks&checkDetail={key.name}",
        str(about.value) if about and not month else "",
    )


def _message_of(error: Any) -> str:
    """The first cause that an error of Dagster's has."""
    error = error.cause if error and error.cause else error
    return error.message.strip() if error else "It does not say why."
