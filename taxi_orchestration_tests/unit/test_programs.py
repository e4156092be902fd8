import sys
from pathlib import Path

import pytest

from taxi_orchestration.cli.programs import become, program_command
from taxi_orchestration.settings import SettingsError


def test_a_program_stands_beside_python_whatever_path_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert program_command("dbt", "test") == [str(Path(sys.executable).parent / "dbt"), "test"]


def test_a_program_that_an_incomplete_environment_lacks_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        become([str(tmp_path / "dbt"), "test"], {})
    assert str(raised.value) == (
        f"{tmp_path}/dbt cannot be started: No such file or directory. The environment is incomplete. Remove .venv, "
        "and run the command of make again."
    )
