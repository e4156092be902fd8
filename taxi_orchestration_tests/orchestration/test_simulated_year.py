"""A year in which nobody looks: at its end every month is exact, and was loaded as often as it changed."""

from collections import Counter

import dagster as dg
import pytest

from taxi_orchestration.assets.raw_trips import RAW_TRIPS
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.partitions import Window, key_of, next_month
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.status import month_statuses
from taxi_orchestration_tests.daemon import Daemon, clock_at
from taxi_orchestration_tests.tlc_host import TlcHost
from taxi_orchestration_tests.year import BAD_DAY, BROKEN, LOADED_BEFORE, MONTHS, RESAVED, WITHDRAWN, Year


@pytest.mark.timeout(600)
def test_after_a_year_every_month_is_exact_and_was_loaded_as_often_as_it_changed(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: dg.DagsterInstance
) -> None:
    # Nothing older than half a year is re-issued in this one.
    settings = settings.model_copy(update={"taxi_reissue_months": 8})
    clock = clock_at(2024, 3, 1)
    daemon = Daemon(build_definitions(settings, clock=clock), instance, clock)
    assert daemon.evaluate() == set()
    year = Year(daemon, tlc)
    year.play()

    statuses = month_statuses(target, settings.schema_name, instance, Window(LOADED_BEFORE[0], next_month(MONTHS[-1])))
    for month, status in statuses.items():
        assert (status.state, status.raw_rows, status.is_exact) == ("completed", year.rows[month], True), month

    loads = instance.fetch_materializations(RAW_TRIPS, limit=1000).records
    assert Counter(record.partition_key for record in loads) == {key_of(m): n for m, n in year.issues.items()}
    # The broken file was downloaded five times and no more.
    downloads = {month: tlc.requests_for(month) for month in year.issues}
    assert downloads == {month: n + 5 * (month == BROKEN) for month, n in year.issues.items()}
    assert [key for _, key in year.failed_runs] == [key_of(BROKEN)] * 5
    assert len({day for day, _ in year.failed_runs}) == 5

    assert year.resaved_run is not None
    assert {e.step_key for e in year.resaved_run.all_events if e.is_step_skipped} >= {"dbt_models"}
    assert "503" in year.said[BAD_DAY]
    assert any(f"{key_of(WITHDRAWN)} was withdrawn by the TLC" in said for said in year.said.values())
    assert RESAVED in statuses
