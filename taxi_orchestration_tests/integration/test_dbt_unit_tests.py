"""dbt's own unit tests, which a pipeline run leaves out."""

import subprocess
import sys
from pathlib import Path

from taxi_orchestration.loading import Loader
from taxi_orchestration_tests.conftest import JANUARY
from taxi_orchestration_tests.tlc_host import TlcHost


def test_every_unit_test_of_dbts_passes(environment: dict[str, str], loader: Loader, tlc: TlcHost) -> None:
    # The relations have to be there: dbt asks the server for the types of their columns.
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    loader.load_zones()
    taxi = Path(sys.executable).with_name("taxi")
    build = [taxi, "dbt", "build", "--exclude-resource-type", "unit_test"]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout
    test = [taxi, "dbt", "test", "--select", "test_type:unit"]
    tested = subprocess.run(test, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout
    assert " PASS=8 " in tested.stdout
