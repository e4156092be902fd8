"""The generated page of the fault tests, compared with the tests."""

import re

from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.fault_tests import PAGE, SECTIONS, TESTS, fault_tests_page


def test_the_page_that_lists_the_fault_tests_is_up_to_date() -> None:
    # If this fails, run the command in the docstring of support/fault_tests.py.
    assert PAGE.read_text() == fault_tests_page()


def test_every_module_of_fault_tests_has_one_section_of_the_reliability_page() -> None:
    named = [test for tests in SECTIONS.values() for test in tests]
    files = {f"faults/{path.name}" for path in (PROJECT_DIRECTORY / TESTS / "faults").glob("test_*.py")}
    assert files - set(named) == {"faults/test_fault_list.py"}
    assert len(named) == len(set(named))
    text = (PROJECT_DIRECTORY / "docs" / "reliability.md").read_text()
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == list(SECTIONS)
