"""When the dbt project is parsed again, and when old parse results are deleted."""

import os
from pathlib import Path

import pytest

from taxi_orchestration.dbt import runner
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
