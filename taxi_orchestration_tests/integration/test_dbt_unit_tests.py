"""dbt's unit tests, which a pipeline run excludes."""

import json
import re
import subprocess

from taxi_orchestration.loading import Loader
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.programs import TAXI
from taxi_orchestration_tests.support.tlc_host import TlcHost


def test_every_dbt_unit_test_passes_in_any_window(environment: dict[str, str], loader: Loader, tlc: TlcHost) -> None:
    # The relations must exist: dbt queries the types of their columns from the server.
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    loader.load_zones()
    window = ["--vars", json.dumps({"window_start": "2024-01-01", "window_end": "2024-02-01"})]
    for command in (
        ["build", "--exclude-resource-type", "unit_test"],
        ["test", "--select", "test_type:unit", *window],
        ["build", "--full-refresh"],
        ["docs", "generate"],
    ):
        done = subprocess.run([TAXI, "dbt", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        unit_tests = re.findall(r"PASS (\w+::\w+)", done.stdout)
        assert len(set(unit_tests)) == (0 if {"unit_test", "docs"} & set(command) else 23), done.stdout
