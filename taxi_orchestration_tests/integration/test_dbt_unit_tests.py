"""dbt's unit tests, which a pipeline run excludes."""

import json

from taxi_orchestration.dbt.runner import invoke_dbt, prepared_project
from taxi_orchestration.loading import Loader
from taxi_orchestration.settings import Settings
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.tlc_host import TlcHost


def test_every_dbt_unit_test_passes_in_any_window(settings: Settings, loader: Loader, tlc: TlcHost) -> None:
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    loader.load_zones()
    window = json.dumps({"window_start": "2024-01-01", "window_end": "2024-02-01"})
    artifacts = prepared_project(settings)
    # The build comes first: dbt queries the types of the relations' columns from the server.
    for command, number in (
        (["build", "--full-refresh"], 24),
        (["test", "--select", "test_type:unit", "--vars", window], 24),
        (["docs", "generate"], 0),
    ):
        outcome = invoke_dbt(["--quiet", *command], loader.warehouse, artifacts)
        assert outcome.error is None
        passed = [r for r in outcome.results if r.node.resource_type == "unit_test" and r.status == "pass"]
        assert len(passed) == number, command
