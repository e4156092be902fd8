"""The page of the tests of faults against the tests that there are."""

import re

from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.fault_tests import PAGE, SECTIONS, TESTS, fault_tests_page


def test_the_page_of_tests_of_faults_is_made_from_the_tests_of_today() -> None:
    # Else the first lines of support/fault_tests.py have the command that writes it anew.
    assert PAGE.read_text() == fault_tests_page()


def test_every_file_of_faults_belongs_to_one_class_of_the_page_for_people() -> None:
    named = [test for tests in SECTIONS.values() for test in tests]
    files = {f"faults/{path.name}" for path in (PROJECT_DIRECTORY / TESTS / "faults").glob("test_*.py")}
    assert files - set(named) == {"faults/test_table.py"}
    assert len(named) == len(set(named))
    text = (PROJECT_DIRECTORY / "docs" / "reliability.md").read_text()
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == list(SECTIONS)
