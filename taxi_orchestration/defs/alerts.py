"""The alert sensor: compares present incidents with reported ones, and reports the difference.

An incident is reported once, and once more when it is resolved. incidents.py defines incidents, notify.py
sends messages.
"""

import json
from collections.abc import Iterable, Sequence

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.notify import Message, NotifyError, send
from taxi_orchestration.instance.incidents import (
    ALERTS,
    INSTIGATORS,
    Incident,
    current_incidents,
    difference,
    failed_instigators,
    from_key,
)
from taxi_orchestration.months import parse_partition_key, windows_of
from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.settings import Settings
from taxi_orchestration.warehouse.warehouse import open_warehouse

INTERVAL_SECONDS = 30
TEXTS_SHOWN = 5
REASON_LENGTH = 600


def build_alerts() -> dg.SensorDefinition:
    """Build the alert sensor, on by default; it exists only with TAXI_ALERT_URLS."""

    @dg.sensor(
        name=ALERTS,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Reports a finally failed run, a failed check of error level, an overdue month and a failing sensor to the "
            "services of TAXI_ALERT_URLS: once, and once more when it is resolved."
        ),
    )
    def alerts(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> dg.SensorResult:
        instance, known = context.instance, json.loads(context.cursor or "{}")
        # Version 0.1 named the reported incidents `told`.
        reported = set(known.get("reported", known.get("told", [])))
        newest = instance.event_log_storage.get_maximum_record_id()
        if newest == known.get("newest_event"):
            # No new event since the last tick: reading the whole record takes twenty times as long.
            incidents = [from_key(key) for key in reported if not key.startswith(INSTIGATORS)]
        else:
            incidents = current_incidents(instance, context.repository_def, AssetKeys(settings.student))
        # An administrator may serve the code location under another name.
        location = context.code_location_origin
        name = location.location_name if location else settings.location_name
        failed = failed_instigators(instance, context.repository_def, name)
        new, resolved = difference(reported, [*incidents, *failed])
        link = settings.taxi_ui_url
        messages = [(incident_message(some, link, settings.student), {i.key for i in some}) for some in group(new)]
        messages += [
            (resolved_message(some, link, settings.student), {i.key for i in some}) for some in group(resolved)
        ]
        sent: list[str] = []
        secrets = _secrets(settings) if messages else []
        try:
            for message, keys in messages:
                for refusal in send(settings.alert_urls, message, secrets):
                    context.log.warning(refusal)
                sent.append(message.title)
                # The reported incidents, with new ones and without resolved ones.
                reported ^= keys
        except NotifyError as error:
            # Sent messages are not sent again; a tick that sent nothing fails.
            if not sent:
                raise
            context.log.error(str(error))
        # Unsettled incidents may change without an event, and unsent ones are read again.
        is_read = len(sent) == len(messages) and all(incident.is_settled for incident in incidents)
        return dg.SensorResult(
            skip_reason=f"Sent: {'; '.join(sent)}." if sent else "Nothing new.",
            cursor=json.dumps({"reported": sorted(reported), "newest_event": newest if is_read else None}),
        )

    return alerts


def group(incidents: Iterable[Incident]) -> list[list[Incident]]:
    """Group incidents into few messages: one for all months of a step or check, and one for each common cause."""
    by_what: dict[str, list[Incident]] = {}
    for incident in incidents:
        by_what.setdefault(incident.what, []).append(incident)
    groups: dict[tuple[tuple[str, str], ...], list[Incident]] = {}
    for some in by_what.values():
        groups.setdefault(tuple((i.month, i.page) for i in some), []).extend(some)
    return list(groups.values())


def incident_message(incidents: Sequence[Incident], ui_url: str, student: str | None = None) -> Message:
    """Return the message for the new incidents of a group."""
    what, months = _join_subjects(incidents), _format_months(incidents)
    reasons = [r if len(r) <= REASON_LENGTH else f"{r[:REASON_LENGTH]} ..." for r in (i.reason for i in incidents)]
    lines = [
        f"What: {what}",
        f"Months: {months}" if months else "",
        f"Why: {_join_first(reasons, chr(10))}",
        f"To do: {_join_first([i.to_do for i in incidents if i.to_do] or [_advise(incidents)], ' ')}",
        f"See: {_join_first([f'{ui_url}/{i.page}' for i in incidents], ' ')}",
    ]
    return Message(
        f"{_sender(student)}: {what} failed" + (f" for {months}" if months else ""), "\n".join(filter(None, lines))
    )


def resolved_message(incidents: Sequence[Incident], ui_url: str, student: str | None = None) -> Message:
    """Return the message for the resolved incidents of a group."""
    what, months = _join_subjects(incidents), _format_months(incidents)
    subject = f"{what} for {months}" if months else what
    return Message(
        f"{_sender(student)}: resolved: {subject}", f"What: {subject}\nTo do: nothing.\nSee: {ui_url}", is_bad=False
    )


def _sender(student: str | None) -> str:
    """Return the sender of a message, with the student's name where several share a service."""
    return f"taxi of {student}" if student else "taxi"


def _join_subjects(incidents: Sequence[Incident]) -> str:
    return ", ".join(dict.fromkeys(incident.what for incident in incidents))


def _format_months(incidents: Sequence[Incident]) -> str:
    months = sorted({incident.month or incident.about for incident in incidents} - {""})
    return ", ".join(months) if len(months) <= 6 else f"{months[0]} to {months[-1]} ({len(months)} months)"


def _join_first(texts: Sequence[str], between: str) -> str:
    """Return the first few distinct texts, and the number of further ones."""
    different = list(dict.fromkeys(texts))
    more = len(different) - TEXTS_SHOWN
    return between.join(different[:TEXTS_SHOWN] + ([f"and {more} more."] if more > 0 else []))


def _advise(incidents: Sequence[Incident]) -> str:
    """Return how to run a failed step again."""
    windows = windows_of(parse_partition_key(incident.month) for incident in incidents if incident.month)
    if not windows:
        return "Fix the cause above, then materialize it again in the UI."
    # Without the option a backfill skips a completed month: a failed run of checks leaves the month completed.
    commands = [f"taxi backfill {' '.join(w.keys)} --reprocess completed" for w in windows]
    return f"Fix the cause above, then run: {'; '.join(commands)}"


def _secrets(settings: Settings) -> list[str]:
    """Return the passwords that an error text could quote; logins in URLs are recognized by their form."""
    try:
        passwords = [open_warehouse(settings).target.password]
    except ServerError:
        # A failure to start the embedded server must be reported too.
        passwords = []
    if settings.storage and settings.storage.password:
        passwords.append(settings.storage.password)
    return [*passwords, *(url.get_secret_value() for url in settings.alert_urls)]
