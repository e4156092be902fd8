"""New and resolved incidents, computed from current and reported ones, without Dagster."""

from taxi_orchestration.defs.alerts import group, incident_message, resolved_message
from taxi_orchestration.instance.incidents import Incident, difference

JANUARY = Incident("raw_trips", "2024-01", "no answer", page="runs/1")
FEBRUARY = Incident("raw_trips", "2024-02", "no answer", page="runs/1")
FACTS = Incident("dbt_models", "2024-01", "no answer", page="runs/1")
RETRIED = Incident("raw_trips", "2024-01", is_settled=False)
UI = "http://ui"


def test_an_incident_is_new_once_and_resolved_once() -> None:
    assert difference([], [JANUARY]) == ([JANUARY], [])
    assert difference([JANUARY.key], [JANUARY]) == ([], [])
    assert difference([JANUARY.key], []) == ([], [Incident("raw_trips", "2024-01")])
    assert difference([], []) == ([], [])


def test_the_same_step_of_another_month_is_another_incident() -> None:
    assert difference([JANUARY.key], [JANUARY, FEBRUARY]) == ([FEBRUARY], [])
    assert difference([JANUARY.key], [FEBRUARY]) == ([FEBRUARY], [Incident("raw_trips", "2024-01")])


def test_an_incident_with_another_reason_is_the_same_one() -> None:
    other = Incident("raw_trips", "2024-01", "the file is broken", page="runs/2")
    assert difference([JANUARY.key], [other]) == ([], [])
    assert difference([], [JANUARY, other]) == ([other], [])


def test_a_failure_that_may_still_be_retried_is_neither_new_nor_resolved() -> None:
    assert difference([], [RETRIED]) == ([], [])
    assert difference([JANUARY.key], [RETRIED]) == ([], [])
    assert difference([], [RETRIED, JANUARY]) == ([JANUARY], [])


def test_months_of_one_step_and_steps_of_one_run_are_one_message() -> None:
    assert group([JANUARY, FEBRUARY]) == [[JANUARY, FEBRUARY]]
    assert group([JANUARY, FACTS]) == [[JANUARY, FACTS]]
    assert group([JANUARY, FACTS, FEBRUARY]) == [[JANUARY, FEBRUARY], [FACTS]]


def test_a_message_names_months_reason_command_and_page_once() -> None:
    message = incident_message([JANUARY, FEBRUARY], UI)
    assert message.title == "taxi: raw_trips failed for 2024-01, 2024-02"
    assert message.body.splitlines() == [
        "What: raw_trips",
        "Months: 2024-01, 2024-02",
        "Why: no answer",
        "To do: Fix the cause above, then run: taxi backfill 2024-01 2024-02 --reprocess completed",
        "See: http://ui/runs/1",
    ]


def test_the_command_of_a_message_names_no_month_between_those_that_failed() -> None:
    october = Incident("dbt_models", "2023-10", "no answer")
    body = incident_message([october, FACTS], UI).body
    assert "taxi backfill 2023-10 2023-10 --reprocess completed; taxi backfill 2024-01 2024-01 --reprocess" in body


def test_a_message_of_many_months_stays_short() -> None:
    many = [Incident("raw_trips", f"2024-{n:02}", f"reason {n} " + "x" * 5000, page=f"runs/{n}") for n in range(1, 10)]
    message = incident_message(many, UI)
    assert message.title == "taxi: raw_trips failed for 2024-01 to 2024-09 (9 months)"
    assert len(message.body) < 4000
    assert "and 4 more." in message.body


def test_a_message_says_what_is_resolved() -> None:
    _, resolved = difference([JANUARY.key, FEBRUARY.key, "sensor x|"], [])
    messages = [resolved_message(incidents, UI) for incidents in group(resolved)]
    assert [m.title for m in messages] == ["taxi: resolved: raw_trips for 2024-01, 2024-02", "taxi: resolved: sensor x"]
    assert not any(message.is_bad for message in messages)
