"""The core paths on a default Dagster instance: default storage, run launcher and step logs, no concurrency limits."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from dagster import DefaultRunLauncher

from taxi_orchestration.cli.commands import main
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.months import Window
from taxi_orchestration.settings import load_settings
from taxi_orchestration.warehouse.warehouse import open_warehouse
from taxi_orchestration_tests.support.daemon import Daemon, clock_at
from taxi_orchestration_tests.support.keys import RAW_TRIPS
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost


def test_months_checks_sensor_and_status_work_on_a_stock_instance(
    environment: dict[str, str],
    tlc: TlcHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = {month: tlc.publish(month, rows=300, seed=month.month) for month in (JANUARY, FEBRUARY)}
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").touch()
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    settings = load_settings()
    with open_instance() as instance:
        assert type(instance.run_launcher) is DefaultRunLauncher
        clock = clock_at(2024, 5, 20)
        daemon = Daemon(build_definitions(settings, clock=clock), instance, clock)
        for key in ("2024-01", "2024-02"):
            assert daemon.execute(key).success

        for month, status in month_statuses(open_warehouse(settings), instance, Window(JANUARY, MARCH)).items():
            assert status.state == "completed"
            assert status.raw_rows == published[month].rows == status.fact_rows + status.rejected_rows
            assert status.checks.total > 10
            assert not status.checks.failed

        # A re-issued month is requested; a month that is loaded and built is not.
        tlc.publish(FEBRUARY, rows=400, seed=9)
        (request,) = daemon.tick().requests
        assert request.partition_key == "2024-02"
        assert daemon.evaluate() == set()

        # A damaged file fails its own run; the loaded rows of the month stay.
        tlc.publish_bytes(JANUARY, b"<html>Sign in</html>")
        assert not daemon.execute("2024-01", [RAW_TRIPS]).success

    shown = CliRunner().invoke(main, ["status", "--json"])
    rows = {row["month"]: row for row in json.loads(shown.stdout)}
    assert rows["2024-01"]["to_do"] == "failed: taxi backfill 2024-01", shown.stderr
    assert rows["2024-02"]["to_do"] == "re-issued: taxi backfill --changed"
