"""The examples of docs/connect.md, run unchanged on a loaded project, if this machine has their requirements."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dagster import DagsterInstance, Definitions

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.settings import PROJECT_DIRECTORY, Settings
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.programs import TAXI
from taxi_orchestration_tests.support.tlc_host import TlcHost

PAGE = (PROJECT_DIRECTORY / "docs" / "connect.md").read_text()
BLOCKS = re.findall(r"^```(bash|python|r)\b[^\n]*\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# DuckDB downloads its PostgreSQL extension from its own host.
NEEDS_NETWORK = {"duckdb"}


def list_runnable_examples() -> list[str]:
    """Return the Python programs and shell commands of the page whose requirements this machine has."""
    programs = []
    for language, text in BLOCKS:
        if language == "python":
            needed = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
            if not needed & NEEDS_NETWORK and all(importlib.util.find_spec(name) for name in needed):
                programs.append(text)
        elif language == "bash":
            # `taxi psql` without a query waits for input.
            lines = [line for line in text.splitlines() if line != ".venv/bin/taxi psql"]
            programs += [line for line in lines if not line.startswith("psql ") or shutil.which("psql")]
    return programs


def test_the_programs_of_the_page_read_the_loaded_months(
    tlc: TlcHost, settings: Settings, instance: DagsterInstance, definitions: Definitions, tmp_path: Path
) -> None:
    tlc.publish(JANUARY, rows=200)
    Backfill(definitions, instance, months_at_once=1).run([JANUARY])
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "taxi").symlink_to(TAXI)
    found = list_runnable_examples()
    assert len(found) >= 4
    for text in found:
        command = [sys.executable, "-c", text] if "import" in text else ["bash", "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), text
        if text.startswith(".venv/bin/taxi url"):
            assert "taxi_reader" in done.stdout
            assert settings.schema_name in done.stdout
        else:
            assert "2024-01" in done.stdout or "200" in done.stdout, done.stdout


@pytest.mark.parametrize(
    "name", ["psql", "DBeaver", "Metabase", "Superset", "Power BI", "pandas", "polars", "DuckDB", "R"]
)
def test_the_page_has_a_section_for_each_program(name: str) -> None:
    assert f"\n## {name}\n" in PAGE
