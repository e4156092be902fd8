"""The commands of programs beside Python, the psql of a server, and the errors of programs that cannot be started."""

import os
import sys
from pathlib import Path

import pytest

from taxi_orchestration.cli.class_server import Part
from taxi_orchestration.cli.programs import ProgramError, become, program_command
from taxi_orchestration.postgres.binaries import find_psql


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory in place of the Python environment."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return tmp_path


def test_a_program_is_found_beside_python(environment: Path) -> None:
    assert program_command("dbt", "test") == [f"{environment}/bin/dbt", "test"]


def test_a_program_missing_in_the_environment_is_named_with_what_to_do(environment: Path) -> None:
    with pytest.raises(ProgramError) as raised:
        become(program_command("dbt", "test"), {})
    assert str(raised.value) == (
        f"{environment}/bin/dbt cannot be started: No such file or directory. The environment {environment} is "
        "incomplete. Remove it and install the project again; in a checkout: make clean, and then make backfill."
    )


def test_another_program_that_cannot_be_started_is_named_with_only_the_reason(environment: Path) -> None:
    psql = environment / "psql"
    psql.touch(mode=0o600)
    with pytest.raises(ProgramError) as raised:
        become([str(psql), "--version"], {})
    assert str(raised.value) == f"{psql} cannot be started: Permission denied."


def test_psql_is_the_bundled_one_unless_the_machines_has_the_servers_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "psql"
    installed.write_text("#!/bin/sh\necho 'psql (PostgreSQL) 95.1'\n")
    installed.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_psql(95) == installed
    bundled = find_psql(94)
    assert (bundled.name, bundled.parent.name) == ("psql", "bin")
    assert bundled != installed


def test_a_program_that_ran_for_long_is_restarted_after_the_shortest_pause(tmp_path: Path) -> None:
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    part = Part("The daemon", ["true"], environment, tmp_path / "daemon.log", pause=160)
    for ran, pause in ((200, 300), (400, 5)):
        part.keep()
        assert part.process is not None
        part.process.wait()
        part.started -= ran
        part.keep()
        assert part.pause == pause
    part.wait(0)
