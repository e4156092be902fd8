"""deploy/celery for real: 36 months by workers on three hosts, one of which is killed in the middle."""

from pathlib import Path

import pytest

from taxi_orchestration.months import parse_partition_key, partition_key
from taxi_orchestration_tests.support.celery_hosts import NETWORK, running_hosts
from taxi_orchestration_tests.support.docker_engine import build, docker, require_engine
from taxi_orchestration_tests.support.waiting import until

MONTHS = [parse_partition_key(f"{year}-{month:02}") for year in (2021, 2022, 2023) for month in range(1, 13)]
ROWS = 20_000
# So that the run of the killed host is given up after three minutes, in place of a quarter of an hour.
IMPATIENT = {"run_monitoring": {"max_runtime_seconds": 180}}


@pytest.mark.timeout(1800)
def test_a_backfill_ends_exact_though_a_host_is_killed_in_its_middle(tmp_path: Path) -> None:
    base = require_engine()
    build(base)
    with running_hosts(base, tmp_path, MONTHS, ROWS, workers=3, config=IMPATIENT) as hosts:
        backfill = hosts.begin_backfill()

        def running() -> list[str]:
            return [run["runId"] for run in hosts.backfill(backfill)["runs"] if run["status"] == "STARTED"]

        # Each worker takes one run at a time.
        until(lambda: len(running()) == 3, 240, pause=0.5)
        docker("kill", f"{NETWORK}-host2")
        ended = hosts.wait_for(backfill, 1200)
        failed = [run for run in ended["runs"] if run["status"] == "FAILURE"]
        assert len(failed) == 1, f"the run of the host that was killed, and no other: {failed}"
        retried = [run for run in ended["runs"] if any(tag["key"] == "dagster/retry_number" for tag in run["tags"])]
        assert [run["status"] for run in retried] == ["SUCCESS"]
        assert ended["status"] == "COMPLETED_SUCCESS", ended
        assert hosts.rows() == {partition_key(month): ("completed", ROWS) for month in MONTHS}
