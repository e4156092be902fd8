"""deploy/celery in containers: 36 months by workers on three hosts, one of which is killed during the backfill."""

from pathlib import Path

import pytest

from taxi_orchestration.months import parse_partition_key, partition_key
from taxi_orchestration_tests.support.celery_hosts import NETWORK, running_hosts
from taxi_orchestration_tests.support.docker_engine import build, docker, require_engine
from taxi_orchestration_tests.support.waiting import until

MONTHS = [parse_partition_key(f"{year}-{month:02}") for year in (2021, 2022, 2023) for month in range(1, 13)]
ROWS = 20_000
# Run monitoring fails the run of the killed host after 3 minutes instead of 15.
SHORT_TIMEOUT = {"run_monitoring": {"max_runtime_seconds": 180}}


@pytest.mark.timeout(1800)
def test_a_backfill_is_exact_even_if_a_host_is_killed_while_it_runs(tmp_path: Path) -> None:
    base = require_engine()
    build(base)
    with running_hosts(base, tmp_path, MONTHS, ROWS, workers=3, config=SHORT_TIMEOUT) as hosts:
        backfill = hosts.launch_backfill()

        def list_started_runs() -> list[str]:
            return [run["runId"] for run in hosts.ui.backfill(backfill)["runs"] if run["status"] == "STARTED"]

        # Each worker takes one run at a time.
        until(lambda: len(list_started_runs()) == 3, 240, pause=0.5)
        docker("kill", f"{NETWORK}-host2")
        ended = hosts.ui.ended_backfill(backfill, 1200)
        failed = [run for run in ended["runs"] if run["status"] == "FAILURE"]
        assert len(failed) == 1, f"only the run of the killed host may fail: {failed}"
        retried = [run for run in ended["runs"] if any(tag["key"] == "dagster/retry_number" for tag in run["tags"])]
        assert [run["status"] for run in retried] == ["SUCCESS"]
        assert ended["status"] == "COMPLETED_SUCCESS", ended
        assert hosts.read_month_states() == {partition_key(month): ("completed", ROWS) for month in MONTHS}
