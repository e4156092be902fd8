"""A simulated year without action of a user: the state of every month at its end, and the alerts during the year."""

from collections import Counter
from datetime import date, timedelta

import dagster as dg
import pytest
from pytest_httpserver import HTTPServer

from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.months import Window, next_month, partition_key
from taxi_orchestration.settings import PostgresTarget, load_settings
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.daemon import Daemon, Tick, clock_at
from taxi_orchestration_tests.support.keys import RAW_TRIPS, TLC_FILES
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.year import BAD_DAY, BROKEN, LOADED_BEFORE, MONTHS, RESAVED, WITHDRAWN, Year

OVERDUE = f"check newest_month_is_loaded of {TLC_FILES.to_user_string()}"


@pytest.mark.timeout(600)
def test_after_a_simulated_year_every_month_is_exact_and_every_alert_was_needed(
    tlc: TlcHost,
    environment: dict[str, str],
    target: PostgresTarget,
    instance: dg.DagsterInstance,
    httpserver: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    httpserver.expect_request("/alerts").respond_with_data("")
    monkeypatch.setenv("TAXI_ALERT_URLS", f"json://{httpserver.host}:{httpserver.port}/alerts")
    # No month older than half a year is re-issued in this simulation.
    monkeypatch.setenv("TAXI_REISSUE_MONTHS", "8")
    settings = load_settings()
    clock = clock_at(2024, 3, 1)
    daemon = Daemon(build_definitions(settings, clock=clock), instance, clock)
    assert daemon.evaluate() == set()
    reported: list[tuple[date, str]] = []

    def after_day(day: date, tick: Tick) -> None:
        reported.extend((day, request.get_json()["title"]) for request, _ in httpserver.log[len(reported) :])

    year = Year(daemon, tlc, after_day)
    year.simulate()

    statuses = month_statuses(
        Warehouse(target, settings.schema_name), instance, Window(LOADED_BEFORE[0], next_month(MONTHS[-1]))
    )
    for month, status in statuses.items():
        assert (status.state, status.raw_rows, status.is_exact) == ("completed", year.rows[month], True), month

    loads = instance.fetch_materializations(RAW_TRIPS, limit=1000).records
    assert Counter(record.partition_key for record in loads) == {partition_key(m): n for m, n in year.issues.items()}
    # The broken file was downloaded exactly five times.
    downloads = {month: tlc.requests_for(month) for month in year.issues}
    assert downloads == {month: n + 5 * (month == BROKEN) for month, n in year.issues.items()}
    assert [key for _, key in year.failed_runs] == [partition_key(BROKEN)] * 5

    # Only an overdue month and the last attempt with a broken file need a user. A host that fails for one day causes no
    # alert.
    first_failure, *_, last_failure = (day for day, _ in year.failed_runs)
    repaired = first_failure + timedelta(days=7)
    assert reported == [
        (first_failure + timedelta(days=4), f"taxi: {OVERDUE} failed for 2024-05"),
        (last_failure, "taxi: raw_trips failed for 2024-05"),
        (repaired, f"taxi: resolved: {OVERDUE}"),
        (repaired, "taxi: resolved: raw_trips for 2024-05"),
    ]
    assert last_failure == first_failure + timedelta(days=6)

    assert year.resaved_run is not None
    assert {e.step_key for e in year.resaved_run.all_events if e.is_step_skipped} >= {"dbt_models"}
    assert "503" in year.skip_reasons[BAD_DAY]
    assert any(f"{partition_key(WITHDRAWN)} is no longer published" in reason for reason in year.skip_reasons.values())
    assert RESAVED in statuses
