"""Who has to hear of what: a sensor that reads Dagster's records, tells of what is wrong, and again when it is well.

A trouble is told once, however often it comes back, and is over when the same step or check succeeds for that month.
What is tried again without anybody, by Dagster or by the sensor of publications, is told when the last attempt failed:
until then it needs no person.
How a message reaches anybody is in notify.py.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from taxi_orchestration.assets.builds import MONTHLY_TABLES
from taxi_orchestration.assets.dbt import DBT_MODELS
from taxi_orchestration.assets.raw_trips import RAW_TRIPS
from taxi_orchestration.automation.month_watch import WATCHED
from taxi_orchestration.automation.requests import is_tried_again
from taxi_orchestration.automation.sensors import TLC_PUBLICATIONS
from taxi_orchestration.notify import Message, NotifyError, send
from taxi_orchestration.partitions import Window, key_of, month_of, next_month
from taxi_orchestration.settings import Settings
from taxi_orchestration.warehouse.binaries import ServerError
from taxi_orchestration.warehouse.target import warehouse_target

ALERTS = "alerts"

INTERVAL_SECONDS = 30
RUNS_A_TICK = 50
REASONS_SHOWN = 5
REASON_LENGTH = 600

# Dagster's own tags. Whether a failed run is retried is written a moment after its failure.
WILL_RETRY, RETRIED_BY = "dagster/will_retry", "dagster/auto_retry_run_id"
RETRY_IS_DECIDED_WITHIN = timedelta(seconds=30)


@dataclass(frozen=True)
class Trouble:
    """What is wrong (a step, a check, a sensor), for which months, why, what to do, and on which page the UI has it."""

    what: str
    months: Sequence[str]
    why: str
    to_do: str
    page: str = ""

    @property
    def keys(self) -> list[str]:
        """What identifies the trouble while it lasts: one for each month."""
        return [_key(self.what, month) for month in self.months or [""]]


@dataclass
class RunReport:
    """What a finished run tells: troubles, and what succeeded, as keys."""

    troubles: list[Trouble] = field(default_factory=list)
    well: set[str] = field(default_factory=set)


@dataclass
class _Memory:
    """The cursor: the last run event seen, what was told and is not over, and failed runs that may be retried."""

    after: int
    told: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    def dump(self) -> str:
        return json.dumps(vars(self))


def build_alerts() -> dg.SensorDefinition:
    """The sensor, on from the start. Without TAXI_ALERT_URLS there is nobody to tell, and it is not built."""

    @dg.sensor(
        name=ALERTS,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Tells the services of TAXI_ALERT_URLS, once, of a run that has finally failed, a check of error level "
            "that failed, an overdue month and a sensor that fails; and once more when it is well again."
        ),
    )
    def alerts(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> dg.SensorResult:
        instance = context.instance
        memory = _Memory(**json.loads(context.cursor)) if context.cursor else _Memory(_newest_event(instance))
        before = memory.dump()
        sent: list[str] = []
        try:
            for message in _messages(instance, memory, settings.taxi_ui_url):
                for refusal in send(settings.alert_urls, message, _secrets(settings)):
                    context.log.warning(refusal)
                sent.append(message.title)
                before = memory.dump()
        except NotifyError as error:
            # What was sent stays sent; a tick that sent nothing is one that failed.
            if not sent:
                raise
            context.log.error(str(error))
            memory = _Memory(**json.loads(before))
        return dg.SensorResult(
            skip_reason=f"Sent: {'; '.join(sent)}." if sent else "Nothing new.", cursor=memory.dump()
        )

    return alerts


def run_report(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunReport:
    """What a finished run tells, from its own record."""
    report = RunReport()
    months = _months_of(run)
    names = {
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.STEP_SUCCESS,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    }
    for entry in instance.all_logs(run.run_id, of_type=names):
        event = entry.get_dagster_event()
        step = str(event.step_key)
        match event.event_type:
            case dg.DagsterEventType.STEP_FAILURE:
                trouble = _failed_step(step, months, event.step_failure_data)
                report.troubles.append(trouble)
                report.well |= {_key(step, m) for m in months if m not in trouble.months}
            case dg.DagsterEventType.STEP_SUCCESS if _is_whole(run, step):
                report.well |= {_key(step, m) for m in months or [""]}
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                evaluation = event.asset_check_evaluation_data
                if evaluation.asset_check_key not in WATCHED:
                    _add_check(report, evaluation, months)
    whole_run = "a run"
    if run.status is dg.DagsterRunStatus.SUCCESS:
        report.well |= {_key(whole_run, m) for m in months or [""]}
    elif not report.troubles:
        why = f"{run.job_name}: {_why_it_ended(instance, run)}"
        report.troubles.append(Trouble(whole_run, months, why, _again(months)))
    return report


def run_message(run: dg.DagsterRun, troubles: Sequence[Trouble], ui_url: str) -> Message:
    """One message for all that went wrong in a run."""
    what = ", ".join(dict.fromkeys(trouble.what for trouble in troubles))
    months = sorted({month for trouble in troubles for month in trouble.months})
    reasons = list(dict.fromkeys(trouble.why for trouble in troubles))
    to_do = " ".join(dict.fromkeys(trouble.to_do for trouble in troubles))
    return _bad(what, months, reasons, to_do, _link(ui_url, run))


def _messages(instance: dg.DagsterInstance, memory: _Memory, ui_url: str) -> Iterator[Message]:
    """What there is to tell. Each message comes with the memory in which it has been told."""
    for run in _finished_runs(instance, memory):
        if run.status is dg.DagsterRunStatus.FAILURE and is_tried_again(instance, run, TLC_PUBLICATIONS):
            continue
        report = run_report(instance, run)
        news = [trouble for trouble in report.troubles if not set(trouble.keys) <= set(memory.told)]
        bad = {key for trouble in report.troubles for key in trouble.keys}
        over = [key for key in memory.told if key in report.well - bad]
        memory.told = sorted({*memory.told, *bad})
        if news:
            yield run_message(run, news, ui_url)
        memory.told = [key for key in memory.told if key not in over]
        if over:
            yield _well_again(over, "It succeeded.", _link(ui_url, run))
    for trouble, is_wrong in [*_watched(instance), *_instigators(instance)]:
        # One trouble, whatever months it is of today.
        key, link = _key(trouble.what, ""), f"{ui_url}/{trouble.page}"
        if is_wrong and key not in memory.told:
            memory.told = [*memory.told, key]
            yield _bad(trouble.what, trouble.months, [trouble.why], trouble.to_do, link)
        elif not is_wrong and key in memory.told:
            memory.told = [told for told in memory.told if told != key]
            yield _well_again([key], trouble.why, link)


def _finished_runs(instance: dg.DagsterInstance, memory: _Memory) -> Iterator[dg.DagsterRun]:
    """The runs that ended since the last look, in order; of the failed ones those that nobody retries."""
    undecided, memory.undecided = memory.undecided, []
    for run_id in undecided:
        run = instance.get_run_by_id(run_id)
        if run and RETRIED_BY not in run.tags:
            if run.tags.get(WILL_RETRY) == "true":
                memory.undecided.append(run_id)
            else:
                yield run
    events: list[dg.EventLogRecord] = []
    for kind in (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE):
        since = dg.RunStatusChangeRecordsFilter(event_type=kind, after_storage_id=memory.after)
        events += instance.fetch_run_status_changes(since, limit=RUNS_A_TICK, ascending=True).records
    for event in sorted(events, key=lambda record: record.storage_id)[:RUNS_A_TICK]:
        run = instance.get_run_by_id(event.run_id)
        if run and event.event_type is dg.DagsterEventType.RUN_FAILURE:
            age = timedelta(seconds=datetime.now().timestamp() - event.timestamp)
            if instance.run_retries_enabled and WILL_RETRY not in run.tags and age < RETRY_IS_DECIDED_WITHIN:
                return
            if run.tags.get(WILL_RETRY) == "true":
                memory.undecided += [] if RETRIED_BY in run.tags else [run.run_id]
                run = None
        memory.after = event.storage_id
        if run:
            yield run


def _newest_event(instance: dg.DagsterInstance) -> int:
    """Where a sensor that was just turned on begins: nobody wants to hear of all that ever failed."""
    ids = [-1]
    for kind in (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE):
        ids += [record.storage_id for record in instance.fetch_run_status_changes(kind, limit=1).records]
    return max(ids)


def _failed_step(step: str, months: Sequence[str], failure: Any) -> Trouble:
    """A failed step: under the months that it names as failed, else under all of the run."""
    told = failure.user_failure_data
    named = {key: str(value.value) for key, value in told.metadata.items() if key in months} if told else {}
    if named:
        return Trouble(step, sorted(named), "\n".join(named[month] for month in sorted(named)), _again(sorted(named)))
    why = (told.description if told else None) or _message_of(failure)
    return Trouble(step, months, why, _again(months))


def _is_whole(run: dg.DagsterRun, step: str) -> bool:
    """Whether a run asked for what makes the step well: one dim_zones built says nothing of a mart that failed."""
    needed = {RAW_TRIPS.to_user_string(): {RAW_TRIPS}, DBT_MODELS: set(MONTHLY_TABLES)}.get(step, set())
    return not run.asset_selection or needed <= run.asset_selection


def _message_of(failure: Any) -> str:
    error = failure.error.cause if failure.error and failure.error.cause else failure.error
    return error.message.strip() if error else "It does not say why."


def _add_check(report: RunReport, evaluation: dg.AssetCheckEvaluation, months_of_run: Sequence[str]) -> None:
    what = f"check {evaluation.check_name} of {evaluation.asset_key.to_user_string()}"
    named = evaluation.metadata.get("months")
    months = [evaluation.partition] if evaluation.partition else list(months_of_run)
    if evaluation.passed or evaluation.severity is not dg.AssetCheckSeverity.ERROR:
        report.well |= {_key(what, month) for month in months or [""]}
        return
    failing = [month for month in months if named and month in str(named.value)] or months
    report.well |= {_key(what, month) for month in months if month not in failing}
    to_do = evaluation.metadata.get("to do")
    report.troubles.append(
        Trouble(
            what,
            failing,
            evaluation.description or f"{what} does not hold.",
            str(to_do.value) if to_do else "Look at the rows that the check shows in the run.",
        )
    )


def _watched(instance: dg.DagsterInstance) -> Iterator[tuple[Trouble, bool]]:
    """The checks of all months, each with whether it fails; not those that only warn, or that nobody has made yet."""
    for key in WATCHED:
        record = instance.get_latest_asset_check_evaluation_record(key)
        evaluation = record.evaluation if record else None
        # A run that has only announced the check says nothing of it.
        if isinstance(evaluation, dg.AssetCheckEvaluation):
            is_wrong = not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
            if is_wrong or evaluation.passed:
                to_do, months = (evaluation.metadata.get(name) for name in ("to do", "months"))
                what = f"check {key.name} of {key.asset_key.to_user_string()}"
                page = f"assets/{'/'.join(key.asset_key.path)}?view=checks&checkDetail={key.name}"
                trouble = Trouble(
                    what,
                    [str(months.value)] if months else [],
                    evaluation.description or "",
                    str(to_do.value) if to_do else "",
                    page,
                )
                yield trouble, is_wrong


def _instigators(instance: dg.DagsterInstance) -> Iterator[tuple[Trouble, bool]]:
    """Every sensor and schedule that is on, each with whether its last tick failed."""
    for state in instance.all_instigator_state():
        if state.status.name == "STOPPED" or state.instigator_name == ALERTS:
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
        tick = next((tick for tick in ticks if tick.status.name in ("FAILURE", "SUCCESS", "SKIPPED")), None)
        if tick:
            is_wrong = tick.status.name == "FAILURE"
            error = tick.error.cause if tick.error and tick.error.cause else tick.error
            why = error.message.strip() if is_wrong and error else "Its last tick went well."
            kind = state.instigator_type.value.lower()
            to_do = "Look at the ticks under Automation in the UI; it is tried again by itself."
            yield Trouble(f"{kind} {state.instigator_name}", [], why, to_do, "automation"), is_wrong


def _bad(what: str, months: Sequence[str], reasons: Sequence[str], to_do: str, link: str) -> Message:
    title = f"taxi: {what} failed" + (f" for {_listed(months)}" if months else "")
    shown = [reason if len(reason) <= REASON_LENGTH else f"{reason[:REASON_LENGTH]} ..." for reason in reasons]
    if len(shown) > REASONS_SHOWN:
        shown = [*shown[:REASONS_SHOWN], f"and {len(reasons) - REASONS_SHOWN} more: see the run."]
    lines = [
        f"What: {what}",
        f"Months: {_listed(months)}" if months else "",
        f"Why: {shown[0] if shown else 'unknown'}",
    ]
    return Message(title, "\n".join(filter(None, [*lines, *shown[1:], f"To do: {to_do}", f"See: {link}"])))


def _well_again(keys: Sequence[str], says: str, link: str) -> Message:
    """The end of troubles, grouped by what they were of."""
    months: dict[str, list[str]] = {}
    for what, month in (key.split("|") for key in keys):
        months.setdefault(what, []).append(month)
    words = [f"{what} for {_listed(m)}" if any(m) else what for what, m in months.items()]
    body = f"What: {', '.join(words)}\nNow: {says}\nTo do: nothing.\nSee: {link}"
    return Message(f"taxi: well again: {', '.join(words)}", body, is_bad=False)


def _months_of(run: dg.DagsterRun) -> list[str]:
    first = run.tags.get("dagster/asset_partition_range_start")
    last = run.tags.get("dagster/asset_partition_range_end")
    if first and last:
        return [key_of(month) for month in Window(month_of(first), next_month(month_of(last))).months]
    return [run.tags["dagster/partition"]] if "dagster/partition" in run.tags else []


def _why_it_ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """What the record says of a run that ended without a step that failed: its process was killed, or never began."""
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return (entries[-1].get_dagster_event().message if entries else None) or "Its process ended without saying why."


def _again(months: Sequence[str]) -> str:
    """How to do it again once the reason is gone."""
    if not months:
        return "Mend what is said above, then start the run again in the UI."
    return f"Mend what is said above, then: taxi backfill {min(months)} {max(months)}"


def _listed(months: Sequence[str]) -> str:
    return ", ".join(months) if len(months) <= 6 else f"{min(months)} to {max(months)} ({len(months)} months)"


def _link(ui_url: str, run: dg.DagsterRun) -> str:
    return f"{ui_url}/runs/{run.run_id}"


def _key(what: str, month: str) -> str:
    return f"{what}|{month}"


def _secrets(settings: Settings) -> list[str]:
    """The passwords that an error text could quote; logins in URLs are found by their form."""
    try:
        passwords = [warehouse_target(settings).password]
    except ServerError:
        # An embedded server that cannot be started is no reason to keep silent about it.
        passwords = []
    return [*passwords, *(url.get_secret_value() for url in settings.alert_urls)]
