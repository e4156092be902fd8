"""When the dbt project is parsed again, when old parse results are deleted, and which errors of dbt are transient."""

import os
from pathlib import Path

import pytest

from taxi_orchestration.dbt import runner
from taxi_orchestration.dbt.runner import DbtError, DbtOutcome
from taxi_orchestration.settings import Settings


def test_the_project_is_parsed_once_for_each_version_of_dbt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Path] = []

    def parse(settings: Settings, artifacts: Path) -> None:
        artifacts.mkdir()
        (artifacts / "manifest.json").write_text("{}")
        parsed.append(artifacts)

    monkeypatch.setattr(runner, "_parse", parse)
    settings = Settings(taxi_home=tmp_path)
    assert runner.prepared_project(settings) == runner.prepared_project(settings)
    assert len(parsed) == 1
    monkeypatch.setattr(runner, "version", lambda package: "99.0")
    newer = runner.prepared_project(settings)
    assert parsed[1:] == [newer]
    # A run in progress may still read the old result, so it is kept for a week.
    assert parsed[0].exists()
    os.utime(parsed[0], (0, 0))
    monkeypatch.setattr(runner, "version", lambda package: "99.1")
    runner.prepared_project(settings)
    assert [path.exists() for path in parsed] == [False, True, True]


@pytest.mark.parametrize(
    ("message", "can_pass"),
    [
        ('connection to server at "127.0.0.1", port 1 failed: Connection refused', True),
        ("terminating connection due to administrator command", True),
        ("terminating connection due to transaction timeout", False),
        ("deadlock detected", True),
        ("division by zero", False),
    ],
)
def test_a_lost_connection_or_a_deadlock_in_dbt_is_transient_and_a_timeout_is_not(message: str, can_pass: bool) -> None:
    assert DbtOutcome([], [], DbtError(message)).is_transient is can_pass
