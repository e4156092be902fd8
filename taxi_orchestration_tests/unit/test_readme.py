"""Every command that the README shows is run by a test, or is made of one that is."""

import ast
import re
import subprocess

import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY

README = (PROJECT_DIRECTORY / "README.md").read_text()
TESTS = PROJECT_DIRECTORY / "taxi_orchestration_tests"

CLI = "integration/test_cli.py"
WHOLE = f"{CLI}::test_a_backfill_from_any_directory_loads_builds_checks_and_tells_and_the_next_one_finishes_it"
SERVER = f"{CLI}::test_the_embedded_server_is_started_asked_and_stopped"
STATUS = "integration/test_status.py::test_status_says_what_to_do_and_backfill_does_it"
MAKE = "unit/test_readme.py::test_make_runs_what_the_readme_says_it_does"

# Each command of the README and the test that runs it, or runs it with other months.
COMMANDS = {
    "make backfill FROM=2024-01 TO=2024-03": MAKE,
    "make dev": MAKE,
    "make report": MAKE,
    "make test": MAKE,
    "make lint": MAKE,
    "make bench": MAKE,
    "make bare-machine": MAKE,
    "make clean": MAKE,
    "make clean-data": MAKE,
    ".venv/bin/taxi backfill 2023-12 2024-04": WHOLE,
    ".venv/bin/taxi backfill 2023-12 2024-04 --dry-run": WHOLE,
    ".venv/bin/taxi backfill 2024-03": WHOLE,
    ".venv/bin/taxi status": STATUS,
    ".venv/bin/taxi status --all": STATUS,
    ".venv/bin/taxi status --json": WHOLE,
    ".venv/bin/taxi psql -- -c 'select pickup_month, trips, total_amount from monthly_summary where is_complete "
    "order by 1 desc limit 5'": WHOLE,
    ".venv/bin/taxi dbt test --select trip_quality": WHOLE,
    ".venv/bin/taxi backfill --missing": STATUS,
    ".venv/bin/taxi backfill --changed": STATUS,
    ".venv/bin/taxi alert-test": "unit/test_notify.py::test_alert_test_sends_one_message_to_everybody",
    ".venv/bin/taxi url": SERVER,
    ".venv/bin/taxi stop": SERVER,
}

MAKES = {
    ("backfill", "FROM=2024-01", "TO=2024-03"): '.venv/bin/taxi backfill "2024-01" "2024-03"',
    ("dev",): ".venv/bin/taxi dev",
    ("dev", "PORT=3001"): ".venv/bin/taxi dev --port 3001",
    ("backfill", "FROM=2024-01"): '.venv/bin/taxi backfill "2024-01"',
    ("report",): ".venv/bin/taxi report",
    ("test",): ".venv/bin/pytest",
    ("lint",): ".venv/bin/ruff check .",
    ("bench",): ".venv/bin/python -m bench",
    ("bare-machine",): "taxi_orchestration_tests/bare_machine.sh",
    ("clean",): ".venv/bin/taxi stop",
    ("clean-data",): ".venv/bin/taxi remove-data",
}


def commands() -> list[str]:
    """The command lines of the README's bash blocks; a line that ends in a backslash goes on in the next one."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def test_the_readme_shows_commands() -> None:
    assert "make backfill FROM=2024-01 TO=2024-03" in commands()


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_is_run_by_a_test(command: str) -> None:
    assert command in COMMANDS, f"add {command!r} to COMMANDS, with the test that runs it"


@pytest.mark.parametrize("test", sorted(set(COMMANDS.values())))
def test_every_test_that_is_said_to_run_a_command_exists(test: str) -> None:
    file, name = test.split("::")
    tree = ast.parse((TESTS / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("arguments", "runs"), MAKES.items(), ids=str)
def test_make_runs_what_the_readme_says_it_does(arguments: tuple[str, ...], runs: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True
    )
    assert runs in done.stdout


def test_make_backfill_without_months_says_which_to_give() -> None:
    # With the environment taken as made, so that only the recipe itself runs.
    made = ["--assume-old=.venv/.installed"]
    done = subprocess.run(["make", *made, "backfill"], cwd=PROJECT_DIRECTORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "make backfill FROM=2024-01 TO=2024-03" in done.stdout


def test_make_clean_keeps_the_data() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "clean"], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True
    )
    assert ".taxi" not in done.stdout


def test_the_readme_names_no_file_that_is_not_there() -> None:
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert [name for name in linked if not (PROJECT_DIRECTORY / name).exists()] == []


def test_every_variable_of_the_readme_is_one_that_the_settings_read() -> None:
    named = set(re.findall(r"`((?:PG|TAXI|TLC|DAGSTER)_[A-Z_]+)`", README))
    example = set(re.findall(r"^#([A-Z_]+)=", (PROJECT_DIRECTORY / ".env.example").read_text(), re.MULTILINE))
    assert named <= example
