"""The table of docs/reliability.md against the tests that there are."""

import re
import subprocess
import sys

from taxi_orchestration.settings import PROJECT_DIRECTORY

TESTS = "taxi_orchestration_tests"
ROW = re.compile(r"^\| (?P<fault>[^|]+) \| (?P<what>[^|]+) \| `(?P<test>[^`]+)` \|$", re.MULTILINE)


def test_each_row_of_the_table_of_faults_names_a_test_and_each_test_has_a_row() -> None:
    text = (PROJECT_DIRECTORY / "docs" / "reliability.md").read_text()
    rows = [match.groupdict() for match in ROW.finditer(text)]
    named = [row["test"] if "/test_" in row["test"].partition("::")[0] else f"faults/{row['test']}" for row in rows]
    others = {test.partition("::")[0] for test in named if not test.startswith("faults/")}
    files = [f"{TESTS}/faults", *(f"{TESTS}/{file}" for file in sorted(others))]
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:xdist", *files],
        cwd=PROJECT_DIRECTORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    there = {line.removeprefix(f"{TESTS}/") for line in collected.splitlines() if "::" in line}
    assert sorted(set(named) - there) == []
    assert sorted(test for test in there - set(named) if test.startswith("faults/") and "/test_table" not in test) == []
    assert len(named) == len(set(named))
    assert len({row["fault"] for row in rows}) == len(rows) >= 80
